use super::model::*;
use std::collections::BTreeMap;
pub struct Analysis {
    pub seed: u64,
    pub lambda: Option<f64>,
}
impl Report {
    pub fn analyse(&mut self, how: &Analysis) {
        let _ = how.lambda;
        self.correlations = super::correlations(&self.mixtures, &self.domains, how.seed);
        self.answers = super::answers(&self.mixtures, &self.correlations);
    }
}
pub fn averages(
    domains: &[DomainInfo],
    members: &BTreeMap<String, f64>,
    scores: &BTreeMap<String, Score>,
) -> BTreeMap<String, Score> {
    let mut all = BTreeMap::new();
    type B<'a> = &'a dyn Fn(&DomainInfo) -> bool;
    let averages: [(&str, B); 3] = [
        ("id", &|d| d.kind == DomainKind::Id),
        ("ood", &|d| d.kind == DomainKind::Ood),
        ("members", &|d| d.kind == DomainKind::Id && members.contains_key(&d.name)),
    ];
    for (name, belongs) in averages {
        let chosen: Vec<&Score> = domains.iter().filter(|d| belongs(d)).map(|d| &scores[&d.name]).collect();
        if !chosen.is_empty() {
            let mean = |of: fn(&Score) -> f64| chosen.iter().map(|s| of(s)).sum::<f64>() / chosen.len() as f64;
            all.insert(
                name.to_string(),
                Score {
                    perplexity: mean(|s| s.perplexity),
                    bits_per_byte: mean(|s| s.bits_per_byte),
                    ..Score::default()
                },
            );
        }
    }
    all
}
