//! Bugs of launches: each row changes what an op passes to its kernels, and a case must then fail.

use super::run;
use crate::cases::{self, Builder, Built, Case};
use crate::simt::{Mode, Simt};
use rayon::prelude::*;
use stockpot::engine::device::{Arg, DType, Host, Launch, Op, Operands};

type Change = fn(&mut Vec<Launch>);

/// An op with other launches.
struct Changed {
    op: Box<dyn Op>,
    change: Change,
}

impl Op for Changed {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn operands(&self) -> Operands {
        self.op.operands()
    }
    fn flops(&self) -> u64 {
        self.op.flops()
    }
    fn cpu(&self, _: &Host) {
        unreachable!("only kernels")
    }
    fn launches(&self) -> Vec<Launch> {
        let mut launches = self.op.launches();
        (self.change)(&mut launches);
        launches
    }
}

/// The report of the change; `None` if it was not noticed.
fn noticed(case: Case, change: Change) -> Option<String> {
    let Case { name, gap, build } = case;
    let build: Builder = Box::new(move |harness| {
        let Built { op, expected } = build(harness);
        Built { op: Box::new(Changed { op, change }), expected }
    });
    let case = Case { name, gap, build };
    [Mode::FORWARD, Mode::HOOKED].into_iter().find_map(|mode| match run(&case, Simt::new(mode), DType::Bf16) {
        Err(message) => Some(message),
        Ok(outputs) => outputs.iter().find_map(|output| output.check(&case).err()),
    })
}

struct Row {
    what: &'static str,
    case: &'static str,
    change: Change,
}

const fn row(what: &'static str, case: &'static str, change: Change) -> Row {
    Row { what, case, change }
}

/// The number among the scalars of a launch.
fn scalar(launch: &mut Launch, i: usize) -> &mut u32 {
    let scalars = launch.args.iter_mut().filter(|arg| !matches!(arg, Arg::Matrix(_)));
    match scalars.into_iter().nth(i) {
        Some(Arg::U32(n)) => n,
        _ => panic!("scalar {i} is a number"),
    }
}

fn swap(launch: &mut Launch, i: usize, j: usize) {
    let first = launch.args.iter().position(|arg| !matches!(arg, Arg::Matrix(_))).expect("a scalar");
    launch.args.swap(first + i, first + j);
}

const ATTENTION: &str = "attention_forward AttentionShape { batch: 2, context: 67, heads: 3, kv_heads: 3, \
                         head_width: 32 } Random gap 8";

const ROWS: &[Row] = &[
    row("embedding_backward: columns of one block", "embedding_backward large 3 x 2064 Random gap 0", |l| {
        l[0].grid[1] = 1
    }),
    row("swiglu_forward: columns of one block", "swiglu_forward large 5 x 1100 Random gap 0", |l| l[0].grid[1] = 1),
    row("swiglu_backward: columns of one block", "swiglu_backward large 5 x 1100 Random gap 0", |l| l[0].grid[1] = 1),
    row("cross_entropy: the last row is left out", "cross_entropy 9 x 8 true Random gap 0", |l| l[0].grid[0] -= 1),
    row("rms_norm_backward: a block more than parts", "rms_norm_backward 65 x 17 true Random gap 0", |l| {
        l[0].grid[0] += 1
    }),
    row("attention: heads and sequences exchanged", ATTENTION, |l| l[0].grid.swap(1, 2)),
    row("attention: a KB of shared memory too little", ATTENTION, |l| l[0].shared_bytes -= 1024),
    row("attention: strides of q and k exchanged", ATTENTION, |l| swap(&mut l[0], 4, 5)),
    row(
        "gemm: strides of a and b exchanged",
        "gemm (136, 72, 200) transposes false true epilogue 0 Random gap 8",
        |l| swap(&mut l[0], 3, 4),
    ),
    row("merge: the last term is left out", "merge 3 pool f32 copy true 2049 Random gap 7", |l| {
        *scalar(&mut l[0], 0) -= 1
    }),
    row("grad_norm: more partial sums than blocks", "grad_norm max 0.5 1025 Random", |l| *scalar(&mut l[1], 0) += 1),
    row("loss_sum: rows without their gap", "loss_sum 34 x 776 accumulate false Random gap 8", |l| {
        *scalar(&mut l[0], 2) = 776
    }),
    row("embedding_forward: strides exchanged", "embedding_forward 34 x 776 Random gap 8", |l| swap(&mut l[0], 2, 3)),
    row(
        "inner_products: the last part is left out",
        "inner_products 5 x 4 x 40003 pool compute accumulate false Random gap 5",
        |l| l[0].grid[1] -= 1,
    ),
    row(
        "inner_products: parts half as long",
        "inner_products 5 x 4 x 40003 pool compute accumulate false Random gap 5",
        |l| *scalar(&mut l[0], 5) /= 2,
    ),
    row("rope: positions do not begin again", "rope 2 x 31 heads 3 x 24 inverse false Random gap 8", |l| {
        *scalar(&mut l[0], 3) *= 2
    }),
    row("adamw: constants of the moments exchanged", "adamw step 1000 copy true 1025 Random", |l| {
        swap(&mut l[0], 1, 3)
    }),
    row("swiglu_backward: strides exchanged", "swiglu_backward 34 x 776 Random gap 8", |l| swap(&mut l[0], 2, 4)),
    row("rms_norm_backward: strides of x and dout exchanged", "rms_norm_backward 34 x 776 true Random gap 8", |l| {
        swap(&mut l[0], 2, 3)
    }),
];

#[test]
fn bugs_in_launches_are_noticed() {
    let unnoticed = ROWS.par_iter().filter(|row| {
        let case = cases::all().into_iter().find(|case| case.name == row.case);
        let case = case.unwrap_or_else(|| panic!("no case is named {}", row.case));
        noticed(case, row.change).inspect(|message| println!("{}: {message}", row.what)).is_none()
    });
    let unnoticed: Vec<_> = unnoticed.map(|row| row.what).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// What attention's kernels write leaves them in pairs, on boundaries of 4 bytes.
const IN_PAIRS: [(&str, usize); 4] =
    [("attention_forward", 3), ("attention_backward", 6), ("attention_backward", 7), ("attention_backward", 8)];

/// On a device, an access off its boundary is a fault.
#[test]
fn vectors_off_their_boundary_are_noticed() {
    let forced: Change = |launches| {
        let defines = launches.iter_mut().flat_map(|launch| &mut launch.defines);
        defines.filter(|(name, _)| *name == "VECTOR").for_each(|(_, value)| *value = "8".into());
    };
    let shifted: Vec<Case> = cases::all().into_iter().filter(|case| case.name.contains("off its boundary")).collect();
    let unnoticed = shifted.into_par_iter().filter_map(|case| {
        let name = case.name.clone();
        // An operand that is never accessed in vectors may begin anywhere.
        let mut harness = crate::harness::Harness::new(Simt::bf16(Mode::FORWARD), case.gap);
        let mut launches = (case.build)(&mut harness).op.launches();
        let before: Vec<_> = launches.iter().map(|launch| launch.defines.clone()).collect();
        forced(&mut launches);
        let same = before == launches.iter().map(|launch| launch.defines.clone()).collect::<Vec<_>>();
        (!same && noticed(case, forced).is_none()).then_some(name)
    });
    let mut unnoticed: Vec<String> = unnoticed.collect();
    let mut in_pairs =
        IN_PAIRS.map(|(op, operand)| format!("{op} with operand {operand} off its boundary, Random")).to_vec();
    unnoticed.sort();
    in_pairs.sort();
    assert_eq!(unnoticed, in_pairs);
}
