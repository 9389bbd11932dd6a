//! Detection of the driver, the GPUs and NVRTC, and of what is missing to compute on a GPU.

use super::super::nvrtc::{self, Nvrtc};
use crate::error::Error;
use cudarc::driver::{DriverError, result, sys};
use std::path::PathBuf;

/// Compute capability from which bf16 tensor cores and asynchronous copies exist.
const CAPABILITY: (u32, u32) = (8, 0);
/// The CUDA release whose driver functions are used.
const DRIVER: (u32, u32) = (12, 0);

/// Why this machine, or one of its GPUs, cannot compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaMissing {
    /// No libcuda.so.
    Driver,
    /// libcuda.so fails to initialize: the driver's message.
    DriverFails(String),
    /// The CUDA release that the driver supports.
    DriverTooOld((u32, u32)),
    /// The driver lists no GPU.
    Device,
    /// (requested ordinal, number of devices)
    Ordinal(usize, usize),
    /// (device, its compute capability)
    Capability(String, (u32, u32)),
    /// No working NVRTC.
    Nvrtc(nvrtc::NvrtcMissing),
    /// (device, its compute capability, NVRTC's version)
    Architecture(String, (u32, u32), (u32, u32)),
}

impl CudaMissing {
    /// What is missing, as one line without a full stop.
    pub fn what(&self) -> String {
        let dotted = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        match self {
            CudaMissing::Driver => "no NVIDIA driver (libcuda.so) found".into(),
            CudaMissing::DriverFails(why) => format!("the NVIDIA driver fails to initialize: {why}"),
            CudaMissing::DriverTooOld(version) => {
                format!(
                    "the NVIDIA driver supports CUDA {}, but {} or newer is needed",
                    dotted(*version),
                    dotted(DRIVER)
                )
            }
            CudaMissing::Device => "the NVIDIA driver lists no GPU".into(),
            CudaMissing::Ordinal(asked, count) => {
                format!("there is no device cuda:{asked}; there are {count}, starting at cuda:0")
            }
            CudaMissing::Capability(name, capability) => {
                let needed = dotted(CAPABILITY);
                format!(
                    "{name} has compute capability {}, but {needed} (Ampere) or newer is needed",
                    dotted(*capability)
                )
            }
            CudaMissing::Nvrtc(missing) => missing.what(),
            CudaMissing::Architecture(name, capability, version) => {
                let capability = dotted(*capability);
                format!("NVRTC {} does not support {name} (compute capability {capability})", dotted(*version))
            }
        }
    }
    /// What the user can do about it: install, set a variable, choose another device.
    pub fn fix(&self) -> String {
        match self {
            CudaMissing::Driver | CudaMissing::DriverTooOld(_) => {
                "install the NVIDIA driver, 525 or newer (in a container: start it with the GPUs, as with docker run \
                 --gpus all), or use --device cpu"
            }
            CudaMissing::DriverFails(_) => "check nvidia-smi, or use --device cpu",
            CudaMissing::Device => "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu",
            CudaMissing::Ordinal(..) => "choose one that `stockpot doctor` lists",
            CudaMissing::Capability(..) => "use another device, or --device cpu",
            CudaMissing::Nvrtc(missing) => return missing.fix(),
            CudaMissing::Architecture(..) => {
                "pip install --upgrade nvidia-cuda-nvrtc, or set STOCKPOT_NVRTC to a newer one"
            }
        }
        .into()
    }
}

impl From<CudaMissing> for Error {
    fn from(missing: CudaMissing) -> Error {
        Error::usage(missing.what()).fix(missing.fix())
    }
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    /// Index in the driver's list: N of `--device cuda:N`.
    pub ordinal: usize,
    /// Product name from the driver, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability, (major, minor).
    pub capability: (u32, u32),
    /// Total, in bytes.
    pub memory: u64,
}

/// The result of [`look`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaProbe {
    /// The CUDA release that the driver supports.
    pub driver: Option<(u32, u32)>,
    /// Every GPU that the driver lists; empty without a driver.
    pub devices: Vec<FoundDevice>,
    /// Path and (major, minor) version of the NVRTC that compiles kernels.
    pub nvrtc: Option<(PathBuf, (u32, u32))>,
    /// Empty when every device can compute.
    pub missing: Vec<CudaMissing>,
}

/// Probes everything, even if something is missing. Never panics; compiles one empty kernel.
pub fn look() -> CudaProbe {
    let mut missing = vec![];
    let driver = driver_version().map_err(|e| missing.push(e)).ok();
    let devices = if driver.is_some() { devices().map_err(|e| missing.push(e)).ok() } else { None };
    let devices = devices.unwrap_or_default();
    let nvrtc = find_nvrtc(driver).map_err(|e| missing.push(e)).ok();
    for device in &devices {
        if let Err(e) = architecture(device, nvrtc.as_ref()) {
            missing.push(e);
        }
    }
    let nvrtc = nvrtc.map(|nvrtc| (nvrtc.path().to_path_buf(), nvrtc.version()));
    CudaProbe { driver, devices, nvrtc, missing }
}

/// The compiler, the architecture and the name of device `ordinal`, needed to open it.
pub(super) fn ready(ordinal: usize) -> Result<(Nvrtc, String, String), CudaMissing> {
    let driver = driver_version()?;
    let devices = devices()?;
    let device = devices.get(ordinal).ok_or(CudaMissing::Ordinal(ordinal, devices.len()))?;
    if device.capability < CAPABILITY {
        return Err(CudaMissing::Capability(device.name.clone(), device.capability));
    }
    let nvrtc = find_nvrtc(Some(driver))?;
    let architecture = architecture(device, Some(&nvrtc))?.expect("there is an NVRTC");
    Ok((nvrtc, architecture, device.name.clone()))
}

/// The architecture to compile for; `None` without an NVRTC to ask.
fn architecture(device: &FoundDevice, nvrtc: Option<&Nvrtc>) -> Result<Option<String>, CudaMissing> {
    if device.capability < CAPABILITY {
        return Err(CudaMissing::Capability(device.name.clone(), device.capability));
    }
    let Some(nvrtc) = nvrtc else { return Ok(None) };
    let unknown = || CudaMissing::Architecture(device.name.clone(), device.capability, nvrtc.version());
    nvrtc.architecture(device.capability).ok_or_else(unknown).map(Some)
}

fn find_nvrtc(driver: Option<(u32, u32)>) -> Result<Nvrtc, CudaMissing> {
    let nvrtc = Nvrtc::find(driver.map(|(major, _)| major)).map_err(CudaMissing::Nvrtc)?;
    nvrtc.probe().map_err(CudaMissing::Nvrtc)?;
    Ok(nvrtc)
}

/// The CUDA release that the driver supports, if new enough. Must be the first call: every other
/// one panics without libcuda.so.
fn driver_version() -> Result<(u32, u32), CudaMissing> {
    let mut version = 0;
    // SAFETY: (1) the driver's initializers are NVIDIA's own; (2) the pointer is to a live integer.
    unsafe {
        if !sys::is_culib_present() {
            return Err(CudaMissing::Driver);
        }
        sys::cuDriverGetVersion(&mut version).result().map_err(fails)?;
    }
    let version = (version as u32 / 1000, version as u32 % 1000 / 10);
    if version < DRIVER { Err(CudaMissing::DriverTooOld(version)) } else { Ok(version) }
}

/// All GPUs, after [`driver_version`].
fn devices() -> Result<Vec<FoundDevice>, CudaMissing> {
    use sys::CUdevice_attribute as A;
    match result::init() {
        Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(CudaMissing::Device),
        done => done.map_err(fails)?,
    }
    let count = result::device::get_count().map_err(fails)?;
    let device = |ordinal: i32| -> Result<FoundDevice, DriverError> {
        let device = result::device::get(ordinal)?;
        // SAFETY: the driver has just returned the device.
        let attribute = |a: A| unsafe { result::device::get_attribute(device, a) }.map(|n| n as u32);
        let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(device) }? as u64;
        let name = result::device::get_name(device)?;
        Ok(FoundDevice { ordinal: ordinal as usize, name, capability: (major, minor), memory })
    };
    let devices = (0..count).map(device).collect::<Result<Vec<_>, _>>().map_err(fails)?;
    if devices.is_empty() { Err(CudaMissing::Device) } else { Ok(devices) }
}

fn fails(error: DriverError) -> CudaMissing {
    CudaMissing::DriverFails(error.to_string())
}
