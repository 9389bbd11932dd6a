//! Cross-entropy of each row of logits with its target, and its gradient in place. The model passes
//! one chunk of rows at a time, so that the logits of a whole batch are never stored.

use super::launch_args::{OperandLayout, expect_shape, flag, launch, number, stride, type_of, vector_with_tail};
use super::simd::{exp_and_sum, max, sum_of_exp, vectorized};
use super::{Op, parallel};
use crate::engine::device::{Arg, Host, Launch, Matrix, Operands};

/// A target that is not scored: its loss is 0 and its gradient is 0.
pub const IGNORED: u32 = u32::MAX;

/// loss = ln(sum of exp(logits)) - logit of the target, for each row. The softmax is over V.
pub struct CrossEntropy {
    /// (R, V); with `gradient_scale`, replaced by (softmax - onehot(target)) * scale
    pub logits: Matrix,
    /// (1, R) u32, below V or [`IGNORED`]
    pub targets: Matrix,
    /// (1, R) f32: nats of each row
    pub losses: Matrix,
    /// `None` leaves the logits unchanged
    pub gradient_scale: Option<f32>,
}

impl CrossEntropy {
    fn check(&self) {
        expect_shape("targets", &self.targets, 1, self.logits.rows());
        expect_shape("losses", &self.losses, 1, self.logits.rows());
    }
}

/// log(sum of exponentials) - logit of the target; a NaN among the logits reaches the sum and so
/// the loss.
#[inline(always)]
fn loss_of(logits: &[f32], target: u32) -> f32 {
    if target == IGNORED {
        return 0.0;
    }
    let top = max(logits);
    nats(sum_of_exp(logits, top), top, logits[target as usize])
}

/// The loss of the row; the row becomes its gradient.
#[inline(always)]
fn loss_and_gradient(logits: &mut [f32], target: u32, scale: f32) -> f32 {
    if target == IGNORED {
        logits.fill(0.0);
        return 0.0;
    }
    let (top, scored) = (max(logits), logits[target as usize]);
    let sum = exp_and_sum(logits, 1.0, top);
    let factor = scale / sum;
    for logit in logits.iter_mut() {
        *logit *= factor;
    }
    logits[target as usize] -= scale;
    nats(sum, top, scored)
}

fn nats(sum: f32, top: f32, scored: f32) -> f32 {
    ((sum as f64).ln() + (top as f64 - scored as f64)) as f32
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        if self.gradient_scale.is_some() { "cross_entropy_gradient" } else { "cross_entropy" }
    }
    fn operands(&self) -> Operands {
        let o = Operands::default();
        let o = if self.gradient_scale.is_some() { o.update(&self.logits) } else { o.read(&self.logits) };
        o.read(&self.targets).write(&self.losses)
    }
    fn flops(&self) -> u64 {
        let per_logit = if self.gradient_scale.is_some() { 5 } else { 3 };
        per_logit * self.logits.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let targets = host.read::<u32>(&self.targets).flat();
        let losses = host.write::<f32>(&self.losses).flat();
        let size = parallel::rows_per_chunk(self.logits.cols());
        let places = targets.chunks(size).zip(losses.chunks_mut(size));
        match self.gradient_scale {
            Some(scale) => {
                let logits = host.write::<f32>(&self.logits).chunks(size);
                parallel::for_each(logits.into_iter().zip(places).collect(), |(mut logits, (targets, losses))| {
                    for (i, (&target, loss)) in targets.iter().zip(losses).enumerate() {
                        *loss = vectorized(
                            #[inline(always)]
                            || loss_and_gradient(logits.row(i), target, scale),
                        );
                    }
                });
            }
            None => {
                let logits = host.read::<f32>(&self.logits);
                parallel::for_each(places.enumerate().collect(), |(chunk, (targets, losses))| {
                    for (i, (&target, loss)) in targets.iter().zip(losses).enumerate() {
                        *loss = vectorized(
                            #[inline(always)]
                            || loss_of(logits.row(chunk * size + i), target),
                        );
                    }
                });
            }
        }
    }
    /// One block a row. Scalars: R, V, stride of the logits, gradient scale (0 when there is no
    /// gradient).
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let (rows, cols) = (self.logits.rows(), self.logits.cols());
        // Two vectors a thread, up to the largest block: it has the fewest rows in flight, so that
        // rows of a large vocabulary stay in L2 until they are read a second time.
        let block = cols.div_ceil(16).next_power_of_two().clamp(32, 1024);
        let layout = OperandLayout {
            grid: [rows, 1, 1],
            block: block as u32,
            shared: 0,
            defines: vec![
                ("TYPE", type_of(&self.logits)),
                ("GRADIENT", flag(self.gradient_scale.is_some())),
                ("BLOCK", block.to_string()),
                vector_with_tail(&[&self.logits]),
            ],
        };
        let scale = Arg::F32(self.gradient_scale.unwrap_or(0.0));
        let scalars = [number(rows), number(cols), stride(&self.logits), scale];
        vec![launch("cross_entropy", "cross_entropy", layout, &[&self.logits, &self.targets, &self.losses], scalars)]
    }
}
