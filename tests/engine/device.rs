//! The checks of `Device::run` before an op runs.

use crate::cases;
use crate::harness::Harness;
use std::panic::{AssertUnwindSafe, catch_unwind};
use stockpot::engine::device::{Access, DType, Device};
use stockpot::engine::ops::*;

/// A harness in which all operands of an op overlap.
fn overlapping(mut device: Device) -> Harness {
    let shared = device.alloc(DType::F32, 1 << 22).expect("memory");
    let mut harness = Harness::new(device, 0);
    harness.shared = Some(shared);
    harness
}

#[test]
fn operands_that_overlap_what_is_written_are_refused() {
    for case in cases::all().iter().filter(|case| case.name.contains("Ones") && case.gap == 0) {
        let mut harness = overlapping(Device::cpu());
        let op = (case.build)(&mut harness).op;
        let written_alone = |op: &dyn Op| {
            let shared: Vec<Access> =
                op.operands().iter().filter(|(m, _)| m.dtype() == DType::F32).map(|(_, access)| *access).collect();
            shared.len() == 1 || shared.iter().all(|access| *access == Access::Read)
        };
        if written_alone(&*op) {
            continue; // nothing of its type to overlap with
        }
        let refused = catch_unwind(AssertUnwindSafe(|| harness.device.run(&*op))).expect_err(&case.name);
        let message = refused.downcast_ref::<String>().expect("a message");
        assert!(message.contains("overlap"), "{}: {message}", case.name);
    }
}
