//! scores.csv: one row per mixture, model and domain, in the order of the report; RFC 4180, with a header.

use super::correlations::proxies;
use super::model::{AVERAGES, Report, SEQ, Score};

const HEADER: &str = "mixture,group,model,domain,kind,nats,tokens,bytes,perplexity,bits_per_byte";

impl Report {
    /// `model` is "seq" or the proxy; `kind` is "id", "ood" or "average". What is missing or not finite is empty.
    pub fn to_csv(&self) -> String {
        let mut out = format!("{HEADER}\n");
        let models: Vec<String> = std::iter::once(SEQ.to_string()).chain(proxies(&self.mixtures)).collect();
        let averages = AVERAGES.map(|name| (name, "average"));
        let domains = self.domains.iter().map(|d| (d.name.as_str(), d.kind.name()));
        let domains: Vec<(&str, &str)> = averages.into_iter().chain(domains).collect();
        for mixture in &self.mixtures {
            for model in &models {
                for (domain, kind) in &domains {
                    if let Some(score) = mixture.score(model, domain) {
                        let names = [&mixture.id, &mixture.group, model, *domain, *kind].map(field);
                        out += &format!("{},{}\n", names.join(","), numbers(score).join(","));
                    }
                }
            }
        }
        out
    }
}

/// Numbers in the shortest form that reads back to the same bits.
fn numbers(score: &Score) -> [String; 5] {
    let real = |v: Option<f64>| v.filter(|v| v.is_finite()).map_or(String::new(), |v| v.to_string());
    let whole = |v: Option<u64>| v.map_or(String::new(), |v| v.to_string());
    [
        real(score.nats),
        whole(score.tokens),
        whole(score.bytes),
        real(Some(score.perplexity)),
        real(Some(score.bits_per_byte)),
    ]
}

/// Quoted where the text holds what CSV gives a meaning.
fn field(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}
