//! Windows of T tokens, for training and for scoring.
//!
//! Training: a shard of N tokens has floor((N-1)/T) disjoint windows; window i has the inputs `[iT,
//! iT+T)` and the same tokens shifted by one as targets. The order of a run is a pure function of
//! its seeds, so the k-th window needs no saved state: a run resumes at a window's number.
//!
//! Scoring: a document's tokens are cut into windows of T. A window's input is the EOS and all its
//! tokens except the last, so every token is a target once.

use crate::engine::data::Shard;
use crate::engine::ops::IGNORED;
use crate::error::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::ops::Range;
use std::sync::Arc;

/// Number of disjoint training windows of `context` inputs in `tokens` tokens; the last target
/// needs one more token.
pub fn windows_in(tokens: u64, context: usize) -> u64 {
    tokens.saturating_sub(1) / context as u64
}

/// The order in which a shard's windows are visited: epoch e is the permutation drawn from (seed,
/// e).
#[derive(Debug, Clone, Copy)]
pub struct WindowOrder {
    seed: u64,
    /// Windows of the shard, at least 1.
    windows: u64,
}

impl WindowOrder {
    /// Panics when `windows` is 0.
    pub fn new(seed: u64, windows: u64) -> WindowOrder {
        assert!(windows > 0, "an order of no windows");
        WindowOrder { seed, windows }
    }

    /// The permutation of epoch `epoch`.
    pub fn epoch(&self, epoch: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..self.windows).collect();
        shuffle(&mut order, self.seed, epoch);
        order
    }

    /// The windows at positions `places` of the endless sequence epoch 0, epoch 1, ...
    pub fn places(&self, places: Range<u64>) -> Vec<u64> {
        let mut windows = Vec::with_capacity((places.end.saturating_sub(places.start)) as usize);
        let mut at = places.start;
        while at < places.end {
            let (epoch, first) = (at / self.windows, at % self.windows);
            let last = self.windows.min(first + (places.end - at));
            windows.extend_from_slice(&self.epoch(epoch)[first as usize..last as usize]);
            at += last - first;
        }
        windows
    }
}

/// Fisher-Yates shuffle with ChaCha8 keyed by `seed`, stream `stream`. Written out, so that the
/// order stays the same if a library changes how it draws.
fn shuffle<T>(items: &mut [T], seed: u64, stream: u64) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(stream);
    for last in (1..items.len()).rev() {
        items.swap(last, below(&mut random, last as u64 + 1) as usize);
    }
}

/// Uniform in [0, n), by Lemire's multiplication with rejection (arXiv:1805.10941).
fn below(random: &mut ChaCha8Rng, n: u64) -> u64 {
    loop {
        let product = random.next_u64() as u128 * n as u128;
        if product as u64 >= n.wrapping_neg() % n {
            return (product >> 64) as u64;
        }
    }
}

/// The windows that a run takes from one shard.
#[derive(Debug, Clone)]
pub struct StreamMember {
    /// At least one window: T + 1 tokens.
    pub shard: Arc<Shard>,
    /// Positions in the shard's own endless order: the first `n` are `0..n`, base unit i of `u`
    /// windows is `i*u..(i+1)*u`. Positions past the shard's number of windows are further epochs.
    pub windows: Range<u64>,
    /// Seed of the shard's own order. A module and the SEQ runs that contain it use the same seed.
    pub order_seed: u64,
}

/// The windows of a run: exactly those of each member, mixed at random. 8 bytes per window.
#[derive(Debug)]
pub struct Stream {
    shards: Vec<Arc<Shard>>,
    context: usize,
    /// (member, window of its shard), in the order of the run.
    order: Vec<(u32, u32)>,
}

impl Stream {
    /// The first `windows` windows of each `(shard, windows, order_seed)`; see
    /// [`Stream::from_members`].
    pub fn new(members: Vec<(Arc<Shard>, u64, u64)>, context: usize, shuffle_seed: u64) -> Result<Stream> {
        let member = |(shard, windows, order_seed)| StreamMember { shard, windows: 0..windows, order_seed };
        Stream::from_members(members.into_iter().map(member).collect(), context, shuffle_seed)
    }

    /// The union of the members' windows, shuffled by `shuffle_seed`. Errors if a shard holds less
    /// than one window of `context` tokens, if there is nothing to train on, or if a shard has more
    /// than 2^32 windows.
    pub fn from_members(members: Vec<StreamMember>, context: usize, shuffle_seed: u64) -> Result<Stream> {
        let mut order = Stream::places(&members, context)?;
        // The members' own orders use the streams from 0 up; the last stream keeps this shuffle
        // independent of them if seeds are equal.
        shuffle(&mut order, shuffle_seed, u64::MAX);
        Ok(Stream { shards: members.into_iter().map(|m| m.shard).collect(), context, order })
    }

    /// As [`Stream::new`], except that each member's windows keep their own order: all windows of a
    /// shard are read once before the first is read again, in a new order. Only the sequence of
    /// members is shuffled.
    pub fn in_epochs(members: Vec<(Arc<Shard>, u64, u64)>, context: usize, shuffle_seed: u64) -> Result<Stream> {
        let member = |(shard, windows, order_seed)| StreamMember { shard, windows: 0..windows, order_seed };
        let members: Vec<StreamMember> = members.into_iter().map(member).collect();
        let places = Stream::places(&members, context)?;
        let mut order: Vec<u32> = places.iter().map(|(member, _)| *member).collect();
        shuffle(&mut order, shuffle_seed, u64::MAX);
        let mut next = vec![0; members.len()];
        for k in 1..members.len() {
            next[k] = next[k - 1] + members[k - 1].windows.end as usize;
        }
        let mut take = |member: u32| {
            next[member as usize] += 1;
            places[next[member as usize] - 1]
        };
        let order = order.into_iter().map(&mut take).collect();
        Ok(Stream { shards: members.into_iter().map(|m| m.shard).collect(), context, order })
    }

    /// (member, window) of all windows: those of the first member in their own order, then those of
    /// the next.
    fn places(members: &[StreamMember], context: usize) -> Result<Vec<(u32, u32)>> {
        if context == 0 {
            return Err(Error::usage("the context length is 0").expected("at least 1 token"));
        }
        let mut order = Vec::new();
        for (number, member) in members.iter().enumerate() {
            let windows = windows_in(member.shard.tokens_len(), context);
            if windows == 0 {
                return Err(Error::input("too little text for one training window")
                    .at(member.shard.directory())
                    .expected(format!("at least {} tokens, for a context of {context}", context + 1))
                    .got(format!("{} tokens", member.shard.tokens_len()))
                    .fix("give the partition more text, or train with a shorter context"));
            }
            if windows > u32::MAX as u64 {
                return Err(Error::input("the shard has more training windows than are supported")
                    .at(member.shard.directory())
                    .expected(format!("at most {}", u32::MAX))
                    .got(windows.to_string())
                    .fix("split the partition"));
            }
            let places = WindowOrder::new(member.order_seed, windows).places(member.windows.clone());
            order.extend(places.into_iter().map(|window| (number as u32, window as u32)));
        }
        if order.is_empty() {
            return Err(Error::usage("the run has no training windows").fix("give it at least one step of one member"));
        }
        Ok(order)
    }

    /// Windows of the run.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> u64 {
        self.order.len() as u64
    }

    /// T.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The run's window `k`: its member, and the window of that member's shard. Panics past the
    /// end.
    pub fn window(&self, k: u64) -> (usize, u64) {
        let (member, window) = self.order[k as usize];
        (member as usize, window as u64)
    }

    /// Fills `inputs` and `targets`, each `(windows, T)`, with consecutive windows of the run from
    /// `first_window` on. Panics if the lengths differ or are not multiples of T, or past the end
    /// of the run.
    pub fn fill(&self, first_window: u64, inputs: &mut [u32], targets: &mut [u32]) {
        let context = self.context;
        assert!(inputs.len() == targets.len() && inputs.len().is_multiple_of(context), "whole windows of {context}");
        let rows = inputs.chunks_exact_mut(context).zip(targets.chunks_exact_mut(context));
        for (k, (inputs, targets)) in (first_window..).zip(rows) {
            let (member, window) = self.window(k);
            let start = window * context as u64;
            self.shards[member].read(start, inputs);
            self.shards[member].read(start + 1, targets);
        }
    }
}

/// The windows in which a document of `tokens` tokens is scored: disjoint, in order, of `context`
/// tokens each except the last. A document without tokens has none.
pub fn eval_windows(tokens: usize, context: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens).step_by(context).map(move |start| start..tokens.min(start + context))
}

/// Fills one row of `inputs` and `targets`, `(T)` each, for scoring `window` of `document`: the
/// input is the EOS and the window's tokens except the last, the targets are the window's tokens.
/// The row is padded with the EOS and [`IGNORED`], which a causal model's score does not depend on.
/// Panics if the window is longer than the row.
pub fn fill_eval_window(document: &[u32], window: Range<usize>, eos: u32, inputs: &mut [u32], targets: &mut [u32]) {
    let tokens = &document[window];
    assert!(inputs.len() == targets.len() && tokens.len() <= inputs.len(), "a window longer than its row");
    inputs.fill(eos);
    targets.fill(IGNORED);
    targets[..tokens.len()].copy_from_slice(tokens);
    if let Some((_, before)) = tokens.split_last() {
        inputs[1..tokens.len()].copy_from_slice(before);
    }
}
