//! The paths of a Rust source that begin at the crate: `crate::a::b`, and `self::` and `super::`
//! once resolved. `use` groups are expanded; comments and strings are skipped.

/// A path, its segments counted from the root of the crate. A glob ends in `*`.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    pub line: usize,
    pub segments: Vec<String>,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "crate::{}", self.segments.join("::"))
    }
}

/// How to treat code that only tests compile.
#[derive(Clone, Copy, PartialEq)]
pub enum Tests {
    Read,
    PassOver,
}

/// The paths of `source`, the file of the module `module` (such as `["engine", "device"]`).
pub fn paths(source: &str, module: &[&str], tests: Tests) -> Vec<Path> {
    let mut tokens = tokens(source);
    if tests == Tests::PassOver {
        tokens = without_tests(tokens);
    }
    let module = module.iter().map(|name| name.to_string()).collect();
    let mut reader = Reader { tokens: &tokens, at: 0, inline: vec![], depth: 0, module, found: vec![] };
    while reader.at < tokens.len() {
        reader.step();
    }
    reader.found
}

struct Token<'a> {
    line: usize,
    /// A word, `::`, or one other character.
    text: &'a str,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The length of the comment, string or character at the start of `rest`; 0 if there is none.
fn passed_over(rest: &str) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        // They nest.
        let (mut depth, mut at) = (0, 0);
        while at < rest.len() {
            let (step, change) = match &rest.as_bytes()[at..] {
                [b'/', b'*', ..] => (2, 1),
                [b'*', b'/', ..] => (2, -1),
                _ => (1, 0),
            };
            at += step;
            depth += change;
            if depth == 0 {
                break;
            }
        }
        return at;
    }
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| rest.starts_with(prefix)).unwrap_or("");
    let literal = &rest[prefix.len()..];
    let hashes = literal.len() - literal.trim_start_matches('#').len();
    if prefix.ends_with('r') && literal[hashes..].starts_with('"') {
        return until(&format!("\"{}", "#".repeat(hashes)), prefix.len() + hashes + 1);
    }
    let closing = |quote: u8| {
        let mut at = prefix.len() + 1;
        while at < rest.len() && rest.as_bytes()[at] != quote {
            at += if rest.as_bytes()[at] == b'\\' { 2 } else { 1 };
        }
        at + 1
    };
    if literal.starts_with('"') {
        return closing(b'"');
    }
    // A quote that is not closed after one character, or an escaped one, begins a lifetime.
    let mut letters = literal.chars();
    match (letters.next(), letters.next(), letters.next()) {
        (Some('\''), Some('\\'), _) | (Some('\''), Some(_), Some('\'')) => closing(b'\''),
        _ => 0,
    }
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < source.len() {
        let rest = &source[at..];
        let skipped = passed_over(rest);
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match skipped {
            0 if word > 0 => word,
            0 if rest.starts_with("::") => 2,
            0 => rest.chars().next().map_or(1, char::len_utf8),
            length => length,
        };
        let text = &rest[..length.min(rest.len())];
        if skipped == 0 && !text.trim().is_empty() {
            tokens.push(Token { line, text });
        }
        line += text.matches('\n').count();
        at += text.len();
    }
    tokens
}

/// Without the items that have the attribute `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    let texts: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let mut left_out = vec![false; tokens.len()];
    while at < texts.len() {
        if !texts[at..].starts_with(&TEST) {
            at += 1;
            continue;
        }
        let end = end_of_item(&texts, at + TEST.len());
        left_out[at..end].fill(true);
        at = end;
    }
    kept.extend(tokens.into_iter().zip(left_out).filter_map(|(token, out)| (!out).then_some(token)));
    kept
}

/// The position after the item that begins at `at`: after its `;`, or its block in braces.
fn end_of_item(texts: &[&str], mut at: usize) -> usize {
    let mut depth = 0;
    // The braces of a `use` are a group, and a `;` comes after them.
    let mut is_use = false;
    while at < texts.len() {
        match texts[at] {
            "use" if depth == 0 => is_use = true,
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        let ends = depth == 0 && (texts[at] == ";" || texts[at] == "}" && !is_use);
        at += 1;
        if ends {
            break;
        }
    }
    at
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// Depths in braces at which modules inside this file began.
    inline: Vec<usize>,
    depth: usize,
    /// The current module, inline modules included.
    module: Vec<String>,
    found: Vec<Path>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn step(&mut self) {
        let text = self.text(self.at);
        match text {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.inline.last() == Some(&self.depth) {
                    self.inline.pop();
                    self.module.pop();
                }
            }
            "mod" if is_word(self.text(self.at + 1)) && self.text(self.at + 2) == "{" => {
                self.inline.push(self.depth);
                self.module.push(self.text(self.at + 1).to_string());
            }
            // A visibility: `pub(crate)`, `pub(in crate::engine)`.
            "pub" if self.text(self.at + 1) == "(" => {
                while !matches!(self.text(self.at), ")" | "") {
                    self.at += 1;
                }
            }
            // The binary knows the crate by its own name.
            "crate" | "self" | "super" | "stockpot" if self.begins_path() => {
                self.path(vec![]);
                return;
            }
            _ => {}
        }
        self.at += 1;
    }

    /// Whether a path begins here: the crate's name alone is one in a `use` only.
    fn begins_path(&self) -> bool {
        let before = if self.at == 0 { "" } else { self.text(self.at - 1) };
        let (text, after) = (self.text(self.at), self.text(self.at + 1));
        before != "::" && (after == "::" || text == "crate" || text == "super" && after == "as")
    }

    /// A path, or the rest of one after `before`; for a group, each of its branches.
    fn path(&mut self, before: Vec<String>) {
        let (mut written, mut line) = (before, 0);
        loop {
            let token = &self.tokens[self.at];
            match token.text {
                "{" => return self.group(&written),
                // `::<` is no part of the path.
                text if text == "*" || is_word(text) => {
                    written.push(text.to_string());
                    line = token.line;
                    self.at += 1;
                }
                _ => break,
            }
            if self.text(self.at) != "::" || self.at + 1 >= self.tokens.len() {
                break;
            }
            self.at += 1;
        }
        let segments = self.resolved(&written);
        self.found.push(Path { line, segments });
    }

    fn group(&mut self, before: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() && self.text(self.at) != "}" {
            if self.text(self.at) == "," {
                self.at += 1;
                continue;
            }
            let start = self.at;
            self.path(before.to_vec());
            if self.text(self.at) == "as" {
                self.at += 2;
            }
            // Anything else there (a macro's `$`).
            self.at += usize::from(self.at == start);
        }
        self.at += 1;
    }

    /// From the root of the crate.
    fn resolved(&self, written: &[String]) -> Vec<String> {
        let mut segments: Vec<String> = vec![];
        for (i, segment) in written.iter().enumerate() {
            match segment.as_str() {
                "crate" | "stockpot" if i == 0 => {}
                "self" if i == 0 => segments = self.module.clone(),
                "self" => {}
                "super" => {
                    if i == 0 {
                        segments = self.module.clone();
                    }
                    segments.pop();
                }
                other => segments.push(other.to_string()),
            }
        }
        segments
    }
}

fn found(source: &str, module: &[&str], tests: Tests) -> Vec<String> {
    paths(source, module, tests).iter().map(|path| format!("{} {}", path.line, path.segments.join("::"))).collect()
}

/// In the file of `engine::train::run`, without tests.
fn in_run(source: &str) -> Vec<String> {
    found(source, &["engine", "train", "run"], Tests::PassOver)
}

#[test]
fn paths_are_found_wherever_they_stand() {
    assert_eq!(in_run("use crate::study::Study;"), ["1 study::Study"]);
    assert_eq!(in_run("\n\npub use crate::report;\n"), ["3 report"]);
    assert_eq!(in_run("let x = crate::bench::run::<u8>(&crate::cli::Y);"), ["1 bench::run", "1 cli::Y"]);
    assert_eq!(in_run("fn f(x: &'a mut crate::study::X<'a>) -> Option<crate::lock::Lock> {}").len(), 2);
    assert_eq!(in_run("macro_rules! m { () => { $crate::study::x() } }"), ["1 study::x"]);
    assert_eq!(in_run("impl crate::study::Trait for X {}"), ["1 study::Trait"]);
    assert_eq!(in_run("stockpot::study::run()"), ["1 study::run"]);
}

#[test]
fn groups_are_opened_up() {
    let groups = "use crate::{\n    error::{Error, Result},\n    report::{self, html::*},\n    study as s,\n    files\n};\nuse crate::cli;";
    let expected =
        ["2 error::Error", "2 error::Result", "3 report", "3 report::html::*", "4 study", "5 files", "7 cli"];
    assert_eq!(in_run(groups), expected);
    assert_eq!(in_run("use {crate::study::X, std::fs, super::settings};"), ["1 study::X", "1 engine::train::settings"]);
    assert_eq!(in_run("use super::{super::merge, super::super::study::X};"), ["1 engine::merge", "1 study::X"]);
    assert_eq!(in_run("use crate::*; use crate as root;"), ["1 *", "1 "]);
}

#[test]
fn self_and_super_are_resolved() {
    assert_eq!(in_run("use super::settings::Settings;"), ["1 engine::train::settings::Settings"]);
    assert_eq!(in_run("super::super::super::study::run()"), ["1 study::run"]);
    assert_eq!(
        in_run("use self::inner::x; self.run(); let s = &self; fn f(self: &Self) {}"),
        ["1 engine::train::run::inner::x"]
    );
    let inline = "mod a { mod b { use super::super::x; } use super::y; }\nuse super::z;";
    assert_eq!(in_run(inline), ["1 engine::train::run::x", "1 engine::train::run::y", "2 engine::train::z"]);
    assert_eq!(found("use self::device::Device;", &["engine"], Tests::PassOver), ["1 engine::device::Device"]);
}

#[test]
fn comments_strings_and_visibilities_are_passed_over() {
    for nothing in [
        "// crate::study\n/// [`crate::study`]\n//! super::x",
        "/* crate::a /* crate::b */ crate::c */",
        "\"crate::study\" \"\\\"crate::study\" b\"crate::x\" r#\"\"crate::study\"\"# br\"\\\" c\"crate::x\"",
        "pub(crate) fn f() {} pub(super) struct X; pub(in crate::engine) mod y;",
        "fn f<'a>(&'a self, c: char) -> char { '\"' }",
        "a::crate_::b; my_super::c; sup::self_",
    ] {
        assert_eq!(in_run(nothing), [""; 0], "{nothing}");
    }
    // And the code after them is not skipped.
    let last = "let a = ['\"', '\\'', '\\\\', 'x']; /* */ let b: &'static str = r#\"\"\"#; // \"\ncrate::study::X";
    assert_eq!(in_run(last), ["2 study::X"]);
    assert_eq!(in_run("let text = \"two\nlines \\\n\";\ncrate::x"), ["4 x"]);
}

#[test]
fn what_only_tests_compile_is_passed_over_when_asked() {
    let source = "#[cfg(test)]\nuse crate::{a, b};\n#[cfg(test)]\n#[allow(unused)]\nmod tests {\n    use super::*;\n    \
                  fn f() { crate::study::x(); }\n}\n#[cfg(test)]\nconst X: [u8; 2] = crate::x();\nuse crate::c;\n";
    assert_eq!(in_run(source), ["11 c"]);
    let all = found(source, &["engine"], Tests::Read);
    assert_eq!(all, ["2 a", "2 b", "6 engine::*", "7 study::x", "10 x", "11 c"]);
    assert_eq!(in_run("#[cfg(not(test))]\nuse crate::a;"), ["2 a"]);
}
