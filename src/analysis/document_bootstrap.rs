//! The 95% interval of Pearson's r over the choice of evaluation documents: each domain's documents
//! are drawn with replacement, the same for all models, and perplexities, averages and r are
//! computed again. It stands beside the bootstrap over partitions: one is about other documents of
//! these domains, the other about other partitions.

use super::averages::averaged;
use super::report::*;
use super::statistics::bootstrap::{draw_counts, quantile};
use super::statistics::correlation::pearson;
use super::statistics::linear::dot;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Draws of documents.
const REPLICATES: usize = 500;
/// Domains with fewer documents have no interval.
const LEAST_DOCUMENTS: usize = 5;
/// Makes these draws differ from those of partitions.
const DOCUMENTS: u64 = 0xd0c5_0000_0000;

/// One correlation: its mixtures, and the domains that each mixture's score is the mean of.
struct Compared {
    proxy: String,
    /// Places of mixtures and of domains
    mixtures: Vec<(usize, Vec<usize>)>,
}

/// Fills the intervals over documents of the correlations whose models' documents are known.
pub(super) fn fill(report: &mut Report, seed: u64) {
    let Report { mixtures, domains, correlations, .. } = report;
    let compared: Vec<Option<Compared>> = correlations.iter().map(|c| compared(c, mixtures, domains)).collect();
    if compared.iter().all(Option::is_none) {
        return;
    }
    let drawn: Vec<Vec<Option<f64>>> = (0..REPLICATES as u64)
        .into_par_iter()
        .map(|number| {
            let counts = draw(domains, seed ^ DOCUMENTS, number);
            compared.iter().map(|c| r(c.as_ref()?, &counts, mixtures, domains)).collect()
        })
        .collect();
    for (i, c) in correlations.iter_mut().enumerate().filter(|(i, _)| compared[*i].is_some()) {
        let mut z: Vec<f64> = drawn.iter().filter_map(|r| r[i]).map(fisher_z).collect();
        z.sort_by(f64::total_cmp);
        let Some(r) = c.pearson.filter(|_| 2 * z.len() > REPLICATES) else { continue };
        let end = |share: f64| (fisher_z(r) + quantile(&z, share) - quantile(&z, 0.5)).tanh();
        (c.documents_low, c.documents_high) = (Some(end(0.025)), Some(end(0.975)));
    }
}

/// Fisher's z of r, finite also where r is 1.
fn fisher_z(r: f64) -> f64 {
    r.clamp(-MOST, MOST).atanh()
}

/// Largest magnitude of r on the scale of Fisher's z.
const MOST: f64 = 1.0 - 1e-12;

/// `None` where a model's documents are not known, or a domain has too few.
fn compared(c: &Correlation, mixtures: &[MixtureInfo], domains: &[DomainInfo]) -> Option<Compared> {
    let place = |d: &DomainInfo| domains.iter().position(|other| other.name == d.name);
    let of = |m: &MixtureInfo| -> Option<Vec<usize>> {
        if let Some(d) = domains.iter().position(|d| d.name == c.domain) {
            return Some(vec![d]);
        }
        let (_, own) = averaged(domains, &m.members).into_iter().find(|(name, _)| *name == c.domain)?;
        own.into_iter().map(place).collect()
    };
    let is_member = |m: &MixtureInfo| c.group == "all" || m.group == c.group;
    let has_both = |m: &MixtureInfo| m.score(SEQ, &c.domain).is_some() && m.score(&c.proxy, &c.domain).is_some();
    let mut list = Vec::new();
    for (i, m) in mixtures.iter().enumerate().filter(|(_, m)| is_member(m) && has_both(m)) {
        let own = of(m)?;
        let known = |model: &str| {
            let documents = m.documents.get(model);
            own.iter().all(|&d| documents.is_some_and(|all| all.contains_key(&domains[d].name)))
        };
        if !known(SEQ) || !known(&c.proxy) || own.iter().any(|&d| domains[d].document_tokens.len() < LEAST_DOCUMENTS) {
            return None;
        }
        list.push((i, own));
    }
    (list.len() >= 3).then(|| Compared { proxy: c.proxy.clone(), mixtures: list })
}

/// How often each document of each domain is drawn.
fn draw(domains: &[DomainInfo], seed: u64, number: u64) -> Vec<Vec<f64>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    domains.iter().map(|d| draw_counts(d.document_tokens.len(), &mut random)).collect()
}

fn r(compared: &Compared, counts: &[Vec<f64>], mixtures: &[MixtureInfo], domains: &[DomainInfo]) -> Option<f64> {
    let score = |m: &MixtureInfo, model: &str, own: &[usize]| -> Option<f64> {
        let documents = m.documents.get(model)?;
        let perplexity = |&d: &usize| -> Option<f64> {
            let nats = documents.get(&domains[d].name)?;
            Some((dot(nats, &counts[d]) / dot(&domains[d].document_tokens, &counts[d])).exp())
        };
        let all: Vec<f64> = own.iter().map(perplexity).collect::<Option<_>>()?;
        Some(all.iter().sum::<f64>() / all.len() as f64)
    };
    let (mut by_proxy, mut by_seq) = (Vec::new(), Vec::new());
    for (i, own) in &compared.mixtures {
        by_proxy.push(score(&mixtures[*i], &compared.proxy, own)?);
        by_seq.push(score(&mixtures[*i], SEQ, own)?);
    }
    pearson(&by_proxy, &by_seq).ok()
}
