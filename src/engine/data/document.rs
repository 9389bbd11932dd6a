//! A document: one text and its metadata, from the JSON object that every format is read as.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// One text and its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Names the document in splits and reports. A line without `id` gets the hash of its text; a
    /// `.txt` file gets its file name.
    pub id: String,
    /// May be empty.
    pub text: String,
    /// The object's `source`: the name of the text's origin.
    pub source: Option<String>,
    /// The object's `metadata`, and every other non-null field whose key is not in `metadata`.
    pub metadata: Map<String, Value>,
}

impl Document {
    /// The year in the metadata's `field`: a whole number, or a string that begins with a
    /// four-digit year ("1999", "1999-05-01T00:00:00Z") or is an eight-digit date ("19990501").
    /// Otherwise `None`.
    pub fn year(&self, field: &str) -> Option<i64> {
        match self.metadata.get(field)? {
            Value::Number(number) => whole(number),
            Value::String(text) => {
                let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                let date = digits == 4 || (digits == 8 && text.len() == 8);
                if date { text[..4].parse().ok() } else { None }
            }
            _ => None,
        }
    }

    /// Whether metadata holds exactly `value` under `key`; the key `source` means the document's
    /// source if it has one. 1999 and 1999.0 are equal, 1999 and "1999" are not.
    pub fn matches(&self, key: &str, value: &Value) -> bool {
        if let ("source", Some(source)) = (key, &self.source) {
            return value.as_str() == Some(source);
        }
        match (self.metadata.get(key), value) {
            (Some(Value::Number(a)), Value::Number(b)) if a.is_f64() != b.is_f64() => {
                whole(a).is_some() && whole(a) == whole(b)
            }
            (Some(held), value) => held == value,
            (None, _) => false,
        }
    }
}

/// The number, if it is whole; a float only up to 2^53, where f64 is exact.
fn whole(number: &serde_json::Number) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let real = || number.as_f64().filter(|v| v.fract() == 0.0 && v.abs() <= EXACT).map(|v| v as i64);
    number.as_i64().or_else(real)
}

/// The document of a JSON object; `bad` makes an error that names the object's location.
pub fn from_object(mut object: Map<String, Value>, bad: impl Fn(&str) -> Error) -> Result<Document> {
    let text = match object.remove("text") {
        Some(Value::String(text)) => text,
        None => return Err(bad("the document has no `text`").expected(r#"a string field "text""#)),
        Some(other) => return Err(bad("`text` is not a string").expected("a string").got(kind(&other))),
    };
    let id = match object.remove("id") {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        None | Some(Value::Null) => id_of(&text),
        Some(other) => return Err(bad("`id` is not a string").expected("a string or a number").got(kind(&other))),
    };
    let source = match object.remove("source") {
        Some(Value::String(source)) => Some(source),
        None | Some(Value::Null) => None,
        Some(other) => return Err(bad("`source` is not a string").expected("a string").got(kind(&other))),
    };
    let mut metadata = match object.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        None | Some(Value::Null) => Map::new(),
        Some(other) => return Err(bad("`metadata` is not an object").expected("an object").got(kind(&other))),
    };
    // Fields beside the metadata belong to it: Dolma's `created`, the columns of a table.
    for (key, value) in object.into_iter().filter(|(_, value)| !value.is_null()) {
        metadata.entry(key).or_insert(value);
    }
    Ok(Document { id, text, source, metadata })
}

/// The id of a text without one: the first 128 bits of its BLAKE3 hash, in hexadecimal.
fn id_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_string()
}

/// A JSON value's kind, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
