//! Training of a byte-level BPE: from counted words to an ordered list of merges.
//!
//! Why not the `tokenizers` crate's own trainer: it walks hash maps seeded anew in every process, and where two
//! different merges spell the same token, equal queue entries are taken in that order; so the same text may give
//! different merges. It also gives the merge of such a pair a second rank. Here every order is total: words are
//! sorted, ties go to the smaller pair of token ids, and a pair has one rank.
//!
//! The algorithm is that of Sennrich et al. 2016 (arXiv:1508.07909) over bytes: merge the most frequent pair of
//! neighbouring tokens, again and again. Cost: about the number of distinct words, times merges per word.

use std::collections::{BinaryHeap, HashMap, HashSet};

/// A pair of neighbouring token ids.
type Pair = (u32, u32);

/// A vocabulary in id order, and merges in rank order.
pub(super) struct Bpe {
    pub tokens: Vec<String>,
    pub merges: Vec<Pair>,
}

/// A pair seen fewer times than this is not merged: a token that occurs once teaches nothing.
const MIN_COUNT: i64 = 2;

/// Learns merges until there are `vocabulary` tokens or no pair occurs twice. `first` are the tokens before any
/// merge (special tokens and the alphabet); every character of `words` is one of them. `words` are distinct, with
/// their counts.
pub(super) fn train(first: Vec<String>, words: &[(String, u64)], vocabulary: usize) -> Bpe {
    let mut ids: HashMap<String, u32> = first.iter().enumerate().map(|(id, t)| (t.clone(), id as u32)).collect();
    let mut bpe = Bpe { tokens: first, merges: Vec::new() };
    let mut known = HashSet::new();
    let mut corpus = Corpus::new(words, &ids);
    while bpe.tokens.len() < vocabulary {
        let Some(pair) = corpus.most_frequent() else { break };
        let spelling = format!("{}{}", bpe.tokens[pair.0 as usize], bpe.tokens[pair.1 as usize]);
        // Two different pairs may spell one token ("ab"+"c" and "a"+"bc"): they share its id.
        let id = *ids.entry(spelling).or_insert_with_key(|spelling| {
            bpe.tokens.push(spelling.clone());
            bpe.tokens.len() as u32 - 1
        });
        // A pair can come up again when another merge spells one of its halves; its rank stays the first.
        if known.insert(pair) {
            bpe.merges.push(pair);
        }
        corpus.merge(pair, id);
    }
    bpe
}

/// The words as tokens under the merges so far, with the count and the places of every pair.
struct Corpus {
    words: Vec<(Vec<u32>, i64)>,
    counts: HashMap<Pair, i64>,
    /// Words in which a pair may occur: all in which it does, some in which it does no longer.
    places: HashMap<Pair, Vec<u32>>,
    /// (count, pair), with an entry of every pair's present count; entries of past counts are passed over.
    queue: BinaryHeap<(i64, std::cmp::Reverse<Pair>)>,
}

impl Corpus {
    fn new(words: &[(String, u64)], ids: &HashMap<String, u32>) -> Corpus {
        let token = |c: char| ids[c.encode_utf8(&mut [0; 4]) as &str];
        let words = words.iter().map(|(word, count)| (word.chars().map(token).collect(), *count as i64)).collect();
        let mut corpus = Corpus { words, counts: HashMap::new(), places: HashMap::new(), queue: BinaryHeap::new() };
        for (at, (word, count)) in corpus.words.iter().enumerate() {
            for pair in pairs(word) {
                *corpus.counts.entry(pair).or_default() += count;
                corpus.places.entry(pair).or_default().push(at as u32);
            }
        }
        // The heap's order is total, so the order of pushing does not matter.
        corpus.queue = corpus.counts.iter().map(|(&pair, &count)| (count, std::cmp::Reverse(pair))).collect();
        corpus
    }

    /// The pair with the largest count; of equals, the one with the smallest ids.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, std::cmp::Reverse(pair))) = self.queue.pop() {
            if count < MIN_COUNT {
                return None;
            }
            if self.counts[&pair] == count {
                return Some(pair);
            }
        }
        None
    }

    /// Replaces `pair` by the token `id` in every word, from left to right.
    fn merge(&mut self, pair: Pair, id: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut changed = HashSet::new();
        for at in places {
            let (word, count) = &mut self.words[at as usize];
            let merged = replace(word, pair, id);
            if merged.len() == word.len() {
                continue;
            }
            for old in pairs(word) {
                *self.counts.entry(old).or_default() -= *count;
                changed.insert(old);
            }
            for new in pairs(&merged) {
                *self.counts.entry(new).or_default() += *count;
                changed.insert(new);
                if new.0 == id || new.1 == id {
                    self.places.entry(new).or_default().push(at);
                }
            }
            *word = merged;
        }
        self.queue.extend(changed.into_iter().map(|pair| (self.counts[&pair], std::cmp::Reverse(pair))));
    }
}

fn pairs(word: &[u32]) -> impl Iterator<Item = Pair> {
    word.windows(2).map(|w| (w[0], w[1]))
}

fn replace(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        if at + 1 < word.len() && (word[at], word[at + 1]) == pair {
            out.push(id);
            at += 2;
        } else {
            out.push(word[at]);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The definition in plain loops: count every pair of every word anew before each merge.
    fn naive(first: &[String], words: &[(String, u64)], vocabulary: usize) -> Bpe {
        let mut bpe = Bpe { tokens: first.to_vec(), merges: Vec::new() };
        let id = |bpe: &Bpe, token: &str| bpe.tokens.iter().position(|t| t == token).map(|i| i as u32);
        let mut corpus: Vec<Vec<u32>> =
            words.iter().map(|(w, _)| w.chars().map(|c| id(&bpe, &c.to_string()).unwrap()).collect()).collect();
        while bpe.tokens.len() < vocabulary {
            let mut counts = BTreeMap::<Pair, i64>::new();
            for (word, (_, count)) in corpus.iter().zip(words) {
                pairs(word).for_each(|pair| *counts.entry(pair).or_default() += *count as i64);
            }
            let best = counts.into_iter().max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair)));
            let Some((pair, _)) = best.filter(|&(_, count)| count >= MIN_COUNT) else { break };
            let spelling = format!("{}{}", bpe.tokens[pair.0 as usize], bpe.tokens[pair.1 as usize]);
            let token = id(&bpe, &spelling).unwrap_or_else(|| {
                bpe.tokens.push(spelling);
                bpe.tokens.len() as u32 - 1
            });
            if !bpe.merges.contains(&pair) {
                bpe.merges.push(pair);
            }
            corpus.iter_mut().for_each(|word| *word = replace(word, pair, token));
        }
        bpe
    }

    /// Words of two or three letters of the alphabet repeat so much that tokens are spelt in several ways and that
    /// counts tie.
    #[test]
    fn equals_counting_anew_before_each_merge() {
        let mut shared_spellings = 0;
        for seed in 0..20u8 {
            let byte = |i: u8, j: u8| blake3::hash(&[seed, i, j]).as_bytes()[0];
            let letters = 2 + seed % 2;
            let word = |i: u8| (0..1 + byte(i, 0) % 12).map(|j| (b'a' + byte(i, j + 1) % letters) as char).collect();
            let counted: BTreeMap<String, u64> = (0..80).map(|i| (word(i), 1 + byte(i, 99) as u64 % 5)).collect();
            let words: Vec<(String, u64)> = counted.into_iter().collect();
            let first: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
            let (fast, slow) = (train(first.clone(), &words, 150), naive(&first, &words, 150));
            assert_eq!((&fast.tokens, &fast.merges), (&slow.tokens, &slow.merges), "seed {seed}");
            assert!(fast.tokens.len() > 50, "seed {seed}: {} tokens", fast.tokens.len());
            shared_spellings += fast.merges.len() + 3 - fast.tokens.len();
        }
        assert!(shared_spellings > 0, "the case of two pairs that spell one token is not met");
    }
}
