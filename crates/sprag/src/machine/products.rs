//! Matrix products, to time what arithmetic a machine does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sprag_train::kernels::{Matrix, MatrixMut, Precision, matmul};

/// Matrix products by the kernels that candidates train with, on all threads.
#[derive(Default)]
pub struct Products {
    /// Factors and result, made once a shape.
    factors: RefCell<BTreeMap<[u32; 3], [Vec<f32>; 3]>>,
}

impl Products {
    /// Operations a second over about so long, once for nothing before.
    pub fn rate(&self, shape: [u32; 3], precision: &str, time: Duration) -> Option<f64> {
        let precision = match precision {
            "fp32" => Precision::Fp32,
            // Elsewhere it is emulated or slower than fp32, which says nothing of what the machine can do.
            "bf16" if Precision::fast_bf16().is_some() => Precision::Bf16,
            _ => return None,
        };
        let [m, n, k] = shape.map(|size| size as usize);
        let mut factors = self.factors.borrow_mut();
        let [a, b, out] = factors.entry(shape).or_insert_with(|| {
            let numbers = |count: usize| (0..count).map(|at| ((at % 7) as f32 - 3.0) * 0.1).collect();
            [numbers(m * k), numbers(k * n), vec![0.0; m * n]]
        });
        let mut once = || {
            matmul(MatrixMut::new(out, m, n), Matrix::new(a, m, k), Matrix::new(b, k, n), false, precision);
        };
        once();
        let began = Instant::now();
        let mut count = 0_u32;
        while count == 0 || began.elapsed() < time {
            once();
            count += 1;
        }
        let operations = 2.0 * f64::from(count) * (m * n * k) as f64;
        Some(operations / began.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_timed_in_what_the_processor_multiplies_itself() {
        let products = Products::default();
        let rate = |precision| products.rate([33, 17, 65], precision, Duration::from_millis(1));
        assert!(rate("fp32").is_some_and(|rate| rate > 1e5));
        assert_eq!(rate("bf16").is_some(), Precision::fast_bf16().is_some());
        assert_eq!(rate("fp8"), None);
    }
}
