//! Perplexity of a model on documents. A document's n tokens are cut into windows of T; each
//! window's input is EOS followed by the window's first T-1 tokens, so every token is scored once.
//! Sums of nats are kept; ratios are computed last.

use crate::engine::data::{Shard, eval_windows, fill_eval_window};
use crate::engine::device::{Buffer, DType, Device, Pending};
use crate::engine::model::{Activations, Batch, Inputs, Model};
use crate::engine::ops::LossSum;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;

/// One domain's sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainScore {
    /// Documents that were scored.
    pub documents: u64,
    /// Tokens that were scored: all of the documents' own, without EOS.
    pub tokens: u64,
    /// Bytes of the documents' text in UTF-8.
    pub bytes: u64,
    /// Sum of -ln p over the tokens.
    pub nats: f64,
    /// The part of each document, in the order of the shard. What a difference between two models
    /// owes to the choice of documents is computed from these.
    pub document_nats: Vec<f64>,
}

impl DomainScore {
    /// exp(nats per token)
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }
    /// nats / (ln 2 * bytes). Unlike perplexity, comparable between tokenizers.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }
}

/// One forward pass: windows of tokens of the shard, longest first, padded to the longest.
struct ScoringPass {
    windows: Vec<Range<u64>>,
    context: usize,
}

/// Rows of activations for scoring at context length `context`: few enough to stay near a CPU's
/// caches, or enough to fill a GPU. Depends only on the context and the device's compute type,
/// because the bits of a score may depend on how windows are batched.
pub fn rows(context: usize, compute: DType) -> usize {
    context.max(if compute == DType::F32 { 2048 } else { 16384 })
}

/// Scores every document of `shard`. Batches hold windows of similar length; each window is summed
/// in token order, and the windows' sums are added in document order. With `gradient`, (P) f32, the
/// gradient of the sum of all nats is added to it; `acts` are then made for training. `after_pass`
/// is called after each pass is queued, while the device may still compute it, with the device, the
/// number of windows that are done or queued, and the total.
pub fn score(
    device: &mut Device,
    model: &Model,
    acts: &Activations,
    shard: &Shard,
    gradient: Option<&Buffer>,
    after_pass: &mut dyn FnMut(&mut Device, u64, u64),
) -> Result<DomainScore> {
    let (windows, of_document) = windows(shard, model.config.context);
    if windows.is_empty() {
        return Err(Error::input("there is no text to score").got("documents whose `text` is empty"));
    }
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(windows[i].end - windows[i].start));
    let mut nats = vec![0.0f64; windows.len()];
    let inputs = Inputs::new(device, acts.rows())?;
    let sums = device.alloc(DType::F64, acts.rows())?;
    let mut queued: VecDeque<(&[usize], Pending<f64>)> = VecDeque::new();
    let mut rest = &order[..];
    while let Some(&longest) = rest.first() {
        let context = (windows[longest].end - windows[longest].start) as usize;
        let count = (acts.rows() / context).clamp(1, rest.len());
        let (now, later) = rest.split_at(count);
        let pass = ScoringPass { windows: now.iter().map(|&i| windows[i].clone()).collect(), context };
        pass.queue(device, model, acts, shard, gradient, &inputs, &sums)?;
        queued.push_back((now, device.fetch(&sums.slice(0..count))?));
        rest = later;
        // One pass is computed while the next is prepared.
        while queued.len() > usize::from(device.is_asynchronous() && !rest.is_empty()) {
            let Some((windows, sums)) = queued.pop_front() else { break };
            for (&i, sum) in windows.iter().zip(sums.wait()?) {
                nats[i] = sum;
            }
        }
        after_pass(device, (order.len() - rest.len()) as u64, order.len() as u64);
    }
    if let Some(bad) = nats.iter().position(|n| !n.is_finite()) {
        return Err(Error::numeric(format!("the loss of window {bad} of {} is {}", nats.len(), nats[bad]))
            .fix("check the weights for values that are not finite or have grown without bound"));
    }
    let documents = shard.documents();
    let tokens = (0..documents).map(|i| shard.document(i)).map(|d| d.end - d.start).sum();
    let mut document_nats = vec![0.0; documents as usize];
    for (&document, nats) in of_document.iter().zip(&nats) {
        document_nats[document as usize] += nats;
    }
    Ok(DomainScore { documents, tokens, bytes: shard.info().bytes, nats: nats.iter().sum(), document_nats })
}

/// The windows of all documents in order, and the document of each.
fn windows(shard: &Shard, context: usize) -> (Vec<Range<u64>>, Vec<u64>) {
    let of_document = |i: u64| {
        let document = shard.document(i);
        let windows = eval_windows((document.end - document.start) as usize, context);
        windows.map(move |w| (document.start + w.start as u64..document.start + w.end as u64, i))
    };
    (0..shard.documents()).flat_map(of_document).unzip()
}

impl ScoringPass {
    /// Queues the pass; the nats of each window end up in `sums`.
    #[allow(clippy::too_many_arguments)] // those of `score`, and its memory
    fn queue(
        &self,
        device: &mut Device,
        model: &Model,
        acts: &Activations,
        shard: &Shard,
        gradient: Option<&Buffer>,
        on_device: &Inputs,
        sums: &Buffer,
    ) -> Result<()> {
        let shape = Batch { batch: self.windows.len(), context: self.context };
        let (mut inputs, mut targets) = (vec![0; shape.rows()], vec![0; shape.rows()]);
        let rows = inputs.chunks_mut(self.context).zip(targets.chunks_mut(self.context));
        for (window, (inputs, targets)) in self.windows.iter().zip(rows) {
            let mut tokens = vec![0; (window.end - window.start) as usize];
            shard.read(window.start, &mut tokens);
            fill_eval_window(&tokens, 0..tokens.len(), model.config.eos, inputs, targets);
        }
        on_device.upload(device, &inputs, &targets)?;
        match gradient {
            None => model.losses(device, acts, shape, on_device)?,
            Some(gradient) => model.accumulate_gradient(device, acts, gradient, shape, on_device, 1.0)?,
        }
        let losses = acts.losses(shape.rows()).matrix(shape.batch, shape.context);
        device.run(&LossSum { losses, out: sums.slice(0..shape.batch).vector(), accumulate: false })
    }
}
