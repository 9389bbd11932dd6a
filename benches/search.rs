//! Seconds and peak memory of the scan of all subsets, for random forms of 20 domains: `cargo bench
//! --bench search`. The last rows are 2^30 subsets of 30 partitions; `-- 24` stops at 24 partitions.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::time::Instant;
use stockpot::search::{Constraints, Form, Landscape, Objective, Target, branch_and_bound, scan};

const DOMAINS: usize = 20;

/// A random form, convex around equal weights, as merged losses are.
fn form(n: usize, random: &mut ChaCha8Rng) -> Form {
    let mut form = Form::zero(n);
    form.constant = 3.0;
    for i in 0..n {
        form.linear[i] = 0.1 * (random.random::<f64>() - 0.5);
        for j in 0..=i {
            let h = 0.02 * random.random::<f64>() + if i == j { 0.05 } else { 0.0 };
            (form.hessian[i * n + j], form.hessian[j * n + i]) = (h, h);
        }
    }
    form
}

/// Peak resident memory in MB, on Linux.
fn peak() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1000.0)
}

fn main() {
    let most = std::env::args().filter_map(|arg| arg.parse().ok()).next_back().unwrap_or(30);
    println!("{} threads, {DOMAINS} domains", rayon::current_num_threads());
    println!("{:>10}  {:>13}  {:>10}  {:>8}  {:>10}", "partitions", "objective", "subsets", "seconds", "peak MB");
    for n in [10, 20, 24, 28, 30].into_iter().filter(|n| *n <= most) {
        for worst in [false, true] {
            let mut random = ChaCha8Rng::seed_from_u64(n as u64);
            let forms: Vec<Form> = (0..DOMAINS).map(|_| form(n, &mut random)).collect();
            let objective = Objective {
                target: Target { name: String::new(), weights: vec![1.0 / DOMAINS as f64; DOMAINS], worst },
                limits: vec![f64::INFINITY; DOMAINS],
                kl: 0.0,
                natural: vec![1.0 / n as f64; n],
            };
            let landscape = Landscape::new(&forms, &objective);
            let begun = Instant::now();
            let best = scan(&landscape, &Constraints::none(n), 10);
            let seconds = begun.elapsed().as_secs_f64();
            let name = if worst { "worst domain" } else { "mean" };
            let memory = peak().map_or("-".into(), |mb| format!("{mb:.0}"));
            println!("{n:>10}  {name:>13}  {:>10.2e}  {seconds:>8.2}  {memory:>10}", (n as f64).exp2());
            assert!(best.len() == 10 && best[0].value <= best[9].value);
        }
    }
    for n in [40, 64, 100].into_iter().filter(|_| most >= 30) {
        let mut random = ChaCha8Rng::seed_from_u64(n as u64);
        let forms: Vec<Form> = (0..DOMAINS).map(|_| form(n, &mut random)).collect();
        let objective = Objective {
            target: Target { name: String::new(), weights: vec![1.0 / DOMAINS as f64; DOMAINS], worst: false },
            limits: vec![f64::INFINITY; DOMAINS],
            kl: 0.0,
            natural: vec![1.0 / n as f64; n],
        };
        let landscape = Landscape::new(&forms, &objective);
        let begun = Instant::now();
        let found = branch_and_bound(&landscape, &Constraints::none(n), 20_000).expect("a subset");
        println!(
            "{n:>10}  branch and bound: {} of {n} partitions, gap {:.1e}, {} relaxations, {:.2} s",
            found.subset.members.count_ones(),
            found.gap,
            found.nodes,
            begun.elapsed().as_secs_f64()
        );
    }
}
