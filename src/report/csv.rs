//! scores.csv: one row per mixture, model and domain, in the order of the report; RFC 4180, with a
//! header.

use crate::analysis::proxies;
use crate::analysis::{AVERAGES, DomainScores, MixtureInfo, ModelScores, Report, SEQ, Score};

const HEADER: &str = "mixture,group,model,domain,kind,nats,tokens,bytes,perplexity,bits_per_byte,repeat";

impl Report {
    /// scores.csv as text. `model` is "seq" or a proxy; "target_seq", ... for the larger model;
    /// "scaled@1.4" for the scaled merge of lambda 1.4. `kind` is "id", "ood" or "average".
    /// `repeat` counts trainings with the data in other orders; 0 is the training that the report
    /// is about. Missing values and values that are not finite are empty.
    pub fn to_csv(&self) -> String {
        let mut out = format!("{HEADER}\n");
        let models: Vec<String> = std::iter::once(SEQ.to_string()).chain(proxies(&self.mixtures)).collect();
        let domains = self.names();
        for mixture in &self.mixtures {
            for (model, repeat, scores) in series(mixture, &models) {
                for (domain, kind) in &domains {
                    if let Some(score) = scores.get(domain) {
                        let names = [&mixture.id, &mixture.group, &model, domain, *kind].map(field);
                        out += &format!("{},{},{repeat}\n", names.join(","), numbers(score).join(","));
                    }
                }
            }
        }
        out
    }

    /// Everything with scores, and its kind: the averages, the averages of fields, the domains.
    fn names(&self) -> Vec<(String, &'static str)> {
        let mut names: Vec<(String, &str)> = AVERAGES.map(|name| (name.to_string(), "average")).into();
        for field in self.domains.iter().filter_map(|d| d.field.as_ref()) {
            let name = (format!("field:{field}"), "average");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.extend(self.domains.iter().map(|d| (d.name.clone(), d.kind.name())));
        names
    }
}

/// All models of a mixture, each with its repeat number: first trainings, repeats, the larger
/// model's, scaled merges.
fn series<'a>(mixture: &'a MixtureInfo, models: &[String]) -> Vec<(String, usize, &'a DomainScores)> {
    let mut list = ordered(&mixture.scores, models, "", 0);
    for (repeat, scores) in mixture.repeats.iter().enumerate() {
        list.extend(ordered(scores, models, "", repeat + 1));
    }
    list.extend(ordered(&mixture.target, models, "target_", 0));
    list.extend(mixture.by_lambda.iter().map(|(lambda, scores)| (format!("scaled@{lambda}"), 0, scores)));
    list
}

/// The scores in the order of `models`, then by name.
fn ordered<'a>(
    scores: &'a ModelScores,
    models: &[String],
    prefix: &str,
    repeat: usize,
) -> Vec<(String, usize, &'a DomainScores)> {
    let place = |name: &str| models.iter().position(|m| m == name).unwrap_or(models.len());
    let mut list: Vec<(&String, &DomainScores)> = scores.iter().collect();
    list.sort_by_key(|(name, _)| place(name));
    list.into_iter().map(|(name, scores)| (format!("{prefix}{name}"), repeat, scores)).collect()
}

/// The numbers, each in the shortest form that parses to the same bits.
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

/// The text as a CSV field, quoted if it contains a special character.
pub(super) fn field(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}
