//! The images of workers whose `ModelDeployment` names none.

use lamplighter_api::Device;

/// One for each device: a program with code for GPUs is a gigabyte of libraries larger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Images {
    /// For the processor.
    pub cpu: String,
    /// For GPUs, if the operator was installed with one.
    pub cuda: Option<String>,
}

impl Images {
    /// The one for a device.
    pub fn of(&self, device: Device) -> Option<&str> {
        match device {
            Device::Cpu => Some(&self.cpu),
            Device::Cuda => self.cuda.as_deref(),
        }
    }
}
