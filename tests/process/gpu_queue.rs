//! benches/gpu.sh with programs that stand in for Stockpot's: a step that fails, one that does not
//! end, and the table at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Prints what a device that does not conform would, and hangs in all other tests.
const KERNELS: &str = r#"#!/usr/bin/env bash
if [ "$1" = cuda::a_device_does ]; then
  echo "test cuda::a_device_does_what ... conforms: bf16_bits and bf16_pair: 4096 values, bit for bit"
  echo "thread 'cuda::a_device_does_what' panicked at cuda.rs:80:5:"
  echo "exp2_approx: 1 of 1600 values are wrong: $(printf 'x%.0s' {1..300})"
  exit 101
fi
for i in {1..900}; do echo "gemm$i c Bf16 is off by up to 3.90e-3 (a case)"; done
trap '' TERM
while :; do sleep 1; done
"#;

fn program(path: &Path, text: &str) {
    fs::write(path, text).expect("a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

fn queue(directory: &Path, steps: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu.sh");
    Command::new("bash")
        .arg(script)
        .args([directory, &directory.join("out")])
        .args(["--device", "cpu"])
        .args(steps)
        .env("LIMIT", "10")
        .output()
        .expect("bash starts")
}

#[test]
fn a_step_that_fails_or_hangs_leaves_the_others_and_the_table() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("tests")).expect("a directory");
    fs::write(at("build.txt"), "commit: none\n").expect("a file");
    program(&at("stockpot"), "#!/usr/bin/env bash\necho '{}'\n");
    program(&at("tests/kernels"), KERNELS);
    let output = queue(directory.path(), &["conformance", "tests", "facts"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let table = &said[said.find("== steps").unwrap_or_else(|| panic!("no table: {said}"))..];
    assert!(table.len() <= 11_000, "{} characters", table.len());
    for part in [
        "s  FAILED: timed out after 10 s",
        "s  passed\n",
        "exp2_approx: 1 of 1600 values are wrong: xxx",
        "\nbf16_bits and bf16_pair: 4096 values, bit for bit\n",
        "\ngemm1 c Bf16                3.90e-3  gemm2 c Bf16",
        "more in",
    ] {
        assert!(table.contains(part), "{part:?} is missing: {table}");
    }
    let verdicts = fs::read_to_string(at("out/summary.txt")).expect("a summary");
    let steps: Vec<&str> = verdicts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(steps, ["conformance", "tests", "facts"], "{verdicts}");

    // A group in its own directory; without a GPU all of it is skipped.
    let output = queue(directory.path(), &["third"]);
    assert_eq!(output.status.code(), Some(0));
    let verdicts = fs::read_to_string(at("out/third/summary.txt")).expect("a summary");
    let skipped = verdicts.lines().filter(|line| line.ends_with("skipped: --device cpu"));
    assert_eq!(skipped.count(), 5, "{verdicts}");
    assert_eq!(queue(directory.path(), &["third", "facts"]).status.code(), Some(2), "a group and a step");
}
