//! Where to compute: opens as many devices of one kind as are asked for, each with memory of its own.

use super::Device;
use crate::error::Result;
use std::sync::Arc;

/// How to open devices of one kind. Cheap to clone; threads may share it.
#[derive(Clone)]
pub struct DeviceSpec {
    name: String,
    open: Arc<dyn Fn() -> Result<Device> + Send + Sync>,
    shared: bool,
}

impl DeviceSpec {
    /// This machine's CPU.
    pub fn cpu() -> DeviceSpec {
        DeviceSpec { name: "cpu".into(), open: Arc::new(|| Ok(Device::cpu())), shared: false }
    }

    /// One accelerator that `open` opens, anew for each piece of work; work on it goes one piece after the other.
    pub fn accelerator(open: impl Fn() -> Result<Device> + Send + Sync + 'static) -> Result<DeviceSpec> {
        let name = open()?.name().to_string();
        Ok(DeviceSpec { name, open: Arc::new(open), shared: true })
    }

    /// The kind of device whose bits results are: part of what names them.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens another device, with memory of its own. Fails if the GPU or its compiler cannot be
    /// used.
    pub fn open(&self) -> Result<Device> {
        (self.open)()
    }

    /// Whether all work shares one accelerator.
    pub fn is_shared(&self) -> bool {
        self.shared
    }
}
