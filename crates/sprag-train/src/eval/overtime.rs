//! What may be late: the allowed overshoot of a budget in seconds, and answers that took longer than answering.
//!
//! Both are one account, for both are time that a candidate can train in.

use std::collections::VecDeque;
use std::time::Duration;

use super::Limits;

/// Latest intervals between requests for batches that count: enough for a median of how long a step takes now.
const INTERVALS: usize = 64;

/// Steps by which a candidate may be late: the one under way when time ran out, and as much again for its end.
const STEPS: f64 = 2.0;

/// Seconds for a byte of logits to be converted and sent, whatever the model: 500 megabytes a second.
const SECONDS_PER_BYTE: f64 = 2e-9;

/// Part of the budget that all answers together may be expected to take at most. A forward pass is a third of
/// a training step, so this is tight only for candidates that trained on fewer tokens than two thirds of what
/// they answer. Answers do not share what they are allowed, so that of a first answer is a twentieth of it.
const EXPECTED_SHARE: f64 = 0.5;

/// How long a candidate takes from one request for a batch to the next.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Duration>);

impl Pace {
    pub(super) fn add(&mut self, interval: Duration) {
        if self.0.len() == INTERVALS {
            self.0.pop_front();
        }
        self.0.push_back(interval);
    }

    fn median(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// By how much a budget of so many seconds may be overdrawn: two steps, within bounds.
    pub(super) fn overshoot(&self, budget: f64, limits: &Limits) -> Duration {
        let most = Duration::try_from_secs_f64(budget * limits.overshoot_fraction).unwrap_or_default();
        self.median().mul_f64(STEPS).min(most).max(limits.least_overshoot)
    }
}

/// The account of answers under a budget in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Seconds that a token may take, besides its logits.
    seconds_per_token: f64,
    /// Bytes of logits of one token.
    bytes_per_token: usize,
    /// Late seconds that count as nothing.
    grace: f64,
    /// Late seconds after these that are still allowed: what training left of the overshoot.
    left: f64,
    late: f64,
}

impl Allowance {
    /// `asked` tokens will be asked for; `trained` are the seconds and tokens of training.
    pub(super) fn new(
        limits: &Limits,
        budget: f64,
        trained: (f64, u64),
        asked: usize,
        vocab_size: usize,
        left: Duration,
    ) -> Self {
        let (seconds, tokens) = trained;
        let most = EXPECTED_SHARE * budget / asked.max(1) as f64;
        Allowance {
            seconds_per_token: (seconds / tokens.max(1) as f64).min(most),
            bytes_per_token: vocab_size * size_of::<f32>(),
            grace: limits.answer_grace.as_secs_f64(),
            left: left.as_secs_f64(),
            late: 0.0,
        }
    }

    /// Takes the wait for one answer. Each stands for itself: what one did not need, another cannot use.
    pub(super) fn take(&mut self, tokens: usize, wait: Duration) {
        let usual = self.seconds_per_token + self.bytes_per_token as f64 * SECONDS_PER_BYTE;
        self.late += (wait.as_secs_f64() - tokens as f64 * usual).max(0.0);
    }

    /// Seconds that count as training.
    pub(super) fn overtime(&self) -> f64 {
        (self.late - self.grace).max(0.0)
    }

    /// Why the answers came too late, if they did.
    pub(super) fn exceeded(&self) -> Option<String> {
        (self.overtime() > self.left).then(|| {
            format!(
                "answers took {:.1} s longer than such answers take: {:.1} s beyond what is left of the allowed overshoot, and training may not go on in them",
                self.late,
                self.overtime() - self.left
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(milliseconds: &[u64]) -> Pace {
        let mut pace = Pace::default();
        milliseconds.iter().for_each(|&interval| pace.add(Duration::from_millis(interval)));
        pace
    }

    #[test]
    fn a_budget_may_be_overdrawn_by_two_steps_within_bounds() {
        let limits = Limits::default();
        let overshoot = |steps: &[u64], budget| pace(steps).overshoot(budget, &limits).as_millis();
        assert_eq!(overshoot(&[700, 600, 9000], 20.0), 1400);
        // Short steps and short budgets: half a second, for a machine that hesitates.
        assert_eq!([overshoot(&[], 20.0), overshoot(&[150; 100], 20.0), overshoot(&[700], 2.0)], [500; 3]);
        assert_eq!(overshoot(&[3000; 5], 20.0), 2000);
        // What counts is how long steps take in the end.
        let slower: Vec<u64> = [[100; 64], [900; 64]].concat();
        assert_eq!(overshoot(&slower, 60.0), 1800);
    }

    fn allowance(trained: (f64, u64), left: u64) -> Allowance {
        Allowance::new(&Limits::default(), 20.0, trained, 40_000, 4096, Duration::from_millis(left))
    }

    #[test]
    fn honest_answers_use_nothing_of_the_account() {
        // As the quickstart's model: 8 windows of 256 tokens at 50 microseconds a token, 100 in training.
        let mut allowance = allowance((20.0, 200_000), 500);
        (0..20).for_each(|_| allowance.take(2048, Duration::from_millis(102)));
        assert_eq!((allowance.overtime(), allowance.exceeded()), (0.0, None));
        // The grace covers a first answer that is slow to get going, or a machine that hesitates.
        allowance.take(2048, Duration::from_millis(1100));
        assert_eq!((allowance.overtime(), allowance.exceeded()), (0.0, None));
    }

    #[test]
    fn one_slow_answer_and_many_slow_answers_are_overtime() {
        let mut one = allowance((20.0, 200_000), 500);
        one.take(2048, Duration::from_secs(2));
        assert!(one.overtime() > 0.7 && one.exceeded().is_some(), "{one:?}");
        let mut all = allowance((20.0, 200_000), 500);
        (0..20).for_each(|_| all.take(2048, Duration::from_millis(400)));
        assert!(all.exceeded().is_some(), "{all:?}");
    }

    #[test]
    fn what_quick_answers_did_not_need_buys_nothing() {
        let mut allowance = allowance((20.0, 200_000), 500);
        (0..1000).for_each(|_| allowance.take(2048, Duration::ZERO));
        allowance.take(2048, Duration::from_secs(2));
        assert!(allowance.exceeded().is_some(), "{allowance:?}");
    }

    #[test]
    fn few_served_tokens_buy_half_of_the_budget_at_most() {
        let mut allowance = allowance((20.0, 16), 500);
        // 40,000 tokens may take 10 seconds, these 2048 a twentieth of it.
        allowance.take(2048, Duration::from_millis(2300));
        assert!(allowance.exceeded().is_some(), "{allowance:?}");
    }

    #[test]
    fn overshoot_of_training_leaves_less_for_answers() {
        let exceeded = [500, 0].map(|left| {
            let mut allowance = allowance((20.0, 200_000), left);
            allowance.take(2048, Duration::from_millis(1400));
            allowance.exceeded().is_some()
        });
        assert_eq!(exceeded, [false, true]);
    }
}
