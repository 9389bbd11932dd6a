//! The device to compute on: opens any number of devices of one kind, each with its own memory.

use super::Device;
use crate::error::Result;
use std::sync::Arc;

/// Opens devices of one kind. Cheap to clone; threads may share it.
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

    /// One accelerator, which `open` opens again for each piece of work; pieces of work run one
    /// after another.
    pub fn accelerator(open: impl Fn() -> Result<Device> + Send + Sync + 'static) -> Result<DeviceSpec> {
        let name = open()?.name().to_string();
        Ok(DeviceSpec { name, open: Arc::new(open), shared: true })
    }

    /// The kind of device, which determines the bits of results and is part of their keys.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens another device, with its own memory. Fails if the GPU or its compiler cannot be used.
    pub fn open(&self) -> Result<Device> {
        (self.open)()
    }

    /// Whether all work shares one accelerator.
    pub fn is_shared(&self) -> bool {
        self.shared
    }
}
