//! NVIDIA cards through CUDA: copies on the card, and products by cuBLAS in single and half precision. Both libraries are
//! loaded when they are there.

use std::sync::Arc;
use std::time::Instant;

use cudarc::cublas::sys::cublasOperation_t;
use cudarc::cublas::{CudaBlas, Gemm, GemmConfig};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DeviceRepr, ValidAsZeroBits};
use half::bf16;

use super::gpu::{Gpu, GpuFigures};
use super::{Effort, Sample};

/// Bytes that are copied.
const COPY_BYTES: usize = 256 << 20;
/// Rows, columns and depth of the products.
const SIDE: i32 = 4096;

/// All cards; or why there are none.
pub fn measure(effort: Effort) -> Result<Vec<Gpu>, String> {
    // SAFETY: only looks whether the library can be loaded.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("CUDA's driver library (libcuda) is not there".to_owned());
    }
    let count = CudaContext::device_count().map_err(|cause| format!("CUDA does not answer: {cause}"))?;
    match count {
        0 => Err("CUDA knows no card".to_owned()),
        count => Ok((0..usize::try_from(count).unwrap_or(0)).map(|ordinal| one(ordinal, effort)).collect()),
    }
}

/// A card that cannot be opened is one, with the reason in the place of its figures.
fn one(ordinal: usize, effort: Effort) -> Gpu {
    let opened = CudaContext::new(ordinal).map_err(|cause| format!("it cannot be opened: {cause}"));
    let name = opened.as_ref().ok().and_then(|context| context.name().ok());
    let name = name.unwrap_or_else(|| format!("card {ordinal}"));
    Gpu {
        management: super::nvml::told(&name),
        name,
        backend: "CUDA".to_owned(),
        driver: "cuBLAS".to_owned(),
        kind: "discrete".to_owned(),
        measured: opened.and_then(|context| figures(&context, effort)),
    }
}

fn figures(context: &Arc<CudaContext>, effort: Effort) -> Result<GpuFigures, String> {
    let stream = context.default_stream();
    let fault = |cause: cudarc::driver::DriverError| format!("the card does not do it: {cause}");
    let from: CudaSlice<u8> = stream.alloc_zeros(COPY_BYTES).map_err(fault)?;
    let mut to: CudaSlice<u8> = stream.alloc_zeros(COPY_BYTES).map_err(fault)?;
    let copy = rate(&stream, effort, 2.0 * COPY_BYTES as f64, &mut || {
        stream.memcpy_dtod(&from, &mut to).map_err(|cause| cause.to_string())
    })?;
    drop((from, to));
    // SAFETY: only looks whether the library can be loaded.
    if !unsafe { cudarc::cublas::sys::is_culib_present() } {
        return Err("the library cuBLAS is not there".to_owned());
    }
    let blas =
        CudaBlas::new(Arc::clone(&stream)).map_err(|cause| format!("cuBLAS does not begin: {cause}"))?;
    let singles = product::<f32>(&stream, &blas, effort, |value| value)?;
    let halves = product::<bf16>(&stream, &blas, effort, bf16::from_f32)?;
    // A copy of nothing much: what handing over costs.
    let small: CudaSlice<u8> = stream.alloc_zeros(16).map_err(fault)?;
    let mut other: CudaSlice<u8> = stream.alloc_zeros(16).map_err(fault)?;
    let mut seconds = Vec::new();
    for _ in 0..effort.goes().max(11) {
        let began = Instant::now();
        stream.memcpy_dtod(&small, &mut other).map_err(fault)?;
        stream.synchronize().map_err(fault)?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(GpuFigures {
        copy_bytes_per_second: copy,
        fp32_flop_per_second: None,
        product_flop_per_second: singles,
        bf16_product_flop_per_second: Some(halves),
        dispatch_seconds: Sample::of(&seconds).ok_or_else(|| "nothing was measured".to_owned())?,
    })
}

/// A square product of numbers that are not 0: of zeros a card draws less power and clocks higher than it can.
fn product<T: DeviceRepr + ValidAsZeroBits + Copy>(
    stream: &Arc<CudaStream>,
    blas: &CudaBlas,
    effort: Effort,
    of: fn(f32) -> T,
) -> Result<Sample, String>
where
    CudaBlas: Gemm<T>,
{
    let count = (SIDE * SIDE) as usize;
    let fault = |cause: cudarc::driver::DriverError| format!("there is no room: {cause}");
    let numbers: Vec<T> = (0..count).map(|at| of(((at * 31 + at / 7) % 255) as f32 / 127.0 - 1.0)).collect();
    let a = stream.clone_htod(&numbers).map_err(fault)?;
    let b = stream.clone_htod(&numbers).map_err(fault)?;
    let mut c = stream.alloc_zeros::<T>(count).map_err(fault)?;
    let config = || GemmConfig {
        transa: cublasOperation_t::CUBLAS_OP_N,
        transb: cublasOperation_t::CUBLAS_OP_N,
        m: SIDE,
        n: SIDE,
        k: SIDE,
        alpha: of(1.0),
        lda: SIDE,
        ldb: SIDE,
        beta: of(0.0),
        ldc: SIDE,
    };
    rate(stream, effort, 2.0 * f64::from(SIDE).powi(3), &mut || {
        // SAFETY: the three matrices have as many numbers as the configuration says.
        unsafe { blas.gemm(config(), &a, &b, &mut c) }.map_err(|cause| cause.to_string())
    })
}

/// Units a second of something that is handed to the card, as often in one go as makes up its time.
fn rate(
    stream: &Arc<CudaStream>,
    effort: Effort,
    units: f64,
    hand_over: &mut dyn FnMut() -> Result<(), String>,
) -> Result<Sample, String> {
    let mut timed = |repeat: u32| -> Result<f64, String> {
        let began = Instant::now();
        for _ in 0..repeat {
            hand_over()?;
        }
        stream.synchronize().map_err(|cause| format!("the card does not end: {cause}"))?;
        Ok(began.elapsed().as_secs_f64())
    };
    timed(1)?;
    let once = timed(1)?;
    let repeat = ((effort.go().as_secs_f64() / once) as u32).clamp(1, 1000);
    let goes: Vec<f64> = (0..effort.goes()).map(|_| timed(repeat)).collect::<Result<_, _>>()?;
    let rates: Vec<f64> = goes.iter().map(|seconds| units * f64::from(repeat) / seconds).collect();
    Sample::of(&rates).ok_or_else(|| "nothing was measured".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a card the reason is told; with one, figures are sound.
    #[test]
    fn cards_are_measured_or_their_absence_is_told() {
        match measure(Effort::Quick) {
            Err(why) => assert!(why.contains("CUDA"), "{why}"),
            Ok(cards) => {
                for card in cards {
                    let figures = card.measured.unwrap_or_else(|why| panic!("{}: {why}", card.name));
                    assert!(figures.copy_bytes_per_second.median > 1e10, "{figures:?}");
                    assert!(figures.product_flop_per_second.median > 1e11, "{figures:?}");
                }
            }
        }
    }
}
