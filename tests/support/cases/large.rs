//! Cases as large as the models' operands: a second group of tiles, a second block of columns, a
//! second turn of each loop over columns. The kernels run them on random numbers and in few modes.
//! And cases whose rows are on boundaries, but not whole vectors.

use super::*;

/// Products with more than a group of 8 tile rows, the last of which is lower.
const PRODUCTS: [(usize, usize, usize); 3] = [(600, 70, 40), (600, 72, 40), (1100, 130, 33)];
/// More columns than one block and than two blocks compute, not a multiple of either.
const WIDE: [(usize, usize); 2] = [(5, 1100), (3, 2064)];
/// More elements than a block of the second kernel has partial sums.
const GRADIENTS: usize = 5_000_000;

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for gap in [0, ALIGNED_GAP] {
        let mut add = |op: &str, name: String, build: Builder| {
            cases.push(Case { name: format!("{op} large {name} Random gap {gap}"), gap, build });
        };
        for shape in PRODUCTS {
            for (ta, tb, epilogue) in [(false, true, 0), (true, false, 4)] {
                let name = format!("{shape:?} transposes {ta} {tb} epilogue {epilogue}");
                add("gemm", name, Box::new(move |harness| gemm(harness, Fill::Random, shape, ta, tb, epilogue)));
            }
        }
        for (r, c) in WIDE {
            type Op = fn(&mut Harness, Fill, usize, usize) -> Built;
            let ops: [(&str, Op); 4] = [
                ("swiglu_forward", swiglu),
                ("swiglu_backward", swiglu_backward),
                ("embedding_forward", embedding),
                ("embedding_backward", embedding_backward),
            ];
            for (name, op) in ops {
                add(name, format!("{r} x {c}"), Box::new(move |harness| op(harness, Fill::Random, r, c)));
            }
        }
        add("rope", "24 x 64".into(), Box::new(|harness| rope(harness, Fill::Random, (1, 3, 24, 64), false)));
    }
    // Rows on 16-byte boundaries whose ends are not whole vectors.
    for (shape, ta, gap) in [((40, 21, 29), false, 3), ((45, 21, 30), true, 3)] {
        for epilogue in 0..5 {
            let name = format!("gemm {shape:?} transposes {ta} {} epilogue {epilogue} Random gap {gap}", !ta);
            let build: Builder = Box::new(move |harness| gemm(harness, Fill::Random, shape, ta, !ta, epilogue));
            cases.push(Case { name, gap, build });
        }
    }
    let build: Builder = Box::new(|harness| cross_entropy(harness, Fill::Random, 9, 513, true));
    cases.push(Case { name: "cross_entropy 9 x 513 true Random gap 7".into(), gap: 7, build });
    let build: Builder = Box::new(|harness| grad_norm(harness, Fill::Random, GRADIENTS, 0.5));
    cases.push(Case { name: format!("grad_norm large {GRADIENTS} Random"), gap: 0, build });
    cases
}
