//! The report in a real browser: `tests/browser/check.mjs` drives a headless Chromium through the page of a made-up study
//! on a desk, a phone, in dark mode and on paper. Needs Chromium and Node; without them this test says loudly that it skips.
//! Screenshots stay in target/tmp/browser, to be looked at.

mod made_up;

use std::path::{Path, PathBuf};
use std::process::Command;
use stockpot::report::Report;

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file())
}

/// Checks the page of `report`; false where there is no browser.
fn passes(report: &Report, name: &str) -> bool {
    let browser = on_path(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
    let (Some(browser), Some(node)) = (browser, on_path(&["node", "nodejs"])) else {
        eprintln!("SKIPPED: no Chromium or no Node on PATH; the report was NOT looked at in a browser");
        return false;
    };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    std::fs::create_dir_all(&out).unwrap();
    let page = out.join("report.html");
    std::fs::write(&page, report.to_html()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/check.mjs");
    let run = Command::new(node).arg(script).args([&browser, &page, &out]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{said}");
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    true
}

#[test]
fn the_page_works_in_a_browser() {
    passes(&made_up::rich(), "rich");
}

/// A page whose script is broken must fail: the checks see something.
#[test]
fn the_checks_see_a_broken_page() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser-broken");
    let Some((browser, node)) = on_path(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
        .zip(on_path(&["node", "nodejs"]))
    else {
        eprintln!("SKIPPED: no Chromium or no Node on PATH");
        return;
    };
    std::fs::create_dir_all(&out).unwrap();
    let page = out.join("report.html");
    let html = made_up::rich().to_html();
    let broken = html
        .replace("<body>", "<body><img src=\"missing.png\"><div style=\"width: 500px; color: #bbb\"><p>wide</p></div>")
        .replace("sign * (x - y)", "0");
    assert_ne!(html, broken);
    std::fs::write(&page, broken).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/check.mjs");
    let run = Command::new(node).arg(script).args([&browser, &page, &out]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(!run.status.success(), "{said}");
    for name in [
        "no sideways scroll on a phone",
        "text contrast, light",
        "a click sorts numbers upwards",
        "the console is empty",
    ] {
        assert!(said.contains(&format!("FAILED {name}")), "{name} passes on a broken page:\n{said}");
    }
}
