//! Pearson, Spearman, Kendall, regret, pairwise accuracy and spread of M mixtures' scores:
//! `proxy[m]` and `seq[m]` are the two scores of mixture m, lower is better. Sums run in the order
//! of the mixtures, so results are bit-identical everywhere. `bootstrap` computes the interval of r
//! when mixtures share partitions.

use super::{Interval, Reason, Side, Statistic};

/// The 97.5% point of the standard normal distribution.
const NORMAL_975: f64 = 1.959963984540054;

/// Mixtures hardly differ if SEQ's standard deviation is below this share of its mean (its
/// coefficient of variation). A convention: a difference this small hardly matters to the choice,
/// and r then measures mostly the noise of single trainings.
pub const HARDLY_DIFFERS: f64 = 0.01;

/// True if all values are equal up to rounding. A range within 1e-12 of the largest magnitude comes
/// from summing the same terms in another order, not from a difference between models.
pub fn is_constant(values: &[f64]) -> bool {
    let (low, high) = range(values);
    high - low <= 1e-12 * low.abs().max(high.abs())
}

/// Smallest and largest value.
fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

fn check_finite(proxy: &[f64], seq: &[f64], needed: usize) -> Result<(), Reason> {
    assert_eq!(proxy.len(), seq.len(), "each mixture has one score of each kind");
    if seq.len() < needed {
        return Err(Reason::TooFewMixtures { got: seq.len(), needed });
    }
    for (side, values) in [(Side::Proxy, proxy), (Side::Seq, seq)] {
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Reason::NotFinite(side));
        }
    }
    Ok(())
}

fn check_varying(proxy: &[f64], seq: &[f64]) -> Result<(), Reason> {
    check_finite(proxy, seq, 3)?;
    if is_constant(seq) {
        return Err(Reason::Constant(Side::Seq));
    }
    if is_constant(proxy) {
        return Err(Reason::Constant(Side::Proxy));
    }
    Ok(())
}

/// Pearson's r. Needs three mixtures (two always lie on a line) and variation on both sides.
pub fn pearson(proxy: &[f64], seq: &[f64]) -> Statistic {
    check_varying(proxy, seq)?;
    let (x, y) = (deviations(proxy), deviations(seq));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (&x, &y) in x.iter().zip(&y) {
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    Ok((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Slope and intercept of y on x; `None` if r is not defined.
pub fn least_squares(xs: &[f64], ys: &[f64]) -> Option<(f64, f64)> {
    let r = pearson(xs, ys).ok()?;
    let (x, y) = (spread(xs).ok()?, spread(ys).ok()?);
    let slope = r * y.standard_deviation / x.standard_deviation;
    Some((slope, y.mean - slope * x.mean)).filter(|(a, b)| a.is_finite() && b.is_finite())
}

/// Deviations from the mean, divided by the largest of their magnitudes: r does not change, and no
/// square overflows. The values must vary.
pub(super) fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = mean(values);
    let largest = values.iter().fold(0.0, |largest: f64, v| largest.max((v - mean).abs()));
    values.iter().map(|v| (v - mean) / largest).collect()
}

fn mean(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    values.iter().map(|v| v / n).sum()
}

/// Pearson's r with a weight per mixture, `weight[m] >= 0` (numpy's
/// `cov(.., aweights=weight, ddof=0)`). `None` if fewer than three mixtures have a weight above
/// zero, or if those do not vary.
pub fn weighted_pearson(proxy: &[f64], seq: &[f64], weight: &[f64]) -> Option<f64> {
    let chosen = || proxy.iter().zip(seq).zip(weight).filter(|(_, w)| **w > 0.0).map(|((&x, &y), &w)| (x, y, w));
    let xs: Vec<f64> = chosen().map(|(x, _, _)| x).collect();
    let ys: Vec<f64> = chosen().map(|(_, y, _)| y).collect();
    if xs.len() < 3 || is_constant(&xs) || is_constant(&ys) {
        return None;
    }
    let (mut total, mut x_sum, mut y_sum) = (0.0, 0.0, 0.0);
    for (x, y, w) in chosen() {
        total += w;
        x_sum += w * x;
        y_sum += w * y;
    }
    let (x_mean, y_mean) = (x_sum / total, y_sum / total);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y, w) in chosen() {
        let (dx, dy) = (x - x_mean, y - y_mean);
        xx += w * dx * dx;
        yy += w * dy * dy;
        xy += w * dx * dy;
    }
    Some((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// The 95% interval of Pearson's r over n mixtures by Fisher's z:
/// `tanh(atanh(r) +- 1.96 / sqrt(n - 3))`. It assumes independent mixtures and normal scores.
/// Mixtures that share partitions are not independent, so it is then too narrow. Needs four
/// mixtures.
pub fn fisher_interval(r: f64, n: usize) -> Result<Interval, Reason> {
    if n < 4 {
        return Err(Reason::TooFewMixtures { got: n, needed: 4 });
    }
    let half = NORMAL_975 / ((n - 3) as f64).sqrt();
    Ok(Interval { low: (r.atanh() - half).tanh(), high: (r.atanh() + half).tanh() })
}

/// Spearman's rank correlation: Pearson's r of the ranks; tied scores share the mean of their
/// ranks.
pub fn spearman(proxy: &[f64], seq: &[f64]) -> Statistic {
    check_varying(proxy, seq)?;
    pearson(&average_ranks(proxy), &average_ranks(seq))
}

/// 1-based ranks, lowest first; equal values share the mean of their ranks.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        start += tied.len();
    }
    ranks
}

/// Counts of the M (M - 1) / 2 pairs of mixtures, by how the two lists of scores order them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Orders {
    concordant: u64,
    discordant: u64,
    /// Pairs tied by the proxy only.
    proxy_tied: u64,
    /// Pairs tied by SEQ only.
    seq_tied: u64,
}

fn orders(proxy: &[f64], seq: &[f64]) -> Orders {
    let mut orders = Orders::default();
    for i in 1..seq.len() {
        for j in 0..i {
            let by_proxy = proxy[i].total_cmp(&proxy[j]);
            let by_seq = seq[i].total_cmp(&seq[j]);
            match (by_proxy.is_eq(), by_seq.is_eq()) {
                (false, false) if by_proxy == by_seq => orders.concordant += 1,
                (false, false) => orders.discordant += 1,
                (true, false) => orders.proxy_tied += 1,
                (false, true) => orders.seq_tied += 1,
                (true, true) => {}
            }
        }
    }
    orders
}

/// Kendall's tau-b:
/// `(concordant - discordant) / sqrt((pairs not tied by SEQ) (pairs not tied by the proxy))`.
pub fn kendall(proxy: &[f64], seq: &[f64]) -> Statistic {
    check_varying(proxy, seq)?;
    let o = orders(proxy, seq);
    let untied = (o.concordant + o.discordant) as f64;
    let scale = (untied + o.proxy_tied as f64).sqrt() * (untied + o.seq_tied as f64).sqrt();
    Ok(((o.concordant as f64 - o.discordant as f64) / scale).clamp(-1.0, 1.0))
}

/// Pairwise accuracy: the share of the pairs of mixtures with different SEQ that the proxy orders
/// as SEQ does. A pair that the proxy ties counts one half, as for a coin toss. This is
/// DataDecide's decision accuracy (arXiv 2504.11393).
pub fn decision_accuracy(proxy: &[f64], seq: &[f64]) -> Statistic {
    check_finite(proxy, seq, 2)?;
    if is_constant(seq) {
        return Err(Reason::Constant(Side::Seq));
    }
    let o = orders(proxy, seq);
    Ok((o.concordant as f64 + 0.5 * o.proxy_tied as f64) / (o.concordant + o.discordant + o.proxy_tied) as f64)
}

/// regret@k, the cost of choosing by the proxy: (lowest SEQ among the k mixtures best by the
/// proxy - lowest SEQ overall) / lowest SEQ overall. Among mixtures that the proxy ties, the worse
/// one by SEQ is taken first, so ties never flatter the proxy. Needs more than k mixtures:
/// otherwise all are chosen, and the regret is zero for any proxy.
pub fn regret_at(k: usize, proxy: &[f64], seq: &[f64]) -> Statistic {
    check_finite(proxy, seq, k + 1)?;
    let lowest = range(seq).0;
    if lowest <= 0.0 {
        return Err(Reason::NotPositive);
    }
    let mut order: Vec<usize> = (0..seq.len()).collect();
    order.sort_by(|&a, &b| proxy[a].total_cmp(&proxy[b]).then(seq[b].total_cmp(&seq[a])));
    let chosen = order[..k].iter().fold(f64::INFINITY, |best, &i| best.min(seq[i]));
    Ok((chosen - lowest) / lowest)
}

/// The expected regret@k of k mixtures drawn at random. It is exact: the lowest of k out of M is
/// the i-th lowest SEQ with probability C(M - i, k - 1) / C(M, k). Needs more than k mixtures, as
/// [`regret_at`] does.
pub fn random_regret_at(k: usize, seq: &[f64]) -> Statistic {
    assert!(k > 0, "a choice of none has no regret");
    check_finite(seq, seq, k + 1).map_err(about_seq)?;
    let mut sorted = seq.to_vec();
    sorted.sort_by(f64::total_cmp);
    let lowest = sorted[0];
    if lowest <= 0.0 {
        return Err(Reason::NotPositive);
    }
    let (m, k) = (sorted.len() as f64, k as f64);
    let (mut probability, mut expected) = (k / m, 0.0);
    for (i, value) in sorted.iter().enumerate() {
        let i = i as f64;
        expected += probability * (value - lowest) / lowest;
        // C(m - i - 2, k - 1) / C(m - i - 1, k - 1), 0 once fewer than k mixtures are left.
        probability *= ((m - i - k) / (m - i - 1.0).max(1.0)).max(0.0);
    }
    Ok(expected)
}

/// The reason of a check that was passed only SEQ.
fn about_seq(reason: Reason) -> Reason {
    match reason {
        Reason::NotFinite(_) => Reason::NotFinite(Side::Seq),
        other => other,
    }
}

/// The spread of SEQ between mixtures, in the unit of the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean of SEQ's scores.
    pub mean: f64,
    /// With M - 1 in the denominator.
    pub standard_deviation: f64,
    /// Highest minus lowest.
    pub range: f64,
}

impl Spread {
    /// The coefficient of variation: the standard deviation as a share of the mean.
    pub fn relative(&self) -> f64 {
        self.standard_deviation / self.mean
    }
    /// True below [`HARDLY_DIFFERS`]: these mixtures hardly differ here, and a low r means little.
    pub fn hardly_differs(&self) -> bool {
        self.relative() < HARDLY_DIFFERS
    }
}

/// Spread of SEQ between two or more mixtures, for scores above zero.
pub fn spread(seq: &[f64]) -> Result<Spread, Reason> {
    check_finite(seq, seq, 2).map_err(about_seq)?;
    let (low, high) = range(seq);
    if low <= 0.0 {
        return Err(Reason::NotPositive);
    }
    let mean = mean(seq);
    // Scaled as in `deviations`; a constant list has scale 0 and no deviation.
    let scale = high - low;
    let squares: f64 = if scale > 0.0 { seq.iter().map(|v| ((v - mean) / scale).powi(2)).sum() } else { 0.0 };
    let standard_deviation = scale * (squares / (seq.len() - 1) as f64).sqrt();
    Ok(Spread { mean, standard_deviation, range: scale })
}
