//! Recipes: mergekit's YAML for the method `linear`, as mergekit 0.1.5 reads it.
//!
//! ```yaml
//! merge_method: linear
//! models:
//!   - model: runs/law            # relative to the working directory
//!     parameters: {weight: 0.7}
//!   - model: runs/physics
//! parameters: {weight: 0.3, normalize: false}
//! dtype: float32
//! out_dtype: bfloat16
//! ```
//!
//! A model's `weight` overrides that of the top level; one of the two is needed. `normalize` is
//! true by default. The output has the type `out_dtype`, else `dtype`, else that of the models.
//! mergekit also rounds weights to `dtype` before it sums them (in f32); here they are summed as
//! stored, in f64, whatever `dtype` is.
//!
//! A field that would mean something else here than in mergekit is refused by its name and line,
//! and so is everything that mergekit ignores silently.

use super::weights::{MergePartition, Scheme, Weights};
use crate::engine::checkpoint::{StorageDType, read_config};
use crate::error::{Error, Result};
use crate::files;
use crate::settings_file::nearest_key;
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One merge, as a recipe describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The models with their weights, which are divided by their sum unless `normalize` is false.
    pub weights: Weights,
    /// Type of the output, if the recipe gives it.
    pub dtype: Option<StorageDType>,
    /// Index of the member whose config and tokenizer the output gets.
    pub companions: usize,
}

/// Fields of mergekit that have no meaning here.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("slices", "whole models are merged; list them under `models`"),
    ("modules", "whole models are merged; list them under `models`"),
    ("tokenizer", "the tokenizer of the first model is copied as it is"),
    ("chat_template", "it is copied with the tokenizer of the first model as it is"),
];

impl Recipe {
    /// Reads the recipe at `path`; its models must exist.
    pub fn read(path: &Path) -> Result<Recipe> {
        Recipe::parse(&files::read_to_string(path)?, path)
    }

    /// As [`Recipe::read`], from text; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Recipe> {
        let file = File { path };
        let documents = MarkedYaml::load_from_str(text)
            .map_err(|e| file.fault(e.marker().line(), "this is not YAML").got(e.info()))?;
        let [document] = &documents[..] else {
            let line = documents.get(1).map_or(1, |second| second.span.start.line());
            return Err(file
                .fault(line, "a recipe must be one YAML document")
                .expected("fields such as `merge_method: linear` and `models`")
                .got(format!("{} documents", documents.len())));
        };
        let known = ["merge_method", "models", "parameters", "dtype", "out_dtype", "base_model", "tokenizer_source"];
        let fields = file.fields(document, "a recipe", &known, &UNSUPPORTED)?;
        file.check_method(&fields)?;
        let shared = file.parameters(fields.get("parameters"), &["weight", "normalize"])?;
        let models = file.models(&fields, shared.get("weight"))?;
        let normalize = match shared.get("normalize") {
            None => true,
            Some(field) => file.boolean(field, "normalize")?,
        };
        let dtype = |name: &str| fields.get(name).map(|field| file.dtype(field, name)).transpose();
        // Both are read, so that an error in either is reported.
        let (dtype, out_dtype) = (dtype("dtype")?, dtype("out_dtype")?);
        let companions = file.base_model(fields.get("base_model"), &models)?;
        if let Some(field) = fields.get("tokenizer_source") {
            file.check_tokenizer_source(field, &models, companions)?;
        }

        let partitions: Vec<MergePartition> =
            models.iter().map(|m| MergePartition::of_one(Path::new(m.name))).collect();
        let scheme = Scheme::Given(models.iter().map(|m| m.weight).collect());
        let weights = Weights::new(&partitions, &scheme, normalize, None).map_err(|e| {
            let e = e.at(path).line(fields["models"].line as u64);
            let fix = "correct the weights, or leave `normalize` at true, mergekit's default";
            if normalize { e } else { e.fix(fix) }
        })?;
        Ok(Recipe { weights, dtype: out_dtype.or(dtype), companions })
    }
}

/// One of `models`.
struct RecipeModel<'a> {
    name: &'a str,
    weight: f64,
}

/// The value of a key, and the key's line.
#[derive(Clone, Copy)]
struct Field<'a> {
    line: usize,
    value: &'a MarkedYaml<'a>,
}

type RecipeFields<'a> = BTreeMap<&'a str, Field<'a>>;

/// The file that errors name.
struct File<'p> {
    path: &'p Path,
}

impl File<'_> {
    fn fault(&self, line: usize, what: impl Into<String>) -> Error {
        Error::usage(what).at(self.path).line(line as u64)
    }

    /// The non-null fields of a mapping. Refused: anything but a mapping, and keys that are not
    /// `known`; for `unsupported` keys the error says what to do instead.
    fn fields<'a>(
        &self,
        node: &'a MarkedYaml<'a>,
        what: &str,
        known: &[&str],
        unsupported: &[(&str, &str)],
    ) -> Result<RecipeFields<'a>> {
        let YamlData::Mapping(mapping) = &node.data else {
            return Err(self
                .fault(node.span.start.line(), format!("{what} must be a mapping of fields"))
                .got(description(node)));
        };
        let mut fields = RecipeFields::new();
        for (key, value) in mapping {
            let line = key.span.start.line();
            let YamlData::Value(Scalar::String(name)) = &key.data else {
                return Err(self.fault(line, format!("the keys of {what} must be strings")).got(description(key)));
            };
            if let Some((_, instead)) = unsupported.iter().find(|(field, _)| field == name) {
                if !is_null(value) {
                    return Err(self.fault(line, format!("`{name}` is not supported: {instead}")));
                }
            } else if !known.contains(&name.as_ref()) {
                let quoted: Vec<String> = known.iter().map(|field| format!("`{field}`")).collect();
                let message = format!("unknown field `{name}`, expected {}", quoted.join(", "));
                let nearest = nearest_key(&message);
                let error = self.fault(line, format!("{what} has no field `{name}` here")).expected(known.join(", "));
                return Err(match nearest {
                    Some(key) => error.fix(format!("did you mean `{key}`?")),
                    None => error,
                });
            } else if !is_null(value) {
                fields.insert(name.as_ref(), Field { line, value });
            }
        }
        Ok(fields)
    }

    fn check_method(&self, fields: &RecipeFields) -> Result<()> {
        let Some(field) = fields.get("merge_method") else {
            return Err(Error::usage("missing field `merge_method`").at(self.path).expected("merge_method: linear"));
        };
        match self.text(field, "merge_method")? {
            "linear" => Ok(()),
            other => Err(self.fault(field.line, format!("merge_method `{other}` is not supported")).expected("linear")),
        }
    }

    fn parameters<'a>(&self, field: Option<&Field<'a>>, known: &[&str]) -> Result<RecipeFields<'a>> {
        field.map_or(Ok(RecipeFields::new()), |field| self.fields(field.value, "`parameters`", known, &[]))
    }

    /// All models with their weights: their own, or else the `shared` one.
    fn models<'a>(&self, fields: &RecipeFields<'a>, shared: Option<&Field<'a>>) -> Result<Vec<RecipeModel<'a>>> {
        let Some(list) = fields.get("models") else {
            return Err(Error::usage("missing field `models`").at(self.path).expected("a list of `model: DIR`"));
        };
        let YamlData::Sequence(nodes) = &list.value.data else {
            return Err(self.fault(list.line, "`models` must be a list").got(description(list.value)));
        };
        let mut models: Vec<RecipeModel> = Vec::new();
        for node in nodes {
            let line = node.span.start.line();
            let fields = self.fields(node, "a model", &["model", "parameters"], &[])?;
            let Some(model) = fields.get("model") else {
                return Err(self.fault(line, "missing field `model`").expected("model: DIR"));
            };
            let own = self.parameters(fields.get("parameters"), &["weight"])?;
            let name = self.text(model, "model")?;
            let Some(weight) = own.get("weight").or(shared) else {
                return Err(self
                    .fault(line, format!("the model {name} has no `weight`"))
                    .expected("`parameters: {weight: NUMBER}` here, or for all models at the top level"));
            };
            let weight = self.number(weight, "weight")?;
            self.check_model(model.line, name)?;
            if models.iter().any(|m| m.name == name) {
                return Err(self
                    .fault(model.line, format!("the model {name} is listed twice"))
                    .fix("list it once, with the sum of its weights"));
            }
            models.push(RecipeModel { name, weight });
        }
        if models.is_empty() {
            return Err(self.fault(list.line, "`models` is empty"));
        }
        Ok(models)
    }

    /// Refuses a name that mergekit does not read as a local directory, even if a directory of that
    /// name exists.
    fn check_model(&self, line: usize, name: &str) -> Result<()> {
        if name.contains('+') {
            return Err(self
                .fault(line, format!("`{name}`: a model with a LoRA adapter (MODEL+LORA) is not supported"))
                .fix("merge the adapter into the model first"));
        }
        if name.contains('@') {
            return Err(self
                .fault(line, format!("`{name}`: a revision of a model on the hub (MODEL@REVISION) is not supported"))
                .expected("a local directory"));
        }
        if !Path::new(name).is_dir() {
            return Err(self
                .fault(line, format!("the model {name} does not exist"))
                .expected("a local directory; a relative path starts at the working directory, as in mergekit")
                .fix("check the path; download a model from the hub first"));
        }
        Ok(())
    }

    /// The model whose config and tokenizer are copied: the base model, which must be one of the
    /// models, or the first.
    fn base_model(&self, field: Option<&Field>, models: &[RecipeModel]) -> Result<usize> {
        let Some(field) = field else { return Ok(0) };
        let name = self.text(field, "base_model")?;
        models.iter().position(|m| m.name == name).ok_or_else(|| {
            self.fault(field.line, format!("`base_model` {name} is not supported here: it is not one of the models"))
                .expected("one of `models`, as it is written there; mergekit would add any other model to them")
        })
    }

    /// With `tokenizer_source` mergekit builds a tokenizer, reorders the embedding's rows to its
    /// tokens and truncates them to its length. Accepted if that changes nothing.
    fn check_tokenizer_source(&self, field: &Field, models: &[RecipeModel], companions: usize) -> Result<()> {
        let source = self.text(field, "tokenizer_source")?;
        let refused = |why: String| {
            Err(self
                .fault(field.line, format!("`tokenizer_source: {source}` is not supported here: {why}"))
                .fix("remove the line: the tokenizer of the first model (or `base_model`) is copied as it is"))
        };
        if !["base", "union"].contains(&source) && !models.iter().any(|m| m.name == source) {
            return refused("it is not base, union or one of `models`".into());
        }
        let tokenizer = |m: &RecipeModel| Path::new(m.name).join("tokenizer.json");
        let copied = tokenizer(&models[companions]);
        let read = |path: &PathBuf| std::fs::read(path).map_err(|e| Error::io("read", path, &e));
        let bytes = read(&copied)?;
        for other in models.iter().map(tokenizer).filter(|path| path.exists()) {
            if read(&other)? != bytes {
                return refused(format!("{} differs from {}", other.display(), copied.display()));
            }
        }
        let tokens = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|e| Error::input("this tokenizer cannot be read").at(&copied).got(e.to_string()))?
            .get_vocab_size(true);
        let rows = read_config(&Path::new(models[companions].name).join("config.json"))?.vocabulary;
        if tokens != rows {
            return refused(format!(
                "mergekit would truncate the embedding's {rows} rows to the tokenizer's {tokens} tokens"
            ));
        }
        Ok(())
    }

    fn dtype(&self, field: &Field, name: &str) -> Result<StorageDType> {
        let text = self.text(field, name)?;
        match text.strip_prefix("torch.").unwrap_or(text) {
            "float32" => Ok(StorageDType::F32),
            "bfloat16" => Ok(StorageDType::Bf16),
            "float16" => Ok(StorageDType::F16),
            _ => Err(self
                .fault(field.line, format!("`{name}: {text}` is not supported"))
                .expected("float32, bfloat16 or float16")),
        }
    }

    fn text<'a>(&self, field: &Field<'a>, name: &str) -> Result<&'a str> {
        match &field.value.data {
            YamlData::Value(Scalar::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(self.fault(field.line, format!("`{name}` is not a string")).got(description(field.value))),
        }
    }

    fn boolean(&self, field: &Field, name: &str) -> Result<bool> {
        match &field.value.data {
            YamlData::Value(Scalar::Boolean(value)) => Ok(*value),
            _ => Err(self
                .fault(field.line, format!("`{name}` is not a boolean"))
                .expected("true or false")
                .got(description(field.value))),
        }
    }

    fn number(&self, field: &Field, name: &str) -> Result<f64> {
        let number = match &field.value.data {
            YamlData::Value(Scalar::Integer(value)) => Some(*value as f64),
            YamlData::Value(Scalar::FloatingPoint(value)) => Some(value.into_inner()),
            // As in mergekit, where YAML reads 1e-3 as a string.
            YamlData::Value(Scalar::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|value: &f64| value.is_finite()).ok_or_else(|| {
            self.fault(field.line, format!("`{name}` is not a finite number"))
                .expected(
                    "one number for the whole model; gradients over layers and filters of tensors are not supported",
                )
                .got(description(field.value))
        })
    }
}

fn is_null(node: &MarkedYaml) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

/// A description of a value, for errors.
fn description(node: &MarkedYaml) -> String {
    match &node.data {
        YamlData::Value(Scalar::Null) => "nothing".into(),
        YamlData::Value(Scalar::Boolean(value)) => value.to_string(),
        YamlData::Value(Scalar::Integer(value)) => value.to_string(),
        YamlData::Value(Scalar::FloatingPoint(value)) => value.to_string(),
        YamlData::Value(Scalar::String(text)) => format!("the string {text:?}"),
        YamlData::Sequence(_) => "a list".into(),
        YamlData::Mapping(_) => "a mapping".into(),
        YamlData::Tagged(tag, _) => format!("a value with the tag {tag}"),
        _ => "something that is not a YAML value".into(),
    }
}
