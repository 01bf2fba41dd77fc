//! A curve of bounded size, however many points it is fed.

/// Most points kept.
const CAPACITY: usize = 200;

/// Averages neighbours once it is full, so that its points stay evenly spaced and less noisy.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// x, loss and steps, each a mean.
    points: Vec<[f64; 3]>,
    /// Samples that make one point.
    stride: u32,
    sum: [f64; 3],
    summed: u32,
}

impl Curve {
    pub(super) fn new() -> Self {
        Curve { points: Vec::new(), stride: 1, sum: [0.0; 3], summed: 0 }
    }

    pub(super) fn push(&mut self, sample: [f64; 3]) {
        self.sum.iter_mut().zip(sample).for_each(|(sum, new)| *sum += new);
        self.summed += 1;
        if self.summed < self.stride {
            return;
        }
        self.points.push(self.sum.map(|sum| sum / f64::from(self.summed)));
        (self.sum, self.summed) = ([0.0; 3], 0);
        if self.points.len() == CAPACITY {
            let (pairs, _) = self.points.as_chunks::<2>();
            self.points = pairs.iter().map(|[a, b]| std::array::from_fn(|i| (a[i] + b[i]) / 2.0)).collect();
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// The points so far, x and loss; an unfinished one counts as it is.
    pub(super) fn points(&self) -> Vec<[f64; 2]> {
        self.all().map(|[x, loss, _]| [x, loss]).collect()
    }

    /// Steps at each of the points.
    pub(super) fn steps(&self) -> Vec<f64> {
        self.all().map(|[.., steps]| steps).collect()
    }

    fn all(&self) -> impl Iterator<Item = [f64; 3]> {
        let unfinished = (self.summed > 0).then(|| self.sum.map(|sum| sum / f64::from(self.summed)));
        self.points.iter().copied().chain(unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_are_kept_as_they_are() {
        let mut curve = Curve::new();
        (0..100).for_each(|i| curve.push([f64::from(i), 1.0, 0.0]));
        assert_eq!(curve.points().len(), 100);
        assert_eq!(curve.points()[7], [7.0, 1.0]);
    }

    #[test]
    fn many_points_are_averaged_and_keep_ends_and_mean() {
        let mut curve = Curve::new();
        (0..100_000).for_each(|i| curve.push([f64::from(i), f64::from(100_000 - i), 2.0 * f64::from(i)]));
        let points = curve.points();
        assert!((100..=CAPACITY).contains(&points.len()), "{} points", points.len());
        assert!(points[0][0] < 1000.0 && points[points.len() - 1][0] > 99_000.0);
        assert!(points.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert!(points.iter().all(|[x, y]| (x + y - 100_000.0).abs() < 1e-6));
        let steps = curve.steps();
        assert_eq!(steps.len(), points.len());
        assert!(points.iter().zip(steps).all(|([x, _], step)| (2.0 * x - step).abs() < 1e-6));
    }
}
