//! Which device a candidate computes on: the best that its build knows, decided at run time.

use burn::tensor::Device;

/// The first of CUDA, Metal and wgpu that this build has, else the CPU on all cores.
pub(super) fn choose() -> Device {
    #[cfg(feature = "cuda")]
    return Device::cuda(0);
    #[cfg(all(feature = "metal", not(feature = "cuda")))]
    return Device::metal(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(all(feature = "wgpu", not(any(feature = "cuda", feature = "metal"))))]
    return Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(not(any(feature = "cuda", feature = "metal", feature = "wgpu")))]
    return Device::flex();
}
