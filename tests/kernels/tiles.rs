//! The matrix product's kernel with each tile. Shapes as small as those of tests/support/cases.rs
//! all get the smallest tile; here each tile of the table is used, with rows on 16-byte boundaries
//! whose ends are not whole vectors, on the host executor (gemm.rs) and on a GPU (cuda.rs). All
//! must give the same bits.

use crate::harness::Harness;
use crate::reference;
use stockpot::engine::device::{Device, Host, Launch, Op, Operands};
use stockpot::engine::ops::{Epilogue, Gemm, GemmTile};

/// A product with the given tile, whatever its shape.
struct Tiled(Gemm, &'static GemmTile);

impl Op for Tiled {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn operands(&self) -> Operands {
        self.0.operands()
    }
    fn flops(&self) -> u64 {
        self.0.flops()
    }
    fn cpu(&self, _: &Host) {
        unreachable!("only the kernel")
    }
    fn launches(&self) -> Vec<Launch> {
        vec![self.0.launch_with(self.1)]
    }
}

/// One more than a whole vector, so that with a gap of 7 every row begins on a boundary. Several
/// tiles both ways, even of the largest tile, and more steps along k than any tile has stages.
const SHAPE: (usize, usize, usize) = (137, 265, 329);
const GAP: usize = 7;

/// The three layouts of a training step and the fourth, each with an epilogue: forward into the
/// residual stream, gradient of the input, gradient of a weight, and a product in f32.
pub const LAYOUTS: [(bool, bool); 4] = [(false, true), (false, false), (true, false), (true, true)];

/// Sums in f32; bf16 outputs have one more rounding, of at most half a unit in the last of 8 bits.
const BOUND_F32: f64 = 2e-6;
const BOUND_BF16: f64 = 1.01 / 256.0;

/// C of a product on `device`, after comparison with the reference.
pub fn product(tile: &'static GemmTile, (ta, tb): (bool, bool), device: Device) -> Vec<u32> {
    let (m, n, k) = SHAPE;
    let mut harness = Harness::new(device, GAP);
    let numbers = |salt: usize, n: usize| (0..n).map(|i| ((i * i + salt) % 251) as f64 / 128.0 - 1.0).collect();
    let [a, b, r] = [(1, m * k), (2, k * n), (3, m * n)].map(|(salt, n)| harness.rounded(numbers(salt, n)));
    let mut expected = reference::gemm(&a, &b, SHAPE, ta, tb);
    let (a_rows, a_cols) = if ta { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if tb { (n, k) } else { (k, n) };
    let (a, b) = (harness.input("a", a_rows, a_cols, &a), harness.input("b", b_rows, b_cols, &b));
    let (c, epilogue, bound) = match (ta, tb) {
        (false, true) => {
            (harness.output("c", m, n), Epilogue::Residual(harness.input("residual", m, n, &r)), BOUND_BF16)
        }
        (false, false) => (harness.output("c", m, n), Epilogue::Store, BOUND_BF16),
        (true, false) => (harness.update_f32("c", m, n, &r), Epilogue::Accumulate, BOUND_F32),
        (true, true) => (harness.output_f32("c", m, n), Epilogue::Store, BOUND_F32),
    };
    if !matches!(epilogue, Epilogue::Store) {
        expected.iter_mut().zip(&r).for_each(|(x, r)| *x += r);
    }
    let op = Tiled(Gemm { a, b, c, transpose_a: ta, transpose_b: tb, epilogue }, tile);
    assert!(op.launches()[0].defines.contains(&("VECTOR", "8".into())), "rows on boundaries");
    let (_, c) = harness.run(&op).into_iter().next().expect("C");
    let largest = expected.iter().fold(0.1f64, |a, b| a.max(b.abs()));
    for (i, (&got, want)) in c.iter().zip(&expected).enumerate() {
        let near = (got - want).abs() <= bound * largest;
        assert!(near, "{tile:?} {ta} {tb}: c[{i}] is {got}, expected {want}");
    }
    c.into_iter().map(|x| (x as f32).to_bits()).collect()
}
