//! Settings files in TOML: read strictly, with errors that name file, line and the nearest known
//! key.

use crate::error::{Error, Result};
use crate::files;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads `path`; any key that `T` does not know is an error.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    parse(&files::read_to_string(path)?, path)
}

/// As [`read`], from text; errors name `path`.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let mut error = Error::usage(plain_types(e.message().trim())).at(path);
        if let Some(before) = e.span().and_then(|span| text.get(..span.start)) {
            let line = before.matches('\n').count();
            error = error.line(line as u64 + 1);
            // A missing field has no line of its own.
            if let (false, Some(line)) = (e.message().starts_with("missing"), text.lines().nth(line)) {
                error = error.got(line.trim().to_string());
            }
        }
        match nearest_key(e.message()) {
            Some(key) => error.fix(format!("did you mean `{key}`?")),
            None => error,
        }
    })
}

/// Replaces Rust's type names by words for a settings file.
fn plain_types(message: &str) -> String {
    let words =
        [("u64", "a whole number of at least 0"), ("usize", "a whole number of at least 0"), ("f64", "a number")];
    let plain = words.iter().find_map(|(name, words)| {
        Some(format!("{}expected {words}", message.strip_suffix(&format!("expected {name}"))?))
    });
    plain.unwrap_or_else(|| message.to_string())
}

/// The expected key nearest to the unknown one, from serde's message "unknown field `x`, expected
/// one of `a`, `b`" (or "unknown variant").
pub(crate) fn nearest_key(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    quoted
        .map(|key| (strsim::jaro_winkler(unknown, key), key))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[allow(dead_code)]
        learning_rate: f64,
        #[allow(dead_code)]
        steps: u64,
    }

    #[test]
    fn names_file_line_and_nearest_key() {
        let text = "steps = 3\nlerning_rate = 0.1\n";
        let error = parse::<Example>(text, Path::new("a/study.toml")).expect_err("unknown key").to_string();
        assert!(error.contains("a/study.toml:2"), "{error}");
        assert!(error.contains("did you mean `learning_rate`?"), "{error}");
    }

    #[test]
    fn suggests_nothing_far_fetched() {
        let error = parse::<Example>("zebra = 1\n", Path::new("s.toml")).expect_err("unknown key").to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }
}
