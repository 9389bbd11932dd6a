//! The reference of study keys in docs/study.md, generated from the doc comments of the settings.
//! `STOCKPOT_UPDATE=1 cargo test --release --lib study_keys` rewrites it.

use super::Study;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- generated from the doc comments of src/study/settings: do not edit -->\n";
const END: &str = "<!-- end of the generated part -->\n";

#[test]
fn docs_list_all_study_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/study.md");
    let text = std::fs::read_to_string(&path).expect("docs/study.md");
    let (head, rest) = text.split_once(BEGIN).expect("the line before the generated part");
    let (_, tail) = rest.split_once(END).expect("the line after the generated part");
    let expected = format!("{head}{BEGIN}\n{}\n{END}{tail}", reference());
    if std::env::var_os("STOCKPOT_UPDATE").is_some() {
        std::fs::write(&path, &expected).expect("docs/study.md is writable");
        return;
    }
    assert!(text == expected, "docs/study.md is not up to date: run the tests with STOCKPOT_UPDATE=1");
}

/// One section per table of the study file, in the order of the settings.
fn reference() -> String {
    let schema = schemars::schema_for!(Study).to_value();
    let mut sections = Sections { definitions: object(&schema["$defs"]), first: BTreeMap::new(), text: String::new() };
    sections.push("", false, &schema);
    sections.text.trim_end().to_string() + "\n"
}

struct Sections<'a> {
    definitions: &'a Map<String, Value>,
    /// The heading under which the keys of a definition are listed.
    first: BTreeMap<String, String>,
    text: String,
}

impl<'a> Sections<'a> {
    /// The section of the table at `path`, then those of the tables in it.
    fn push(&mut self, path: &str, list: bool, table: &'a Value) {
        let dot = if path.is_empty() { String::new() } else { format!("{path}.") };
        let required: Vec<&str> =
            table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let heading = match (path, list) {
            ("", _) => "Top level".to_string(),
            (_, true) => format!("`[[{path}]]`"),
            (_, false) => format!("`[{path}]`"),
        };
        let _ = write!(self.text, "### {heading}\n\n{}\n\n", text(table));
        let _ = writeln!(self.text, "| key | type | meaning |\n| --- | --- | --- |");
        for (key, value) in object(&table["properties"]) {
            let (kind, _) = self.kind(value);
            // A key that the parser requires says so.
            assert!(!required.contains(&key.as_str()) || text(value).contains("equired"), "{path}.{key} is required");
            let _ = writeln!(self.text, "| `{key}` | {kind} | {} |", text(value));
        }
        self.text.push('\n');
        for (key, value) in object(&table["properties"]) {
            let (_, Some((name, list))) = self.kind(value) else { continue };
            let path = format!("{dot}{key}");
            let heading = if list { format!("`[[{path}]]`") } else { format!("`[{path}]`") };
            match self.first.get(name) {
                Some(first) => {
                    let _ = write!(self.text, "### {heading}\n\nThe keys of {first}.\n\n");
                }
                None => {
                    self.first.insert(name.into(), heading);
                    self.push(&path, list, &self.definitions[name]);
                }
            }
        }
    }

    /// The type of a key in words. If it is a table or a list of tables: the table's definition,
    /// and whether it is a list.
    fn kind(&self, schema: &'a Value) -> (String, Option<(&'a str, bool)>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            let definition = &self.definitions[name];
            return if definition["properties"].is_object() {
                ("table".into(), Some((name, false)))
            } else {
                self.kind(definition)
            };
        }
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array());
        if let Some(alternatives) = alternatives {
            let kinds = alternatives.iter().filter(|one| one["type"] != "null").map(|one| self.kind(one));
            let kinds: Vec<_> = kinds.collect();
            let words: Vec<String> = kinds.iter().map(|(words, _)| words.clone()).collect();
            return (words.join(" or "), kinds.into_iter().find_map(|(_, table)| table));
        }
        if let Some(word) = schema["const"].as_str() {
            return (format!("`\"{word}\"`"), None);
        }
        if let Some(words) = schema["enum"].as_array() {
            return (words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "), None);
        }
        let name = match &schema["type"] {
            Value::Array(names) => names.iter().find(|name| *name != "null").and_then(Value::as_str),
            name => name.as_str(),
        };
        match name {
            Some("array") => match self.kind(&schema["items"]) {
                (_, Some((name, false))) => ("tables".into(), Some((name, true))),
                (words, _) => (format!("list of {words}s"), None),
            },
            Some("object") => ("inline table".into(), None),
            Some(name) => (name.into(), None),
            None => panic!("no words for the type {schema}"),
        }
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object of the schema")
}

/// The doc comment in one line.
fn text(schema: &Value) -> String {
    let text = schema["description"].as_str().expect("every key has a doc comment");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
