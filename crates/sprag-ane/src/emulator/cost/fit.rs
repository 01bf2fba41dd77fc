//! Rates from rows: least squares of relative errors, no rate below zero; and what each row would be predicted if it had not been
//! there.

use super::{Rates, Work};

/// A measurement that was published: some programs, evaluated one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Work of each evaluation in it, and how many of that.
    pub work: Vec<(Work, f64)>,
    /// Seconds, as published.
    pub seconds: f64,
}

impl Row {
    fn features(&self) -> [f64; 6] {
        let mut sum = [0.0; 6];
        for (work, times) in &self.work {
            sum.iter_mut().zip(work.features()).for_each(|(sum, own)| *sum += own * times);
        }
        sum
    }

    /// Predicted seconds.
    pub fn predicted(&self, rates: &Rates) -> f64 {
        self.features().iter().zip(rates.numbers()).map(|(amount, rate)| amount * rate).sum()
    }
}

/// Fits rates to rows. By coordinates: each rate in turn takes the value that is best given the others, never below zero, which
/// comes to the one minimum that such a problem has.
pub fn fit(rows: &[Row]) -> Rates {
    // Amounts in parts of the seconds that they should explain.
    let scaled: Vec<[f64; 6]> =
        rows.iter().map(|row| row.features().map(|amount| amount / row.seconds)).collect();
    // Rates are of very different sizes: each is fitted in units of its own column.
    let units: Vec<f64> = (0..6)
        .map(|at| scaled.iter().map(|row| row[at] * row[at]).sum::<f64>().sqrt().max(f64::MIN_POSITIVE))
        .collect();
    let mut rates = [0.0; 6];
    for _ in 0..20_000 {
        let before = rates;
        for at in 0..6 {
            let mut along = 0.0;
            for row in &scaled {
                let others: f64 = (0..6)
                    .filter(|other| *other != at)
                    .map(|other| row[other] / units[other] * rates[other])
                    .sum();
                along += row[at] / units[at] * (1.0 - others);
            }
            rates[at] = f64::max(along, 0.0);
        }
        let moved = rates.iter().zip(before).map(|(now, then)| (now - then).abs()).fold(0.0, f64::max);
        if moved < 1e-12 {
            break;
        }
    }
    let mut numbers = [0.0; 6];
    (0..6).for_each(|at| numbers[at] = rates[at] / units[at]);
    Rates::of(numbers)
}

/// What each row is predicted to be by a fit to all others, over what was published.
pub fn left_out(rows: &[Row]) -> Vec<f64> {
    let without = |at: usize| -> Vec<Row> {
        rows.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, row)| row.clone()).collect()
    };
    rows.iter().enumerate().map(|(at, row)| row.predicted(&fit(&without(at))) / row.seconds).collect()
}

/// The middle of absolute relative errors.
pub fn median_error(ratios: &[f64]) -> f64 {
    let mut errors: Vec<f64> = ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    match errors.len() {
        0 => f64::NAN,
        count => (errors[(count - 1) / 2] + errors[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_that_made_the_rows_are_found_again() {
        let truth = Rates::of([1e-4, 6e-14, 0.0, 2e-11, 5e-11, 0.0]);
        let rows: Vec<Row> = (1..20)
            .map(|at| {
                let (a, b) = (f64::from(at), f64::from(at * 7 % 11 + 1));
                let work = Work {
                    convolutions: a * 1e8,
                    products: b * 1e8,
                    surfaces: b * b * 1e5,
                    elements: a * b * 1e4,
                    weight: 1e6 / a,
                    ..Work::default()
                };
                let row = Row { name: String::new(), work: vec![(work, 1.0), (work, 2.0)], seconds: 1.0 };
                Row { seconds: row.predicted(&truth), ..row }
            })
            .collect();
        let found = fit(&rows);
        for (found, truth) in found.numbers().into_iter().zip(truth.numbers()) {
            assert!((found - truth).abs() <= 1e-3 * truth + 1e-16, "{found:e} {truth:e}");
        }
        assert!(median_error(&left_out(&rows)) < 1e-3);
    }
}
