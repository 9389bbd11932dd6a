//! Memory plans.

use stockpot::engine::device::DType;
use stockpot::engine::model::{Architecture, Batch, Config, MemoryPlan, Table};

#[test]
fn presets_fit_a_gpu_of_80_gb() {
    for (preset, micro, least) in [("130m", 16, 10e9), ("1b", 8, 30e9)] {
        let config = Config::preset(preset, Architecture::Olmo2, 50_304, 0).expect("a preset");
        let micro = Batch { batch: micro, context: config.context };
        let plan = |recompute| {
            MemoryPlan::of_training(&config, DType::Bf16, micro, 4 * micro.batch, recompute).expect("kernels for it")
        };
        let bytes = plan(false).total() as f64;
        assert!(least < bytes && bytes < 80e9, "{preset}: {}", plan(false));
        assert!(plan(true).activations * 3 < plan(false).activations, "{preset}: {}", plan(true));
        // Six bytes per weight, twelve for its gradient and moments.
        let parameters = Table::new(&config).len as u64;
        assert!(plan(true).weights.abs_diff(6 * parameters) < 1 << 21, "{preset}");
        assert!(plan(true).optimizer.abs_diff(12 * parameters) < 1 << 21, "{preset}");
    }
    let mut config = Config::preset("tiny", Architecture::Olmo2, 300, 0).expect("a preset");
    (config.width, config.heads, config.kv_heads, config.head_width) = (272, 2, 2, 136);
    let refused = MemoryPlan::of_evaluation(&config, DType::Bf16, 64).expect_err("no kernel for this width");
    assert!(refused.to_string().contains("heads of width 136"), "{refused}");
    MemoryPlan::of_evaluation(&config, DType::F32, 64).expect("the CPU takes any");
}
