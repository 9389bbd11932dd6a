//! The interface of an op: its operands, cost, CPU implementation and kernel launches.

use super::{Access, Host, Launch, Matrix, Operands};

/// Work of one op: bytes moved to and from memory if each operand is accessed once, and flops.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OpCost {
    /// Reads and writes count once, updates twice, scratch not at all.
    pub bytes: u64,
    /// A multiply-add is two.
    pub flops: u64,
}

/// One computation with its operands. Only [`super::Device::run`] computes it.
pub trait Op {
    /// Name of the op, and of its kernel's entry where it has one.
    fn name(&self) -> &'static str;
    /// All operands it reads and writes, including scratch.
    fn operands(&self) -> Operands;
    /// Flops at the operands' shapes; a multiply-add is two.
    fn flops(&self) -> u64;
    /// Bytes and flops at the operands' shapes.
    fn cost(&self) -> OpCost {
        let operands = self.operands();
        let touches = |access| match access {
            Access::Read | Access::Write => 1,
            Access::Update => 2,
            Access::Scratch => 0,
        };
        let moved = |m: &Matrix, access: Access| m.bytes() * touches(access);
        OpCost { bytes: operands.iter().map(|(m, access)| moved(m, *access)).sum(), flops: self.flops() }
    }
    /// Computes on the CPU, in f32, in an order of summation that depends on the shapes alone.
    fn cpu(&self, host: &Host);
    /// The launches of its kernels, in order.
    fn launches(&self) -> Vec<Launch>;
}
