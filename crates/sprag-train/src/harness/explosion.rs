//! Notices early that a training run is lost, so that it does not spend the rest of its budget.

/// Watches the loss of each step.
#[derive(Debug, Default)]
pub(super) struct Explosion {
    first: Option<f32>,
    /// Steps in a row with a loss far above the first.
    high: u32,
}

/// A loss this many times the first, for [`PATIENCE`] steps in a row, is an explosion.
const FACTOR: f32 = 3.0;
/// A single bad batch, or a rough start, is not one.
const PATIENCE: u32 = 5;

impl Explosion {
    /// `Err` with the reason when training should end.
    pub(super) fn check(&mut self, loss: f32) -> Result<(), String> {
        if !loss.is_finite() {
            return Err(format!("the loss is {loss}"));
        }
        let first = *self.first.get_or_insert(loss);
        self.high = if loss > FACTOR * first { self.high + 1 } else { 0 };
        if self.high >= PATIENCE {
            return Err(format!("the loss is {loss:.1} nats a token, after {first:.1} in the first step"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_stops_at_once() {
        assert!(Explosion::default().check(f32::NAN).is_err());
        assert!(Explosion::default().check(f32::INFINITY).is_err());
    }

    #[test]
    fn a_loss_that_stays_far_above_the_first_stops() {
        let mut explosion = Explosion::default();
        let checks: Vec<bool> = [8.0, 30.0, 30.0, 30.0, 30.0, 30.0]
            .into_iter()
            .map(|loss| explosion.check(loss).is_ok())
            .collect();
        assert_eq!(checks, [true, true, true, true, true, false]);
    }

    #[test]
    fn a_spike_that_passes_does_not_stop() {
        let mut explosion = Explosion::default();
        let losses = [8.0, 40.0, 40.0, 7.0, 40.0, 40.0, 40.0, 6.0];
        assert!(losses.into_iter().all(|loss| explosion.check(loss).is_ok()));
    }
}
