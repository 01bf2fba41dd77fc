//! Which device a candidate computes on, decided at run time.

use burn::tensor::Device;

use super::Stop;

/// True for the processor.
pub(super) fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// The first device of the kind that the build is for (CUDA, else Metal, else wgpu), or the CPU on all cores where
/// it is for none.
///
/// # Errors
/// The build is for devices of which this machine, or what the sandbox lets it see, has none.
pub(super) fn choose() -> Result<Device, Stop> {
    #[cfg(feature = "cuda")]
    return present(burn::tensor::DeviceType::Cuda, "cuda").map(|()| Device::cuda(0));
    #[cfg(all(feature = "metal", not(feature = "cuda")))]
    return present(burn::tensor::DeviceType::Metal, "metal").map(|()| Device::metal(BEST));
    #[cfg(all(feature = "wgpu", not(any(feature = "cuda", feature = "metal"))))]
    return present(burn::tensor::DeviceType::Wgpu, "wgpu").map(|()| Device::wgpu(BEST));
    #[cfg(not(any(feature = "cuda", feature = "metal", feature = "wgpu")))]
    return Ok(Device::flex());
}

/// A discrete card before an integrated one, and both before what only stands for one.
#[cfg(any(feature = "metal", feature = "wgpu"))]
const BEST: burn::tensor::DeviceKind = burn::tensor::DeviceKind::DefaultDevice;

#[cfg(any(feature = "cuda", feature = "metal", feature = "wgpu"))]
fn present(kind: burn::tensor::DeviceType, feature: &str) -> Result<(), Stop> {
    if !Device::enumerate(kind).is_empty() {
        return Ok(());
    }
    Err(Stop::GaveUp(format!(
        "it was built for {feature}, and no such device can be seen from here; look at the driver and at \
         `[sandbox] devices`, or build without that feature to compute on the processor"
    )))
}
