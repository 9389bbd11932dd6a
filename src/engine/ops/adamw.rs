//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in one pass over the arenas, in the order
//! of operations of PyTorch's: decay p by lr * weight_decay, then p -= lr / (1 - beta1^t) * m /
//! (sqrt(v) / sqrt(1 - beta2^t) + epsilon). A step whose gradient is not finite changes nothing.

use super::launch_args::{OperandLayout, expect_shape, flag, launch, number, type_of, vector_with_tail};
use super::simd::vectorized;
use super::{GRAD_NORM_OUT, Op, parallel};
use crate::engine::device::{Arg, DType, Element, Host, Launch, Matrix, Operands};
use half::bf16;

/// One update of all P parameters, with the constants that [`AdamWStep`] computed.
pub struct AdamW {
    /// (1, P) f32 master weights
    pub params: Matrix,
    /// (1, P) f32
    pub grads: Matrix,
    /// (1, P) f32 first moment
    pub m: Matrix,
    /// (1, P) f32 second moment
    pub v: Matrix,
    /// (1, P) copy of the new weights in the device's compute type, when that is not f32
    pub compute: Option<Matrix>,
    /// (1, 3) f32 from [`super::GradNorm`]: gradients are multiplied by its clip factor
    pub norm: Matrix,
    /// (1, 3) f32 from [`AdamWStep`]
    pub constants: Matrix,
    /// Decay of the first moment, that of [`AdamWStep`].
    pub beta1: f32,
    /// Decay of the second moment, that of [`AdamWStep`].
    pub beta2: f32,
    /// Added to sqrt(v) / sqrt(1 - beta2^t).
    pub epsilon: f32,
}

/// Elements of [`AdamWStep::constants`].
pub const ADAMW_CONSTANTS: usize = 3;

/// Counts an update and computes the constants that depend on the count. Runs on the device, which
/// knows first whether the update counts: if the gradient is not finite, nothing changes.
pub struct AdamWStep {
    /// (1, 3) f32 from [`super::GradNorm`]
    pub norm: Matrix,
    /// (1, 1) f32 learning rate of this step
    pub rate: Matrix,
    /// (1, 1) u32: t, the number of updates; afterwards it includes this one
    pub updates: Matrix,
    /// (1, 3) f32: 1 - rate * weight_decay, rate / (1 - beta1^t), sqrt(1 - beta2^t), each computed
    /// in f64 and rounded once, as PyTorch does
    pub constants: Matrix,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Decoupled: a step multiplies weights by 1 - rate * weight_decay first.
    pub weight_decay: f32,
}

/// The constants of an update, in the order of `update`.
#[derive(Debug, Clone, Copy)]
struct Constants {
    clip: f32,
    /// 1 - lr * weight_decay
    decay: f32,
    /// 1 - beta1
    grad_weight: f32,
    beta2: f32,
    /// 1 - beta2
    square_weight: f32,
    /// lr / (1 - beta1^t)
    step_size: f32,
    /// sqrt(1 - beta2^t)
    correction: f32,
    epsilon: f32,
}

/// Threads of a block of the kernel, each of which updates eight neighbours.
const BLOCK: usize = 256;

impl AdamW {
    fn check(&self) {
        let p = self.params.cols();
        let state = [("params", &self.params), ("grads", &self.grads), ("m", &self.m), ("v", &self.v)];
        state.into_iter().chain(self.compute.as_ref().map(|c| ("compute", c))).for_each(|(what, m)| {
            expect_shape(what, m, 1, p);
        });
        expect_shape("norm", &self.norm, 1, GRAD_NORM_OUT);
        expect_shape("constants", &self.constants, 1, ADAMW_CONSTANTS);
    }

    fn step<T: Element>(&self, host: &Host, clip: f32, copy: Option<&Matrix>, round: impl Fn(f32) -> T + Sync + Send) {
        let &[decay, step_size, correction] = host.read::<f32>(&self.constants).flat() else { unreachable!("checked") };
        let constants = Constants {
            clip,
            decay,
            grad_weight: one_minus(self.beta1),
            beta2: self.beta2,
            square_weight: one_minus(self.beta2),
            step_size,
            correction,
            epsilon: self.epsilon,
        };
        let take = |m| host.write::<f32>(m).flat();
        let (p, m, v) = (take(&self.params), take(&self.m), take(&self.v));
        let grads = host.read::<f32>(&self.grads).flat();
        let copy: &mut [T] = copy.map_or(&mut [], |copy| host.write(copy).flat());
        let size = parallel::rows_per_chunk(1);
        let mut copies = copy.chunks_mut(size);
        let state = p.chunks_mut(size).zip(m.chunks_mut(size)).zip(v.chunks_mut(size));
        let chunks = state.zip(grads.chunks(size)).map(|(((p, m), v), g)| (p, m, v, g, copies.next())).collect();
        parallel::for_each(chunks, |(p, m, v, g, copy)| {
            vectorized(
                #[inline(always)]
                || update(constants, p, m, v, g),
            );
            if let Some(copy) = copy {
                copy.iter_mut().zip(&*p).for_each(|(copy, &p)| *copy = round(p));
            }
        });
    }
}

/// 1 - beta, computed in f64 and rounded once.
fn one_minus(beta: f32) -> f32 {
    (1.0 - beta as f64) as f32
}

/// All slices have the same length.
#[inline(always)]
fn update(c: Constants, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
    let n = p.len();
    let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
    for i in 0..n {
        let g = g[i] * c.clip;
        m[i] += (g - m[i]) * c.grad_weight;
        v[i] = v[i] * c.beta2 + c.square_weight * g * g;
        let denominator = v[i].sqrt() / c.correction + c.epsilon;
        p[i] = p[i] * c.decay - c.step_size * (m[i] / denominator);
    }
}

impl Op for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn operands(&self) -> Operands {
        let o = Operands::default()
            .update(&self.params)
            .read(&self.grads)
            .update(&self.m)
            .update(&self.v)
            .read(&self.norm)
            .read(&self.constants);
        match &self.compute {
            Some(c) => o.write(c),
            None => o,
        }
    }
    fn flops(&self) -> u64 {
        14 * self.params.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        self.check();
        let norm = host.read::<f32>(&self.norm).flat();
        let (clip, finite) = (norm[1], norm[2]);
        match &self.compute {
            _ if finite == 0.0 => {}
            None => self.step::<f32>(host, clip, None, |x| x),
            Some(copy) if copy.dtype() == DType::F32 => self.step::<f32>(host, clip, Some(copy), |x| x),
            Some(copy) => self.step::<bf16>(host, clip, Some(copy), bf16::from_f32),
        }
    }
    /// Scalars: P, 1 - beta1, beta2, 1 - beta2, epsilon. The clip factor and whether to update are
    /// read from `norm`.
    fn launches(&self) -> Vec<Launch> {
        self.check();
        let p = self.params.cols();
        let mut arenas = vec![&self.params, &self.grads, &self.m, &self.v];
        arenas.extend(&self.compute);
        let layout = OperandLayout {
            grid: [p.div_ceil(8 * BLOCK), 1, 1],
            block: BLOCK as u32,
            shared: 0,
            defines: vec![
                ("HAS_COPY", flag(self.compute.is_some())),
                ("COPY_TYPE", type_of(self.compute.as_ref().unwrap_or(&self.params))),
                ("BLOCK", BLOCK.to_string()),
                vector_with_tail(&arenas),
            ],
        };
        let mut operands = vec![&self.params, &self.grads, &self.m, &self.v, &self.norm, &self.constants];
        operands.extend(&self.compute);
        let constants = [one_minus(self.beta1), self.beta2, one_minus(self.beta2), self.epsilon].map(Arg::F32);
        vec![launch("adamw", "adamw", layout, &operands, [number(p)].into_iter().chain(constants))]
    }
}

impl Op for AdamWStep {
    fn name(&self) -> &'static str {
        "adamw_step"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.norm).read(&self.rate).update(&self.updates).update(&self.constants)
    }
    fn flops(&self) -> u64 {
        0
    }
    fn cpu(&self, host: &Host) {
        if host.read::<f32>(&self.norm).flat()[2] == 0.0 {
            return;
        }
        let updates = &mut host.write::<u32>(&self.updates).flat()[0];
        *updates += 1;
        let (t, rate) = (*updates as f64, host.read::<f32>(&self.rate).flat()[0] as f64);
        host.write::<f32>(&self.constants).flat().copy_from_slice(&[
            (1.0 - rate * self.weight_decay as f64) as f32,
            (rate / (1.0 - (self.beta1 as f64).powf(t))) as f32,
            (1.0 - (self.beta2 as f64).powf(t)).sqrt() as f32,
        ]);
    }
    /// Scalars: beta1, beta2, weight decay.
    fn launches(&self) -> Vec<Launch> {
        let layout = OperandLayout { grid: [1, 1, 1], block: 32, ..OperandLayout::default() };
        let operands = [&self.norm, &self.rate, &self.updates, &self.constants];
        let scalars = [self.beta1, self.beta2, self.weight_decay].map(Arg::F32);
        vec![launch("adamw", "adamw_step", layout, &operands, scalars)]
    }
}
