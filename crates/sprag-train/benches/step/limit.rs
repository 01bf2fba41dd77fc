//! What this machine's matrix products reach: the roof under which a training step stays.

use std::time::Instant;

use sprag_train::kernels::{Matrix, MatrixMut, Precision, matmul};

use super::candidate::Config;

/// Operations a second of the best of some square products, on all threads.
pub fn flops_per_second(config: &Config) -> f64 {
    let precision = if config.bf16 { Precision::Bf16 } else { Precision::Fp32 };
    let size = 1536;
    let (a, b) = (vec![0.5_f32; size * size], vec![0.25_f32; size * size]);
    let mut out = vec![0.0; size * size];
    let times = (0..6).map(|_| {
        let began = Instant::now();
        let (a, b) = (Matrix::new(&a, size, size), Matrix::new(&b, size, size));
        matmul(MatrixMut::new(&mut out, size, size), a, b, false, precision);
        began.elapsed().as_secs_f64()
    });
    2.0 * (size as f64).powi(3) / times.fold(f64::MAX, f64::min)
}
