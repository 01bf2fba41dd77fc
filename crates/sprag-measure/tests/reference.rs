//! Statistics against values that scipy computed: `reference/scipy_values.py` made `reference/scipy_values.json`.

use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sprag_measure::stats;

/// Reads one part of the reference values.
fn reference<T: DeserializeOwned>(name: &str) -> T {
    let values: serde_json::Value =
        serde_json::from_str(include_str!("reference/scipy_values.json")).unwrap();
    serde_json::from_value(values[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[derive(Deserialize)]
struct Distribution<Point> {
    cdf: Vec<Point>,
    quantile: Vec<Point>,
    #[serde(default = "Vec::new")]
    ln_pdf: Vec<Point>,
}

#[derive(Deserialize)]
struct Trend {
    points: Vec<(f64, f64)>,
    theil_sen: f64,
    mann_kendall_p: f64,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Vec<f64>>,
    sd: f64,
    degrees_of_freedom: usize,
}

#[derive(Deserialize)]
struct Related {
    points: Vec<(f64, f64)>,
    r: f64,
}

/// Fails unless all values are within that part of the expected ones, or that far from them; says which is worst.
#[track_caller]
fn check<Input: Debug>(values: impl IntoIterator<Item = (Input, f64, f64)>, relative: f64, absolute: f64) {
    let mut count = 0;
    let mut worst = (0.0, String::new());
    for (input, value, expect) in values {
        let apart = (value - expect).abs();
        let tolerance = (relative * expect.abs()).max(absolute);
        let excess = if apart == 0.0 { 0.0 } else { apart / tolerance };
        // Not a number is as wrong as can be.
        if excess.is_nan() || excess > worst.0 {
            worst = (excess, format!("{value} instead of {expect} at {input:?}"));
        }
        count += 1;
    }
    assert!(count > 3, "only {count} values");
    assert!(worst.0 <= 1.0, "{:.3} of the tolerance: {}", worst.0, worst.1);
}

#[test]
fn student_t_agrees_with_scipy() {
    let Distribution { cdf, quantile, ln_pdf } = reference::<Distribution<(f64, f64, f64)>>("student_t");
    check(cdf.iter().map(|&(t, df, p)| ((t, df), stats::student_t_cdf(t, df), p)), 1e-10, 0.0);
    let quantiles =
        quantile.iter().map(|&(p, df, t)| ((p, df), stats::student_t_quantile(p, df).unwrap_or(f64::NAN), t));
    // Above one half both sides begin from 1 - p, of which few digits are left; at one half t is zero.
    check(quantiles, 1e-10, 1e-13);
    check(ln_pdf.iter().map(|&(t, df, ln)| ((t, df), stats::student_t_ln_pdf(t, df), ln)), 1e-11, 0.0);
}

#[test]
fn chi_squared_agrees_with_scipy() {
    let Distribution { cdf, quantile, .. } = reference::<Distribution<(f64, f64, f64)>>("chi_squared");
    check(cdf.iter().map(|&(x, df, p)| ((x, df), stats::chi_squared_cdf(x, df), p)), 1e-11, 0.0);
    let quantiles = quantile
        .iter()
        .map(|&(p, df, x)| ((p, df), stats::chi_squared_quantile(p, df).unwrap_or(f64::NAN), x));
    check(quantiles, 1e-10, 0.0);
}

#[test]
fn the_normal_distribution_agrees_with_scipy() {
    let Distribution { cdf, quantile, .. } = reference::<Distribution<(f64, f64)>>("normal");
    check(cdf.iter().map(|&(z, p)| (z, stats::normal_cdf(z), p)), 1e-12, 0.0);
    let quantiles = quantile.iter().map(|&(p, z)| (p, stats::normal_quantile(p).unwrap_or(f64::NAN), z));
    check(quantiles, 1e-12, 1e-15);
}

#[test]
fn trends_agree_with_scipy_and_pymannkendall() {
    let trends: Vec<Trend> = reference("trends");
    let slopes = trends.iter().map(|trend| {
        (trend.points.len(), stats::theil_sen(&trend.points).unwrap_or(f64::NAN), trend.theil_sen)
    });
    check(slopes, 1e-11, 1e-15);
    let values = trends.iter().map(|trend| {
        let samples: Vec<f64> = trend.points.iter().map(|(_, value)| *value).collect();
        (samples.len(), stats::mann_kendall(&samples).unwrap_or(f64::NAN), trend.mann_kendall_p)
    });
    check(values, 1e-11, 0.0);
}

#[test]
fn the_pooled_standard_deviation_agrees_with_numpy() {
    let cases: Vec<Groups> = reference("pooled_sd");
    let pooled = |case: &Groups| stats::pooled_sd(case.groups.iter().map(Vec::as_slice)).unwrap();
    check(cases.iter().map(|case| (case.groups.len(), pooled(case).sd, case.sd)), 1e-11, 0.0);
    for case in &cases {
        assert_eq!(pooled(case).degrees_of_freedom, case.degrees_of_freedom);
    }
}

#[test]
fn correlation_agrees_with_scipy() {
    let cases: Vec<Related> = reference("correlation");
    let r = |case: &Related| stats::correlation(&case.points).unwrap_or(f64::NAN);
    check(cases.iter().map(|case| (case.points.len(), r(case), case.r)), 1e-11, 1e-13);
}
