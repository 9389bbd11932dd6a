//! The software GPU: the shipped program, unmodified, with `--device cuda` on a machine without a
//! GPU. A libcuda.so.1 and a libnvrtc.so of our own take the place of NVIDIA's; their kernels run on
//! the host executor (tests/simt). What they check and model is in gpu.h, their settings are in
//! settings.cpp and nvrtc.cpp.
//!
//! mutants.toml has bugs of src/engine/device that these tests must notice; mutants.py plants them.

mod doctor;
mod failures;
mod mutants;
mod runtime;
mod software_gpu;
mod study;
