//! The matrix product's kernel with every tile on the host executor.

use crate::simt::{Mode, Simt};
use crate::tiles::{LAYOUTS, product};
use rayon::prelude::*;
use stockpot::engine::device::{DType, Device};
use stockpot::engine::ops::GEMM_TILES;

fn device(mode: Mode) -> Device {
    Simt::new(mode).device(DType::Bf16)
}

#[test]
fn every_tile_gives_the_same_right_bits_in_every_mode() {
    LAYOUTS.par_iter().for_each(|&layout| {
        let first = product(&GEMM_TILES[0], layout, device(Mode::FORWARD));
        for tile in &GEMM_TILES {
            for mode in Mode::ALL {
                assert!(first == product(tile, layout, device(mode)), "{layout:?} {tile:?} {mode:?}: different bits");
            }
        }
    });
}

/// Shared memory of a block where it is scarcest: sm_86, sm_89, sm_120.
const SHARED_BYTES: usize = 99 << 10;

#[test]
fn every_tile_fits_every_architecture() {
    for tile in &GEMM_TILES {
        assert!(tile.shared_bytes() <= SHARED_BYTES && tile.threads() <= 256, "{tile:?}");
    }
}
