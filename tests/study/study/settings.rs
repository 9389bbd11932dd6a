//! Settings of experiments that are refused. Other settings: tests/process/study.rs.

use super::study;
use crate::binary::stockpot;

#[test]
fn invalid_settings_are_refused() {
    let cases: [(&str, &[&str]); 9] = [
        ("[mixtures]\nrepeats = 0", &["mixtures.repeats"]),
        ("[mixtures]\nacross_sources = 3", &["at least two different `source`s"]),
        ("[proxies]\nlambdas = [0.0]", &["proxies.lambdas", "above 0"]),
        ("[proxies]\nlambdas = [1.0]\nlambda = 1.4", &["proxies.lambda", "add it there"]),
        ("[proxies]\nlaws = 3", &["proxies.laws", "10"]),
        ("[connectivity]\npoints = 2", &["connectivity.points"]),
        ("[target]\nmixtures = 1", &["missing field `model`"]),
        ("[mixtures]\nrepeated = \"some\"", &["a number of mixtures, or \"all\""]),
        ("[mixtures]\nupsampel = true", &["upsample"]),
    ];
    for (text, parts) in cases {
        let dir = study(|s| s.replace("[mixtures]\npairs = \"all\"\n", text));
        stockpot(dir.path(), &["plan", "study.toml"]).fails(2, parts);
    }
    for (key, part) in [
        ("units = 0", "at least one base unit"),
        ("years = [1990, 1980]", "end before they begin"),
        ("where = { a = [1] }", "expected a string, a number or a boolean"),
        ("field = \"\"", "`field`"),
    ] {
        let dir = study(|s| s.replace("files = [\"law.jsonl\"]\n", &format!("files = [\"law.jsonl\"]\n{key}\n")));
        stockpot(dir.path(), &["plan", "study.toml"]).fails(2, &[part]);
    }
}
