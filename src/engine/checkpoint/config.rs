//! `config.json` <-> [`Config`], for `Olmo2ForCausalLM` and `LlamaForCausalLM` as transformers 4
//! (`rope_theta`) and 5 (`rope_parameters`) write it.
//!
//! A field that changes the mathematics is refused by name unless it has its neutral value: the
//! list is [`NEUTRAL`]. Fields that are neither used nor listed are ignored, as in transformers,
//! whose classes do not read them. The stored type (`dtype`, `torch_dtype`) is ignored too; the
//! tensors' headers give it.

use crate::engine::model::{Architecture, Config};
use crate::engine::ops::dtype_convert::StorageDType;
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Fields of these and related classes that change the computation, each with the values (besides
/// null) for which the model computes what [`Config`] describes.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("hidden_act", &["\"silu\"", "\"swish\""]),
    ("attention_bias", &["false"]),
    ("mlp_bias", &["false"]),
    ("qkv_bias", &["false"]),
    ("bias", &["false"]),
    ("use_bias", &["false"]),
    ("attention_dropout", &["0", "0.0"]),
    ("hidden_dropout", &["0", "0.0"]),
    ("clip_qkv", &[]),
    ("pretraining_tp", &["1"]),
    ("partial_rotary_factor", &["1", "1.0"]),
    ("rope_interleaved", &["false"]),
    ("no_rope_layers", &[]),
    ("attn_logit_softcapping", &[]),
    ("final_logit_softcapping", &[]),
    ("logit_scale", &["1", "1.0"]),
    ("logits_scaling", &["1", "1.0"]),
    ("embedding_multiplier", &["1", "1.0"]),
    ("residual_multiplier", &["1", "1.0"]),
    ("attention_multiplier", &[]),
    ("num_experts", &["0", "1"]),
    ("num_local_experts", &["0", "1"]),
    ("quantization_config", &[]),
    ("auto_map", &[]),
    ("is_encoder_decoder", &["false"]),
    ("add_cross_attention", &["false"]),
];

struct ClassNames {
    architecture: Architecture,
    class: &'static str,
    model_type: &'static str,
    /// transformers' default when the field is absent.
    norm_epsilon: f64,
    eos: u32,
}

const CLASSES: [ClassNames; 2] = [
    ClassNames {
        architecture: Architecture::Olmo2,
        class: "Olmo2ForCausalLM",
        model_type: "olmo2",
        norm_epsilon: 1e-5,
        eos: 50279,
    },
    ClassNames {
        architecture: Architecture::Llama,
        class: "LlamaForCausalLM",
        model_type: "llama",
        norm_epsilon: 1e-6,
        eos: 2,
    },
];

/// Reads and checks a `config.json`. If it lists several end-of-text tokens, the first is used.
pub fn read_config(path: &Path) -> Result<Config> {
    let text = files::read_to_string(path)?;
    let map: Map<String, Value> = serde_json::from_str(&text).map_err(|e| {
        Error::input("this is not a model configuration")
            .at(path)
            .line(e.line() as u64)
            .expected("a JSON object")
            .got(e.to_string())
    })?;
    let fields = ConfigFields { map: &map, path };
    let class = fields.class()?;
    fields.refuse_unsupported()?;
    let width = fields.size("hidden_size", None)?;
    let heads = fields.size("num_attention_heads", None)?;
    let head_width = match fields.get("head_dim") {
        None if heads > 0 && width % heads == 0 => width / heads,
        None => {
            return Err(fields.fault(
                "head_dim",
                "a value, because hidden_size is not a multiple of num_attention_heads",
                "none",
            ));
        }
        Some(_) => fields.size("head_dim", None)?,
    };
    let config = Config {
        architecture: class.architecture,
        width,
        layers: fields.size("num_hidden_layers", None)?,
        heads,
        kv_heads: fields.size("num_key_value_heads", Some(heads))?,
        head_width,
        feed_forward: fields.size("intermediate_size", None)?,
        vocabulary: fields.size("vocab_size", None)?,
        context: fields.size("max_position_embeddings", Some(2048))?,
        tied: fields.bool("tie_word_embeddings")?,
        rope_base: fields.rope_base()?,
        norm_epsilon: fields.number("rms_norm_eps", class.norm_epsilon)?,
        init_std: fields.number("initializer_range", 0.02)?,
        eos: fields.eos(class.eos)?,
    };
    config.check().map_err(|e| e.at(path))?;
    Ok(config)
}

/// The `config.json` of a model whose weights are stored as `dtype`; transformers 4 and 5 both load
/// it.
pub fn config_json(config: &Config, dtype: StorageDType) -> Value {
    let class = CLASSES.iter().find(|c| c.architecture == config.architecture).unwrap_or(&CLASSES[0]);
    let mut json = json!({
        "architectures": [class.class],
        "model_type": class.model_type,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.context,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "initializer_range": config.init_std,
        "bos_token_id": null,
        "eos_token_id": config.eos,
        "pad_token_id": null,
        "use_cache": true,
        "dtype": transformers_name(dtype),
        "torch_dtype": transformers_name(dtype),
    });
    if config.architecture == Architecture::Llama {
        json["mlp_bias"] = false.into();
        json["pretraining_tp"] = 1.into();
    }
    json
}

/// A `config.json` with its stored type replaced by `dtype`.
pub(crate) fn with_dtype(path: &Path, dtype: StorageDType) -> Result<Value> {
    let text = files::read_to_string(path)?;
    let mut json: Value =
        serde_json::from_str(&text).map_err(|e| Error::input(format!("this is not JSON: {e}")).at(path))?;
    if let Value::Object(map) = &mut json {
        for key in ["dtype", "torch_dtype"] {
            if map.contains_key(key) {
                map.insert(key.into(), transformers_name(dtype).into());
            }
        }
    }
    Ok(json)
}

fn transformers_name(dtype: StorageDType) -> &'static str {
    match dtype {
        StorageDType::F32 => "float32",
        StorageDType::Bf16 => "bfloat16",
        StorageDType::F16 => "float16",
    }
}

struct ConfigFields<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl<'a> ConfigFields<'a> {
    /// The field, unless it is absent or null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    fn fault(&self, name: &str, expected: impl Into<String>, got: impl ToString) -> Error {
        let got = got.to_string();
        Error::input(format!("the field `{name}` is not supported")).at(self.path).expected(expected).got(got)
    }

    fn size(&self, name: &str, default: Option<usize>) -> Result<usize> {
        match (self.get(name), default) {
            (Some(v), _) => v
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| self.fault(name, "a non-negative integer", v)),
            (None, Some(n)) => Ok(n),
            (None, None) => Err(Error::input(format!("the field `{name}` is missing"))
                .at(self.path)
                .fix("use the config.json that belongs to the weights")),
        }
    }
    fn number(&self, name: &str, default: f64) -> Result<f64> {
        self.get(name).map_or(Ok(default), |v| v.as_f64().ok_or_else(|| self.fault(name, "a number", v)))
    }
    fn bool(&self, name: &str) -> Result<bool> {
        self.get(name).map_or(Ok(false), |v| v.as_bool().ok_or_else(|| self.fault(name, "true or false", v)))
    }

    /// From `architectures`, or from `model_type` if that is absent; the two must agree.
    fn class(&self) -> Result<&'static ClassNames> {
        let supported = "`LlamaForCausalLM` (model_type `llama`) or `Olmo2ForCausalLM` (model_type `olmo2`)";
        let fault = |name: &str, got: &Value| {
            Err(self.fault(name, supported, got).fix("choose a checkpoint of one of these classes"))
        };
        let architecture = match self.get("architectures") {
            Some(v) => match v.as_array().map(Vec::as_slice) {
                Some([one]) => Some(one),
                _ => return fault("architectures", v),
            },
            None => None,
        };
        let class = match architecture {
            Some(a) => match CLASSES.iter().find(|c| a == c.class) {
                Some(class) => class,
                None => return fault("architectures", a),
            },
            None => match CLASSES.iter().find(|c| self.get("model_type").is_some_and(|m| m == c.model_type)) {
                Some(class) => class,
                None => return fault("model_type", self.map.get("model_type").unwrap_or(&Value::Null)),
            },
        };
        match self.get("model_type") {
            Some(m) if m != class.model_type => fault("model_type", m),
            _ => Ok(class),
        }
    }

    fn refuse_unsupported(&self) -> Result<()> {
        for (name, neutral) in NEUTRAL {
            if let Some(value) = self.get(name).filter(|v| !neutral.contains(&v.to_string().as_str())) {
                let expected = if neutral.is_empty() { "null or absent".into() } else { neutral.join(" or ") };
                return Err(self.fault(name, expected, value).fix("choose a checkpoint without it"));
            }
        }
        let windowed = self.get("use_sliding_window").is_none_or(|v| v != false);
        if let Some(value) = self.get("sliding_window").filter(|_| windowed) {
            return Err(self.fault("sliding_window", "null: attention over the whole context", value));
        }
        if let Some(value) = self.get("layer_types") {
            let full = value.as_array().is_some_and(|types| types.iter().all(|t| t == "full_attention"));
            if !full {
                return Err(self.fault("layer_types", "`full_attention` in every layer", value));
            }
        }
        Ok(())
    }

    /// From `rope_parameters` (transformers 5), `rope_scaling` and `rope_theta` (transformers 4).
    fn rope_base(&self) -> Result<f64> {
        let mut bases = Vec::new();
        for name in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.get(name) else { continue };
            let Some(parameters) = value.as_object() else {
                return Err(self.fault(name, "an object", value));
            };
            for (key, value) in parameters.iter().filter(|(_, v)| !v.is_null()) {
                let neutral = match key.as_str() {
                    "rope_type" | "type" => value == "default",
                    "partial_rotary_factor" => value.as_f64() == Some(1.0),
                    "rope_theta" => match value.as_f64() {
                        Some(base) => {
                            bases.push(base);
                            true
                        }
                        None => false,
                    },
                    // `factor`, or one set of parameters for each kind of layer
                    _ => false,
                };
                if !neutral {
                    let fault = self.fault(&format!("{name}.{key}"), "plain RoPE: rope_type `default`", value);
                    return Err(fault.fix("choose a checkpoint without RoPE scaling"));
                }
            }
        }
        if self.get("rope_theta").is_some() {
            bases.push(self.number("rope_theta", 0.0)?);
        }
        match bases.iter().find(|b| **b != bases[0]) {
            Some(other) => Err(self.fault("rope_theta", format!("{} as in rope_parameters", bases[0]), other)),
            // transformers' default
            None => Ok(bases.first().copied().unwrap_or(10000.0)),
        }
    }

    fn eos(&self, default: u32) -> Result<u32> {
        let name = "eos_token_id";
        let value = match self.map.get(name) {
            None => return Ok(default),
            Some(Value::Array(several)) => several.first().unwrap_or(&Value::Null),
            Some(value) => value,
        };
        value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
            self.fault(name, "the token that ends a document", value).fix("set it to the tokenizer's end-of-text token")
        })
    }
}
