//! The certainty of a choice between mixtures. Two things are uncertain: which documents the scores are
//! on, and how far SEQ is from what merges say. The first is resampled; the second is a line from
//! merges to SEQ, with the uncertainty of its coefficients, and an error that each partition
//! contributes in proportion to its weight, so that mixtures that are close to each other err in
//! the same way and a partition alone errs the most.

use super::objective::Target;
use crate::analysis::FEW_DOCUMENTS;
use crate::analysis::statistics::bootstrap::{draw_counts, quantile};
use crate::analysis::statistics::linear::{LineFit, dot};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal};
use rayon::prelude::*;
use serde::Serialize;

/// Draws of documents, lines and errors.
pub const DRAWS: usize = 2000;
/// Fewest SEQ runs that a lambda and a line are calibrated on.
pub const FEWEST: usize = 4;
/// Mixtures whose weights differ by less, summed over partitions, are one mixture here.
const SAME: f64 = 0.05;
/// A mixture is told apart from the best if it is better in fewer of the draws.
const LEVEL: f64 = 0.05;
/// Makes these draws differ from other random numbers of a search.
const CONFIDENCE: u64 = 0xc0f1_de9c_e000;

/// Nats of each document of each domain: (D, documents).
pub type DocumentNats = Vec<Vec<f64>>;

/// A mixture with its merge's scores.
pub struct ScoredMerge<'a> {
    /// (n)
    pub weights: &'a [f64],
    /// Of its merge
    pub nats: &'a DocumentNats,
    /// Added to its score: the pull towards the natural mixture
    pub penalty: f64,
    /// Whether it may be chosen
    pub feasible: bool,
}

/// A mixture that SEQ was trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct SeqRun {
    /// (n)
    pub weights: Vec<f64>,
    /// Of its merge, under the search's lambda
    pub merged: DocumentNats,
    /// Of SEQ
    pub seq: DocumentNats,
}

/// Everything that the confidence of a choice depends on.
pub struct Evidence<'a> {
    /// What is minimized
    pub target: &'a Target,
    /// (D, documents) bytes of the documents' text
    pub bytes: &'a [Vec<f64>],
    /// Every mixture that is compared
    pub mixtures: &'a [ScoredMerge<'a>],
    /// The mixture that is chosen
    pub best: usize,
    /// The natural mixture, for gains
    pub natural: Option<usize>,
    /// SEQ runs of the budget; a line needs four of them
    pub runs: &'a [SeqRun],
    /// Whether lambda was chosen on these runs
    pub lambda_calibrated: bool,
    /// Standard deviation between repeated SEQ trainings on one mixture, where it is known
    pub noise: Option<f64>,
    /// Seed of the draws
    pub seed: u64,
}

/// What is expected of one mixture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The expected score of SEQ; without SEQ runs, the merge's.
    pub expected: f64,
    /// 95% interval of the score of a single SEQ training on the documents that are scored here;
    /// without SEQ runs, of the merge's score over documents.
    pub low: f64,
    /// The upper end of that interval.
    pub high: f64,
    /// How much lower than the natural mixture's the expected score is: the lower end of the 95%
    /// interval, over documents and errors of the line.
    pub gain_low: f64,
    /// The upper end of that interval.
    pub gain_high: f64,
    /// The probability that it is the best of the mixtures that may be chosen; 0 for others, and
    /// for mixtures that are nearly equal to a better one.
    pub probability_best: f64,
    /// Whether it is told apart from the best: better than it in fewer than 5% of the draws.
    pub told_apart: bool,
    /// Whether it is nearly equal to a better one, and not counted.
    pub nearly_equal: bool,
}

/// How sure the choice of the best mixture is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Confidence {
    /// Whether scores are those of SEQ.
    pub expects_seq: bool,
    /// One per mixture.
    pub estimates: Vec<Estimate>,
    /// Mixtures that may be chosen and are not told apart from the best, the best first.
    pub not_told_apart: Vec<usize>,
    /// Merges whose scores differ by less are not told apart: 1.64 standard deviations of the
    /// difference between the best and the median of the ten mixtures next to it.
    pub merge_slack: f64,
    /// (D) documents of each domain.
    pub documents: Vec<usize>,
    /// Domains that count and have fewer than 30 documents.
    pub few_documents: Vec<usize>,
}

impl Confidence {
    /// Whether this mixture is the best beyond doubt: told apart from each other mixture and from
    /// all together, by SEQ, on enough documents.
    pub fn declares_winner(&self, best: usize) -> bool {
        let is_sure = self.estimates[best].probability_best >= 1.0 - LEVEL;
        self.expects_seq && self.few_documents.is_empty() && self.not_told_apart.len() == 1 && is_sure
    }
}

/// Draws documents, lines and errors, and counts.
pub fn confidence(evidence: &Evidence) -> Confidence {
    let Evidence { target, bytes, mixtures, best, .. } = *evidence;
    let documents: Vec<usize> = bytes.iter().map(Vec::len).collect();
    let whole: Vec<Vec<f64>> = documents.iter().map(|n| vec![1.0; *n]).collect();
    let on_all = Scores::new(evidence, &whole);
    let line = SeqLine::fit(&on_all, evidence);
    let counted = distinct(mixtures, &on_all.merged, best);
    let drawn = (0..DRAWS as u64).into_par_iter().map(|number| draw(evidence, &on_all, line.as_ref(), number));
    let draws = Draws::new(drawn.collect(), mixtures, line.as_ref());
    let expected = |x: f64| line.as_ref().map_or(x, |fit| fit.line.at(x));
    let estimates: Vec<Estimate> = (0..mixtures.len())
        .map(|c| Estimate { expected: expected(on_all.merged[c]), ..draws.estimate(evidence, c, counted[c]) })
        .collect();
    let estimates = draws.with_probabilities(evidence, estimates);
    let may_be_best = |c: &usize| mixtures[*c].feasible && counted[*c] && !estimates[*c].told_apart;
    let mut not_told_apart: Vec<usize> = (0..mixtures.len()).filter(may_be_best).collect();
    let value = |c: usize| estimates[c].expected + draws.penalties[c];
    not_told_apart.sort_by(|&a, &b| (a != best).cmp(&(b != best)).then(value(a).total_cmp(&value(b))));
    let few = |d: &usize| target.weights[*d] > 0.0 && (documents[*d] as u64) < FEW_DOCUMENTS;
    Confidence {
        expects_seq: line.is_some(),
        merge_slack: draws.slack(evidence, &counted, line.as_ref()),
        few_documents: (0..documents.len()).filter(few).collect(),
        not_told_apart,
        estimates,
        documents,
    }
}

/// One draw of every mixture's score: without the noise of a single training, on drawn documents,
/// and of a single training on the documents themselves.
fn draw(evidence: &Evidence, on_all: &Scores, line: Option<&SeqLine>, number: u64) -> (Vec<f64>, Vec<f64>) {
    let mut random = ChaCha8Rng::seed_from_u64(evidence.seed ^ CONFIDENCE);
    random.set_stream(number);
    let counts: Vec<Vec<f64>> = evidence.bytes.iter().map(|bytes| draw_counts(bytes.len(), &mut random)).collect();
    let drawn = Scores::new(evidence, &counts);
    let Some(line) = line else { return (drawn.merged.clone(), drawn.merged) };
    let deviation = line.deviation(&mut random);
    let errors = line.errors(evidence.mixtures, deviation, &mut random);
    let error_of_line = line.error(deviation, &mut random);
    let single = |((x, error), m): ((&f64, &f64), &ScoredMerge)| {
        let noise: f64 = StandardNormal.sample(&mut random);
        line.at(*x, error_of_line) + error + line.noise_of(m.weights, deviation) * noise
    };
    let single = on_all.merged.iter().zip(&errors).zip(evidence.mixtures).map(single).collect();
    // The line is fitted again to the scores on the drawn documents.
    let own = SeqLine::fit(&drawn, evidence);
    let own = own.as_ref().unwrap_or(line);
    let expected = |(x, error): (&f64, &f64)| own.at(*x, error_of_line) + error;
    (drawn.merged.iter().zip(&errors).map(expected).collect(), single)
}

/// The targets of all mixtures and runs on documents that count as often as `counts` says.
struct Scores {
    merged: Vec<f64>,
    run_merged: Vec<f64>,
    run_seq: Vec<f64>,
}

impl Scores {
    fn new(evidence: &Evidence, counts: &[Vec<f64>]) -> Scores {
        let bits: Vec<f64> =
            evidence.bytes.iter().zip(counts).map(|(b, c)| dot(b, c) * std::f64::consts::LN_2).collect();
        let score = |nats: &DocumentNats| {
            let losses: Vec<f64> =
                nats.iter().zip(counts).zip(&bits).map(|((nats, counts), bits)| dot(nats, counts) / bits).collect();
            evidence.target.of(&losses)
        };
        Scores {
            merged: evidence.mixtures.iter().map(|m| score(m.nats)).collect(),
            run_merged: evidence.runs.iter().map(|run| score(&run.merged)).collect(),
            run_seq: evidence.runs.iter().map(|run| score(&run.seq)).collect(),
        }
    }
}

/// SEQ as a line in merges: least squares on the runs.
struct SeqLine {
    line: LineFit,
    runs: usize,
    /// Degrees of freedom of the residual: one less if lambda was chosen on the runs, too
    freedom: f64,
    /// Standard deviation around the line
    residual: f64,
    /// Of repeated trainings, where it is known
    noise: Option<f64>,
    /// Share of the residual's variance that mixtures have for themselves
    share: f64,
    /// Mean squared distance of the runs' weights from their center
    mean_square: f64,
    /// (n) mean weights of the runs
    center: Vec<f64>,
}

impl SeqLine {
    fn fit(scores: &Scores, evidence: &Evidence) -> Option<SeqLine> {
        let (x, y, runs) = (&scores.run_merged, &scores.run_seq, evidence.runs);
        let n = x.len() as f64;
        if x.len() < FEWEST {
            return None;
        }
        let line = LineFit::of(x, y)?;
        let freedom = n - 2.0 - f64::from(u8::from(evidence.lambda_calibrated));
        let residual = (line.squares / freedom).sqrt();
        let known = evidence.noise.unwrap_or(0.0);
        let share = if residual > 0.0 { (1.0 - (known / residual).powi(2)).max(0.0) } else { 0.0 };
        let partitions = runs[0].weights.len();
        let center: Vec<f64> =
            (0..partitions).map(|i| runs.iter().map(|run| run.weights[i]).sum::<f64>() / n).collect();
        let mut fit =
            SeqLine { line, runs: x.len(), freedom, residual, noise: evidence.noise, share, mean_square: 1.0, center };
        fit.mean_square = runs.iter().map(|run| fit.distance(&run.weights)).sum::<f64>() / n;
        Some(fit)
    }

    /// Squared distance of weights from the center of the runs.
    fn distance(&self, w: &[f64]) -> f64 {
        w.iter().zip(&self.center).map(|(w, c)| (w - c).powi(2)).sum()
    }

    /// Standard deviation of a single training around what is expected of its mixture. Where it is
    /// not known from repeats, a training lies around the line at least as far as the runs do.
    fn noise_of(&self, w: &[f64], deviation: f64) -> f64 {
        let own = if self.mean_square > 0.0 { self.distance(w) / self.mean_square } else { 0.0 };
        self.noise.unwrap_or(deviation * (1.0 - own).max(0.0).sqrt())
    }

    /// A draw of the standard deviation around the line.
    fn deviation(&self, random: &mut ChaCha8Rng) -> f64 {
        let chi = ChiSquared::new(self.freedom).map_or(self.freedom, |chi| chi.sample(random));
        self.residual * (self.freedom / chi.max(1e-9)).sqrt()
    }

    /// A draw of the errors of the slope and of the height at the mean.
    fn error(&self, deviation: f64, random: &mut ChaCha8Rng) -> (f64, f64) {
        let (slope, height): (f64, f64) = (StandardNormal.sample(random), StandardNormal.sample(random));
        (deviation / self.line.sxx.sqrt() * slope, deviation / (self.runs as f64).sqrt() * height)
    }

    /// SEQ at a merge's score, with these errors of the slope and the height.
    fn at(&self, merged: f64, (slope, height): (f64, f64)) -> f64 {
        self.line.at(merged) + height + slope * (merged - self.line.mean_x)
    }

    /// A draw of each mixture's own error.
    fn errors(&self, mixtures: &[ScoredMerge], deviation: f64, random: &mut ChaCha8Rng) -> Vec<f64> {
        let per_weight = if self.mean_square > 0.0 { (self.share / self.mean_square).sqrt() } else { 0.0 };
        let draw = |_: &f64| -> f64 { StandardNormal.sample(random) };
        let parts: Vec<f64> = self.center.iter().map(draw).map(|part| deviation * per_weight * part).collect();
        let error = |m: &ScoredMerge| {
            m.weights.iter().zip(&self.center).zip(&parts).map(|((w, c), part)| (w - c) * part).sum::<f64>()
        };
        mixtures.iter().map(error).collect()
    }
}

/// Whether each mixture counts: those that are nearly equal to a better one do not.
fn distinct(mixtures: &[ScoredMerge], merged: &[f64], best: usize) -> Vec<bool> {
    let value = |c: usize| merged[c] + mixtures[c].penalty;
    let mut order: Vec<usize> = (0..mixtures.len()).collect();
    order.sort_by(|&a, &b| {
        let first = |c: usize| (c != best, !mixtures[c].feasible);
        first(a).cmp(&first(b)).then(value(a).total_cmp(&value(b))).then(a.cmp(&b))
    });
    let mut kept: Vec<usize> = Vec::new();
    for c in order {
        let distance = |k: &usize| -> f64 {
            mixtures[*k].weights.iter().zip(mixtures[c].weights).map(|(a, b)| (a - b).abs()).sum()
        };
        if !kept.iter().any(|k| distance(k) < SAME) {
            kept.push(c);
        }
    }
    (0..mixtures.len()).map(|c| kept.contains(&c)).collect()
}

/// The drawn scores of each mixture.
struct Draws {
    /// Without the noise of a single training, on drawn documents
    expected: Vec<Vec<f64>>,
    /// Of a single training, on the documents themselves
    single: Vec<Vec<f64>>,
    /// On the scale of the scores: SEQ differs by the slope times what merges differ by
    penalties: Vec<f64>,
}

impl Draws {
    fn new(drawn: Vec<(Vec<f64>, Vec<f64>)>, mixtures: &[ScoredMerge], line: Option<&SeqLine>) -> Draws {
        let of_mixture = |c: usize| drawn.iter().map(|(expected, single)| (expected[c], single[c])).unzip();
        let (expected, single) = (0..mixtures.len()).map(of_mixture).unzip();
        let scale = line.map_or(1.0, |fit| fit.line.slope.max(0.0));
        Draws { expected, single, penalties: mixtures.iter().map(|m| scale * m.penalty).collect() }
    }

    /// Intervals of one mixture, and whether it is told apart from the best.
    fn estimate(&self, evidence: &Evidence, c: usize, counted: bool) -> Estimate {
        let (low, high) = interval(self.single[c].clone());
        let gain = |natural: usize| {
            let pairs = self.expected[natural].iter().zip(&self.expected[c]);
            interval(pairs.map(|(natural, own)| natural - own).collect())
        };
        let (gain_low, gain_high) = evidence.natural.map_or((0.0, 0.0), gain);
        let penalty = self.penalties[c] - self.penalties[evidence.best];
        let pairs = self.expected[c].iter().zip(&self.expected[evidence.best]);
        let better = pairs.filter(|(own, best)| *own + penalty <= **best).count();
        let told_apart = (better as f64) < LEVEL * DRAWS as f64;
        Estimate { low, high, gain_low, gain_high, told_apart, nearly_equal: !counted, ..Estimate::default() }
    }

    /// With the share of the draws in which each mixture is the best of those that may be chosen.
    fn with_probabilities(&self, evidence: &Evidence, mut estimates: Vec<Estimate>) -> Vec<Estimate> {
        let mixtures = evidence.mixtures;
        let may = |c: &usize| mixtures[*c].feasible && !estimates[*c].nearly_equal;
        let chosen: Vec<usize> = (0..mixtures.len()).filter(may).collect();
        let mut wins = vec![0usize; mixtures.len()];
        for draw in 0..DRAWS {
            let value = |c: usize| self.expected[c][draw] + self.penalties[c];
            // The best mixture wins a tie.
            let own = |c: usize| c != evidence.best;
            let order = |a: &&usize, b: &&usize| value(**a).total_cmp(&value(**b)).then(own(**a).cmp(&own(**b)));
            if let Some(&first) = chosen.iter().min_by(order) {
                wins[first] += 1;
            }
        }
        for (estimate, wins) in estimates.iter_mut().zip(wins) {
            estimate.probability_best = wins as f64 / DRAWS as f64;
        }
        estimates
    }

    fn slack(&self, evidence: &Evidence, counted: &[bool], line: Option<&SeqLine>) -> f64 {
        let (mixtures, best) = (evidence.mixtures, evidence.best);
        let mean = |c: usize| self.expected[c].iter().sum::<f64>() / DRAWS as f64 + self.penalties[c];
        let mut near: Vec<usize> =
            (0..mixtures.len()).filter(|&c| c != best && mixtures[c].feasible && counted[c]).collect();
        near.sort_by(|&a, &b| mean(a).total_cmp(&mean(b)).then(a.cmp(&b)));
        near.truncate(10);
        let deviation = |&c: &usize| {
            let differences: Vec<f64> =
                self.expected[c].iter().zip(&self.expected[best]).map(|(own, best)| own - best).collect();
            let mean = differences.iter().sum::<f64>() / DRAWS as f64;
            (differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / DRAWS as f64).sqrt()
        };
        let mut deviations: Vec<f64> = near.iter().map(deviation).collect();
        deviations.sort_by(f64::total_cmp);
        let median = deviations.get(deviations.len() / 2).copied().unwrap_or(0.0);
        1.64 * median / line.map_or(1.0, |fit| fit.line.slope.abs().max(1e-9))
    }
}

/// The 2.5% and the 97.5% point.
fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (quantile(&values, 0.025), quantile(&values, 0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { name: "t".into(), weights: vec![1.0], worst: false }
    }

    fn normal(seed: u64, n: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| StandardNormal.sample(&mut random)).collect()
    }

    /// Nats of documents of one byte whose mean is `bits` per byte.
    fn flat(bits: f64, documents: usize) -> DocumentNats {
        vec![vec![bits * std::f64::consts::LN_2; documents]]
    }

    fn evidence<'a>(
        target: &'a Target,
        bytes: &'a [Vec<f64>],
        mixtures: &'a [ScoredMerge<'a>],
        runs: &'a [SeqRun],
    ) -> Evidence<'a> {
        Evidence {
            target,
            bytes,
            mixtures,
            best: 0,
            natural: Some(1),
            runs,
            lambda_calibrated: false,
            noise: None,
            seed: 1,
        }
    }

    fn merge<'a>(weights: &'a [f64], nats: &'a DocumentNats) -> ScoredMerge<'a> {
        ScoredMerge { weights, nats, penalty: 0.0, feasible: true }
    }

    /// Documents differ between two mixtures by a normal variable: the probability that the first
    /// is better on other documents is that of its mean.
    #[test]
    fn the_choice_of_documents_gives_the_probability_of_a_normal_mean() {
        let (target, n) = (target(), 400);
        let noise = normal(3, n);
        let mean = noise.iter().sum::<f64>() / n as f64;
        let deviation = (noise.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        let bytes = vec![vec![1.0; n]];
        let first = flat(1.0, n);
        // Better by 0, 1 and 2 standard errors of the mean.
        for (errors, expected) in [(0.0, 0.5), (1.0, 0.8413), (2.0, 0.9772)] {
            let better = errors * deviation / (n as f64).sqrt();
            let second: DocumentNats =
                vec![first[0].iter().zip(&noise).map(|(x, e)| x + (e - mean) + better).collect()];
            let mixtures = [merge(&[1.0, 0.0], &first), merge(&[0.0, 1.0], &second)];
            let found = confidence(&evidence(&target, &bytes, &mixtures, &[]));
            let p = found.estimates[0].probability_best;
            assert!((p - expected).abs() < 0.03, "{errors}: {p}");
            assert!((p + found.estimates[1].probability_best - 1.0).abs() < 1e-9);
            assert_eq!(found.estimates[1].told_apart, errors > 1.7);
            assert_eq!(found.not_told_apart.len(), if errors > 1.7 { 1 } else { 2 });
            assert!(!found.expects_seq && found.few_documents.is_empty());
            let gain = &found.estimates[0];
            assert!(
                gain.gain_low < better / std::f64::consts::LN_2 && gain.gain_high > better / std::f64::consts::LN_2
            );
        }
    }

    #[test]
    fn few_documents_are_named_and_nearly_equal_mixtures_count_once() {
        let (target, bytes) = (target(), vec![vec![1.0; 29]]);
        let (a, b) = (flat(1.0, 29), flat(1.001, 29));
        let mixtures = [merge(&[0.5, 0.5], &a), merge(&[0.0, 1.0], &b), merge(&[0.51, 0.49], &a)];
        let found = confidence(&evidence(&target, &bytes, &mixtures, &[]));
        assert_eq!((found.few_documents.clone(), found.documents.clone()), (vec![0], vec![29]));
        assert!(!found.declares_winner(0) && found.not_told_apart == [0]);
        assert!(found.estimates[2].nearly_equal && found.estimates[2].probability_best == 0.0);
        assert_eq!(found.estimates[0].probability_best, 1.0);
    }

    /// Runs of random mixtures whose SEQ is a line in the merge, an error in proportion to weights,
    /// and noise.
    struct World {
        runs: Vec<SeqRun>,
        weights: Vec<Vec<f64>>,
        merged: Vec<DocumentNats>,
        seq: Vec<f64>,
    }

    fn world(seed: u64, error: f64, noise: f64) -> World {
        let (partitions, count) = (6, 18);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || -> f64 { StandardNormal.sample(&mut random) };
        let own: Vec<f64> = (0..partitions).map(|_| draw()).collect();
        let errors: Vec<f64> = (0..partitions).map(|_| error * draw()).collect();
        let mut all = World { runs: vec![], weights: vec![], merged: vec![], seq: vec![] };
        for i in 0..count {
            let part = |uniform: bool, draw: f64| if uniform { 1.0 } else { draw.powi(2) };
            let parts: Vec<f64> = (0..partitions).map(|_| part(i + 1 == count, draw())).collect();
            let sum: f64 = parts.iter().sum();
            let weights: Vec<f64> = parts.iter().map(|p| p / sum).collect();
            let of = |values: &[f64]| weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>();
            let merged = 3.0 + 0.1 * of(&own);
            let seq = 2.0 + 0.5 * merged + of(&errors) + noise * draw();
            // The last is the uniform mixture, near the center of the runs.
            if i < 12 {
                all.runs.push(SeqRun { weights, merged: flat(merged, 40), seq: flat(seq, 40) });
            } else {
                all.weights.push(weights);
                all.merged.push(flat(merged, 40));
                all.seq.push(seq);
            }
        }
        all
    }

    #[test]
    fn on_an_exact_line_the_expectation_is_exact_and_certain() {
        let (target, bytes, world) = (target(), vec![vec![1.0; 40]], world(5, 0.0, 0.0));
        let mixtures: Vec<ScoredMerge> = world.weights.iter().zip(&world.merged).map(|(w, m)| merge(w, m)).collect();
        let found = confidence(&evidence(&target, &bytes, &mixtures, &world.runs));
        assert!(found.expects_seq);
        for (estimate, seq) in found.estimates.iter().zip(&world.seq) {
            assert!((estimate.expected - seq).abs() < 1e-9 && estimate.high - estimate.low < 1e-6, "{estimate:?}");
        }
    }

    /// In 300 worlds, 95% intervals hold what SEQ reaches in about 95%: at random mixtures, and at the
    /// uniform one, which is near the center of the runs. Noise that is known changes nothing.
    #[test]
    fn intervals_cover_what_they_promise() {
        let (target, bytes, worlds) = (target(), vec![vec![1.0; 40]], 300);
        for (error, noise, known) in
            [(0.02, 0.0, None), (0.0, 0.02, None), (0.01, 0.01, None), (0.01, 0.01, Some(0.01))]
        {
            let (mut inside, mut uniform) = (0, 0);
            for seed in 0..worlds {
                let world = world(1000 + seed, error, noise);
                let mixtures: Vec<ScoredMerge> =
                    world.weights.iter().zip(&world.merged).map(|(w, m)| merge(w, m)).collect();
                let evidence = Evidence { noise: known, ..evidence(&target, &bytes, &mixtures, &world.runs) };
                let found = confidence(&evidence);
                let covers = |(e, seq): (&Estimate, &f64)| usize::from(e.low <= *seq && *seq <= e.high);
                let all: Vec<usize> = found.estimates.iter().zip(&world.seq).map(covers).collect();
                inside += all[..5].iter().sum::<usize>();
                uniform += all[5];
            }
            let (inside, uniform) = (inside as f64 / (5 * worlds) as f64, uniform as f64 / worlds as f64);
            let what = format!("error {error}, noise {noise}, {known:?}: {inside} and {uniform}");
            assert!((0.92..0.99).contains(&inside) && uniform > 0.92, "{what}");
        }
    }

    /// The pull towards the natural mixture is on the scale of merges, as the search minimizes it.
    #[test]
    fn a_penalty_counts_as_much_in_seq_as_in_merges() {
        let (target, bytes) = (target(), vec![vec![1.0; 40]]);
        let at = |x: f64| SeqRun { weights: vec![x, 1.0 - x], merged: flat(3.0 + x, 40), seq: flat(2.0 + 0.4 * x, 40) };
        let runs: Vec<SeqRun> = (0..6).map(|i| at(f64::from(i) / 10.0)).collect();
        let (a, b) = (flat(3.1, 40), flat(3.2, 40));
        // In merges the first is better: 3.1 + 0.09 against 3.2.
        let mixtures = [ScoredMerge { penalty: 0.09, ..merge(&[0.1, 0.9], &a) }, merge(&[0.2, 0.8], &b)];
        let found = confidence(&evidence(&target, &bytes, &mixtures, &runs));
        assert_eq!((found.estimates[0].probability_best, found.estimates[1].told_apart), (1.0, true));
        assert!(found.declares_winner(0));
        // What may not be chosen is never the best.
        let mixtures = [merge(&[0.2, 0.8], &b), ScoredMerge { feasible: false, ..merge(&[0.1, 0.9], &a) }];
        let found = confidence(&evidence(&target, &bytes, &mixtures, &runs));
        assert_eq!((found.estimates[0].probability_best, &found.not_told_apart[..]), (1.0, &[0][..]));
    }
}
