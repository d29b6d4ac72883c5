//! The GPU, in builds that have code for one.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};

use crate::Device;
use crate::error::EngineError;

/// What the device needs once for all models: its context, and the code that its driver compiles.
static OPENED: Mutex<Option<candle_core::Device>> = Mutex::new(None);

/// Why this build runs nothing on a GPU.
#[derive(Debug, thiserror::Error)]
#[error(
    "this build has no code for GPUs; use the CUDA image (worker.cuda.image of the chart, or \
     spec.worker.image), or set device Cpu (spec.worker.device)"
)]
struct NoCode;

/// The first GPU, after it has run something: a driver that is too old for the code, or a chip that
/// the code is not for, is found only by running it.
pub(crate) fn first_gpu() -> Result<candle_core::Device, EngineError> {
    if !cfg!(feature = "cuda") {
        return Err(unavailable(NoCode));
    }
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.as_ref() {
        return Ok(device.clone());
    }
    let device = open().map_err(unavailable)?;
    *opened = Some(device.clone());
    Ok(device)
}

fn open() -> candle_core::Result<candle_core::Device> {
    let device = candle_core::Device::new_cuda(0)?;
    let ones = Tensor::ones((2, 2), DType::F32, &device)?;
    ones.matmul(&ones)?.gelu_erf()?.flatten_all()?.to_vec1::<f32>()?;
    Ok(device)
}

fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::DeviceUnavailable { device: Device::Cuda, source: Box::new(source) }
}
