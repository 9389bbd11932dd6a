//! A few training steps on the host executor, compared with the CPU device within the error of
//! bf16.

use crate::simt::{Mode, Simt};
use crate::training_on::{self, matches_the_cpu_within_bf16, small, trained};
use stockpot::engine::device::Device;
use stockpot::engine::model::Architecture;

#[test]
fn training_on_kernels_matches_the_cpu_within_bf16() {
    matches_the_cpu_within_bf16(|| Simt::bf16(Mode::FORWARD));
}

#[test]
fn chunks_of_logits_do_not_matter() {
    training_on::chunks_of_logits_do_not_matter(Device::cpu);
    training_on::chunks_of_logits_do_not_matter(|| Simt::bf16(Mode::FORWARD));
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    training_on::a_gradient_that_is_not_finite_changes_nothing(Simt::bf16(Mode::FORWARD));
}

#[test]
fn weights_of_several_uploads_arrive_whole() {
    training_on::weights_of_several_uploads_arrive_whole(Simt::bf16(Mode::FORWARD));
}

#[test]
fn training_has_the_same_bits_in_every_order_and_with_recomputed_activations() {
    let config = small(Architecture::Olmo2, false);
    let one = trained(Simt::bf16(Mode::FORWARD), &config, false);
    for (mode, recompute) in [(Mode::FORWARD, true), (Mode::REVERSE, false), (Mode::EARLY, false)] {
        let other = trained(Simt::bf16(mode), &config, recompute);
        assert!(one.gradient == other.gradient, "{mode:?} recompute {recompute}: different gradients");
        assert!(one.weights == other.weights, "{mode:?} recompute {recompute}: different weights");
        assert!(one.losses == other.losses, "{mode:?} recompute {recompute}: different losses");
    }
}
