//! The device to compute on: opens any number of CPU devices, each with its own memory, or one
//! accelerator, which stays open from one piece of work to the next.

use super::Device;
use crate::error::Result;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

type Open = dyn Fn() -> Result<Device> + Send + Sync;
/// The open accelerator, while no piece of work has it.
type Idle = Arc<Mutex<Option<Device>>>;

/// Opens devices of one kind. Cheap to clone; threads may share it.
#[derive(Clone)]
pub struct DeviceSpec {
    name: String,
    open: Arc<Open>,
    /// Of an accelerator.
    idle: Option<Idle>,
}

impl DeviceSpec {
    /// This machine's CPU.
    pub fn cpu() -> DeviceSpec {
        DeviceSpec { name: "cpu".into(), open: Arc::new(|| Ok(Device::cpu())), idle: None }
    }

    /// One accelerator. `open` is called now, and again only after a device failed: its context,
    /// compiled kernels and staging memory serve one piece of work after another.
    pub fn accelerator(open: impl Fn() -> Result<Device> + Send + Sync + 'static) -> Result<DeviceSpec> {
        let device = open()?;
        let name = device.name().to_string();
        Ok(DeviceSpec { name, open: Arc::new(open), idle: Some(Arc::new(Mutex::new(Some(device)))) })
    }

    /// The kind of device, which determines the bits of results and is part of their keys.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A device for one piece of work. Fails if the GPU or its compiler cannot be used.
    pub fn open(&self) -> Result<OpenDevice> {
        let idle = self.idle.as_ref().and_then(|idle| idle.lock().unwrap_or_else(PoisonError::into_inner).take());
        let device = idle.map_or_else(|| (self.open)(), Ok)?;
        Ok(OpenDevice { device: Some(device), idle: self.idle.clone() })
    }

    /// Whether all work shares one accelerator.
    pub fn is_shared(&self) -> bool {
        self.idle.is_some()
    }
}

/// A [`Device`] in use by one piece of work. Dropped, an accelerator is idle again, unless it has
/// failed.
pub struct OpenDevice {
    /// `None` only while it is dropped.
    device: Option<Device>,
    idle: Option<Idle>,
}

impl From<Device> for OpenDevice {
    fn from(device: Device) -> OpenDevice {
        OpenDevice { device: Some(device), idle: None }
    }
}

impl Deref for OpenDevice {
    type Target = Device;
    fn deref(&self) -> &Device {
        self.device.as_ref().expect("a device until it is dropped")
    }
}

impl DerefMut for OpenDevice {
    fn deref_mut(&mut self) -> &mut Device {
        self.device.as_mut().expect("a device until it is dropped")
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let (Some(idle), Some(mut device)) = (&self.idle, self.device.take()) else { return };
        // A panic may have left work half queued.
        if !std::thread::panicking() && device.finish().is_ok() {
            *idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
        }
    }
}
