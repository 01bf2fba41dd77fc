//! A curve of bounded size, however many points it is fed.

/// Most points kept.
const CAPACITY: usize = 200;

/// Averages neighbours once it is full, so that its points stay evenly spaced and less noisy.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    points: Vec<[f64; 2]>,
    /// Samples that make one point.
    stride: u32,
    sum: [f64; 2],
    summed: u32,
}

impl Curve {
    pub(super) fn new() -> Self {
        Curve { points: Vec::new(), stride: 1, sum: [0.0; 2], summed: 0 }
    }

    pub(super) fn push(&mut self, x: f64, y: f64) {
        self.sum[0] += x;
        self.sum[1] += y;
        self.summed += 1;
        if self.summed < self.stride {
            return;
        }
        self.points.push(self.sum.map(|sum| sum / f64::from(self.summed)));
        (self.sum, self.summed) = ([0.0; 2], 0);
        if self.points.len() == CAPACITY {
            let (pairs, _) = self.points.as_chunks::<2>();
            self.points = pairs.iter().map(|[a, b]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]).collect();
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// The points so far; an unfinished one counts as it is.
    pub(super) fn points(&self) -> Vec<[f64; 2]> {
        let mut points = self.points.clone();
        if self.summed > 0 {
            points.push(self.sum.map(|sum| sum / f64::from(self.summed)));
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_are_kept_as_they_are() {
        let mut curve = Curve::new();
        (0..100).for_each(|i| curve.push(f64::from(i), 1.0));
        assert_eq!(curve.points().len(), 100);
        assert_eq!(curve.points()[7], [7.0, 1.0]);
    }

    #[test]
    fn many_points_are_averaged_and_keep_ends_and_mean() {
        let mut curve = Curve::new();
        (0..100_000).for_each(|i| curve.push(f64::from(i), f64::from(100_000 - i)));
        let points = curve.points();
        assert!((100..=CAPACITY).contains(&points.len()), "{} points", points.len());
        assert!(points[0][0] < 1000.0 && points[points.len() - 1][0] > 99_000.0);
        assert!(points.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert!(points.iter().all(|[x, y]| (x + y - 100_000.0).abs() < 1e-6));
    }
}
