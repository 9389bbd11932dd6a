//! Windows of training and of evaluation.

use super::{ramp, refused, temp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stockpot::engine::data::*;
use stockpot::engine::ops::IGNORED;

#[test]
fn an_epoch_visits_every_window_once() {
    let order = WindowOrder::new(3, 101);
    let all: Vec<u64> = (0..101).collect();
    let epochs: Vec<Vec<u64>> = (0..4).map(|e| order.epoch(e)).collect();
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, all);
    }
    assert_eq!(epochs.iter().collect::<BTreeSet<_>>().len(), 4, "two epochs are equal");
    assert_ne!(WindowOrder::new(4, 101).epoch(0), epochs[0]);
    let endless = epochs.concat();
    assert_eq!(order.places(0..404), endless);
    for places in [0..1, 100..102, 50..350, 7..7] {
        assert_eq!(order.places(places.clone()), &endless[places.start as usize..places.end as usize]);
    }
    // Fixed for good: a change here would change every run.
    assert_eq!(WindowOrder::new(1, 8).epoch(0), [6, 1, 0, 7, 5, 4, 2, 3]);
}

#[test]
fn windows_are_the_tokens_and_the_tokens_shifted_by_one() {
    let dir = temp();
    // 279 tokens hold 39 windows of 7: the last target is token 39 * 7 = 273, and 5 tokens stay
    // unused.
    let shard = ramp(&dir.path().join("s"), 279);
    assert_eq!((windows_in(279, 7), windows_in(8, 7), windows_in(7, 7), windows_in(0, 7)), (39, 1, 0, 0));
    let stream = Stream::new(vec![(shard, 39, 5)], 7, 6).unwrap();
    let (mut inputs, mut targets) = (vec![0; 39 * 7], vec![0; 39 * 7]);
    stream.fill(0, &mut inputs, &mut targets);
    for k in 0..39 {
        let (member, window) = stream.window(k as u64);
        let expected: Vec<u32> = (1..=8).map(|j| window as u32 * 7 + j).collect();
        assert_eq!(member, 0);
        assert_eq!((&inputs[k * 7..k * 7 + 7], &targets[k * 7..k * 7 + 7]), (&expected[..7], &expected[1..]));
    }
    let mut sorted = inputs.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=39 * 7).collect::<Vec<u32>>(), "every token is an input once an epoch");
    assert_ne!(sorted, inputs);
    // A run that resumes at window 11 sees what an uninterrupted one saw there.
    let (mut later, mut later_targets) = (vec![0; 3 * 7], vec![0; 3 * 7]);
    stream.fill(11, &mut later, &mut later_targets);
    assert_eq!((&later[..], &later_targets[..]), (&inputs[77..98], &targets[77..98]));
}

#[test]
fn a_union_has_exactly_the_windows_of_its_modules() {
    let dir = temp();
    let shards: Vec<Arc<Shard>> = (0..3).map(|i| ramp(&dir.path().join(i.to_string()), 200 + 20 * i)).collect();
    // Context 10 gives 19, 21 and 23 windows: less than an epoch, exactly one, and two and a half.
    let members: Vec<(Arc<Shard>, u64, u64)> =
        shards.iter().zip([13, 21, 57]).zip(100..).map(|((s, n), seed)| (s.clone(), n, seed)).collect();
    let visits = |stream: &Stream, member: usize| {
        let mut counts = BTreeMap::<u64, u32>::new();
        for (of, window) in (0..stream.len()).map(|k| stream.window(k)) {
            if of == member {
                *counts.entry(window).or_default() += 1;
            }
        }
        counts
    };
    let union = Stream::new(members.clone(), 10, 1).unwrap();
    assert_eq!(union.len(), 13 + 21 + 57);
    for (i, member) in members.iter().enumerate() {
        let module = Stream::new(vec![member.clone()], 10, 2).unwrap();
        assert_eq!(visits(&union, i), visits(&module, 0), "member {i}");
    }
    assert_eq!(visits(&union, 0).len(), 13);
    assert!(visits(&union, 1).values().all(|&n| n == 1) && visits(&union, 1).len() == 21);
    let upsampled = visits(&union, 2);
    assert!(upsampled.len() == 23 && upsampled.values().all(|&n| n == 2 || n == 3));
    // Members are mixed, not one after another, and another seed mixes them differently.
    let sequence = |stream: &Stream| (0..stream.len()).map(|k| stream.window(k)).collect::<Vec<_>>();
    let first_half: BTreeSet<usize> = sequence(&union)[..45].iter().map(|w| w.0).collect();
    assert_eq!(first_half.len(), 3);
    assert_eq!(sequence(&union), sequence(&Stream::new(members.clone(), 10, 1).unwrap()));
    assert_ne!(sequence(&union), sequence(&Stream::new(members, 10, 3).unwrap()));
}

#[test]
fn base_units_divide_the_windows_of_their_partition() {
    let dir = temp();
    let shard = ramp(&dir.path().join("s"), 121);
    let unit =
        |windows| Stream::from_members(vec![StreamMember { shard: shard.clone(), windows, order_seed: 9 }], 10, 0);
    let visited = |stream: Stream| (0..stream.len()).map(|k| stream.window(k).1).collect::<Vec<_>>();
    let mut all: Vec<u64> = (0..3).flat_map(|i| visited(unit(4 * i..4 * i + 4).unwrap())).collect();
    all.sort_unstable();
    assert_eq!(all, (0..12).collect::<Vec<u64>>());
}

#[test]
fn impossible_runs_are_refused() {
    let dir = temp();
    let shard = ramp(&dir.path().join("tiny"), 10);
    refused(Stream::new(vec![(shard.clone(), 1, 0)], 10, 0), &["tiny", "at least 11 tokens", "10 tokens"]);
    assert_eq!(Stream::new(vec![(shard.clone(), 1, 0)], 9, 0).unwrap().len(), 1);
    refused(Stream::new(vec![(shard.clone(), 0, 0)], 9, 0), &["no training windows"]);
    refused(Stream::new(vec![], 9, 0), &["no training windows"]);
    refused(Stream::new(vec![(shard, 1, 0)], 0, 0), &["context"]);
}

#[test]
fn every_token_is_scored_once() {
    for context in [1, 2, 7, 64] {
        for n in [0, 1, context - 1, context, context + 1, 3 * context, 5 * context + 3] {
            let tokens: Vec<u32> = (1..=n as u32).collect();
            let (mut inputs, mut targets) = (vec![99; context], vec![99; context]);
            let mut scored = Vec::new();
            for window in eval_windows(n, context) {
                assert!(!window.is_empty());
                fill_eval_window(&tokens, window.clone(), 1000, &mut inputs, &mut targets);
                assert_eq!(inputs[0], 1000, "a window starts with the EOS");
                for at in 0..context {
                    if at < window.len() {
                        scored.push(targets[at]);
                        let before = if at == 0 { 1000 } else { tokens[window.start + at - 1] };
                        assert_eq!(inputs[at], before);
                    } else {
                        assert_eq!((inputs[at], targets[at]), (1000, IGNORED));
                    }
                }
            }
            assert_eq!(scored, tokens, "n {n}, T {context}");
        }
    }
}
