//! Linear mode connectivity: how far the loss rises above the straight line between the ends of a
//! segment. Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", arXiv
//! 1912.05671, subtract the mean of the two ends instead of the line.

use super::averages::averaged;
use super::report::*;
use std::collections::BTreeMap;

/// Loss along the segment, in nats per token: `(at, loss)`.
type Losses = Vec<(f64, f64)>;

/// The barrier on each average and domain that all points were scored on. There is no barrier if an
/// end (0 or 1) is missing, if no point lies between them, or if a loss is not finite.
pub(super) fn barriers(segment: &Segment, domains: &[DomainInfo]) -> BTreeMap<String, Barrier> {
    let ends = BTreeMap::from([(segment.from.clone(), ()), (segment.to.clone(), ())]);
    let mut named = averaged(domains, &ends);
    named.extend(domains.iter().map(|d| (d.name.clone(), vec![d])));
    named.into_iter().filter_map(|(name, own)| Some((name, barrier(&losses(segment, &own)?)?))).collect()
}

/// The loss at each point, averaged over the domains.
fn losses(segment: &Segment, domains: &[&DomainInfo]) -> Option<Losses> {
    let loss = |point: &SegmentPoint| {
        let sum = domains.iter().map(|d| Some(point.scores.get(&d.name)?.perplexity.ln())).sum::<Option<f64>>()?;
        Some((point.at, sum / domains.len() as f64)).filter(|(_, loss)| loss.is_finite())
    };
    segment.points.iter().map(loss).collect()
}

fn barrier(losses: &Losses) -> Option<Barrier> {
    let end = |at: f64| losses.iter().find(|(a, _)| (a - at).abs() < 1e-9).map(|(_, loss)| *loss);
    let (from, to) = (end(0.0)?, end(1.0)?);
    let inner = losses.iter().filter(|(at, _)| (1e-9..=1.0 - 1e-9).contains(at));
    let heights = inner.map(|&(at, loss)| Barrier { height: loss - ((1.0 - at) * from + at * to), at });
    heights.reduce(|best, next| if next.height > best.height { next } else { best })
}
