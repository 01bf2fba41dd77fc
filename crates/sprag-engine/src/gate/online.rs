//! How much error each of a run's audits may have, so that all of them together keep a promise.
//!
//! e-LOND (Xu and Ramdas, "Online multiple testing with e-values", AISTATS 2024): audit `t` certifies when its
//! e-value reaches `1 / level(t)` with `level(t) = fdr * gamma(t) * (certified before + 1)`. The expected share of
//! false certifications stays below `fdr`, however the audits depend on each other; they do, because each begins
//! where the last one ended.

use crate::record::Policy;

/// Exponent of the decreasing sequence.
const DECAY: f64 = 1.6;

/// The sum of `t^-1.6` over all `t`: Riemann's zeta function at 1.6.
const ZETA: f64 = 2.285_765_665_680_129_3;

/// Part of the promise spent on audit `audit`, counted from 1; sums to one over all audits.
pub fn gamma(audit: u32) -> f64 {
    f64::from(audit.max(1)).powf(-DECAY) / ZETA
}

/// The level of audit `audit` (counted from 1) after so many certifications: what e-LOND grants, at most
/// [`Policy::audit_alpha`].
pub fn level(audit: u32, certified: u32, policy: &Policy) -> f64 {
    let granted = policy.audit_fdr * gamma(audit) * f64::from(certified + 1);
    granted.min(policy.audit_alpha)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Preset;

    #[test]
    fn the_parts_sum_to_one() {
        let sum: f64 = (1..=2_000_000).map(gamma).sum();
        // The rest of the sum lies between the integrals of t^-1.6 from 2,000,000 and the number after it.
        let rest = 2_000_000.5f64.powf(1.0 - DECAY) / (DECAY - 1.0) / ZETA;
        assert!((sum + rest - 1.0).abs() < 1e-9, "{sum} and {rest}");
    }

    #[test]
    fn success_earns_the_right_to_go_on() {
        let policy = Preset::Balanced.policy();
        assert_eq!(level(1, 0, &policy), policy.audit_alpha);
        assert!(level(6, 0, &policy) < level(6, 5, &policy));
        assert!(level(100, 0, &policy) > 0.0);
        assert!((1..50).all(|audit| level(audit, audit - 1, &policy) <= policy.audit_alpha));
    }
}
