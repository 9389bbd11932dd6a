//! The executor of kernels, tested.
mod simt;

use simt::{Mode, Simt};
use stockpot::device::{Arg, DType, Launch};

#[test]
fn a_sum_over_blocks_is_right_in_every_mode() {
    for mode in Mode::ALL {
        let mut device = Simt::new(mode).with_folder("tests/simt/kernels").device(DType::F32);
        let x = device.alloc(DType::F32, 1000).unwrap();
        device.upload(&x, &(0..1000).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        let _ = (Arg::U32(0), None::<Launch>);
    }
}
