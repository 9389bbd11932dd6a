//! The report in a real browser: `tests/browser/check.mjs` drives a headless Chromium through the
//! page of a synthetic study on a desk, a phone, in dark mode and on paper. Needs Chromium and Node;
//! without them this test says loudly that it skips, or fails where STOCKPOT_REQUIRE_BROWSER is
//! set, as in .ci/run. Screenshots stay in target/tmp/browser, to be looked at.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file())
}

/// The checks of the page `html`: whether all passed, and what they said. None where there is no browser.
fn checks(html: &str, name: &str) -> Option<(bool, String)> {
    let browser = on_path(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
    let (Some(browser), Some(node)) = (browser, on_path(&["node", "nodejs"])) else {
        let required = std::env::var_os("STOCKPOT_REQUIRE_BROWSER").is_some_and(|value| value == "1");
        assert!(!required, "STOCKPOT_REQUIRE_BROWSER is set, but Chromium or Node is not on PATH");
        // Past libtest's capture, so that nobody takes it for a pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no Chromium or no Node on PATH; no browser looked at the report");
        return None;
    };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    std::fs::create_dir_all(&out).unwrap();
    let page = out.join("report.html");
    std::fs::write(&page, html).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/check.mjs");
    let run = Command::new(node).arg(script).args([&browser, &page, &out]).output().unwrap();
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((run.status.success(), said))
}

#[test]
fn the_page_works_in_a_browser() {
    if let Some((passed, said)) = checks(&crate::synthetic::rich().to_html(), "rich") {
        assert!(passed, "{said}");
    }
}

/// A page whose script is broken must fail: the checks see something.
#[test]
fn the_checks_see_a_broken_page() {
    let html = crate::synthetic::rich().to_html();
    let broken = html
        .replace("<body>", "<body><img src=\"missing.png\"><div style=\"width: 500px; color: #bbb\"><p>wide</p></div>")
        .replace("sign * (x - y)", "0");
    assert_ne!(html, broken);
    let Some((passed, said)) = checks(&broken, "broken") else { return };
    assert!(!passed, "{said}");
    for name in [
        "no sideways scroll on a phone",
        "text contrast, light",
        "a click sorts numbers upwards",
        "the console is empty",
    ] {
        assert!(said.contains(&format!("FAILED {name}")), "{name} passes on a broken page:\n{said}");
    }
}
