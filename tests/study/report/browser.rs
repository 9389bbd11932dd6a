//! The report in a real browser: `tests/browser/check.mjs` drives a headless Chromium through the
//! page of a synthetic study on a desktop, on a phone, in dark mode and on paper. Needs Chromium
//! and Node; without them the tests print that they are skipped, or fail if
//! STOCKPOT_REQUIRE_BROWSER is set, as in .ci/run. Screenshots are kept in target/tmp/browser for
//! inspection.

use super::first_screen::summary;
use crate::synthetic::rich;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file())
}

/// Runs the checks on the page `html`. Returns whether all passed, and their output; `None` without
/// a browser.
fn checks(html: &str, name: &str) -> Option<(bool, String)> {
    let browser = on_path(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
    let (Some(browser), Some(node)) = (browser, on_path(&["node", "nodejs"])) else {
        let required = std::env::var_os("STOCKPOT_REQUIRE_BROWSER").is_some_and(|value| value == "1");
        assert!(!required, "STOCKPOT_REQUIRE_BROWSER is set, but Chromium or Node is not on PATH");
        // Bypasses libtest's capture, so that the skip does not look like a pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the report in a browser: no Chromium or no Node on PATH");
        return None;
    };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    std::fs::create_dir_all(&out).unwrap();
    let page = out.join("report.html");
    std::fs::write(&page, html).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/check.mjs");
    let run = Command::new(node).arg(script).args([&browser, &page, &out]).output().unwrap();
    let output = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((run.status.success(), output))
}

#[test]
fn the_page_works_in_a_browser() {
    if let Some((passed, output)) = checks(&searched().to_html(), "rich") {
        assert!(passed, "{output}");
    }
}

/// The checks must fail on a broken page, so a pass means something.
#[test]
fn checks_fail_on_a_broken_page() {
    let html = searched().to_html();
    let broken = html
        .replace("<body>", "<body><img src=\"missing.png\"><div style=\"width: 500px; color: #bbb\"><p>wide</p></div>")
        .replace("sign * (x - y)", "0");
    assert_ne!(html, broken);
    let Some((passed, output)) = checks(&broken, "broken") else { return };
    assert!(!passed, "{output}");
    for name in [
        "no sideways scroll on a phone",
        "text contrast, light",
        "a click sorts numbers upwards",
        "the console is empty",
    ] {
        assert!(output.contains(&format!("FAILED {name}")), "{name} passes on a broken page:\n{output}");
    }
}

/// With every section, and a search.
fn searched() -> stockpot::analysis::Report {
    let mut report = rich();
    report.search = Some(summary(&report));
    report
}
