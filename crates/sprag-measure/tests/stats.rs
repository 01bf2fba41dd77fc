//! Statistics against published and computed values, and at their edges.

use sprag_measure::stats::{
    MAD_TO_SD, chi_squared_cdf, chi_squared_quantile, correlation, interval, mann_kendall, mean,
    mean_interval, median, median_absolute_deviation, normal_cdf, normal_quantile, paired_interval,
    pooled_sd, sample_sd, student_t_cdf, student_t_ln_pdf, student_t_quantile, theil_sen,
};

#[track_caller]
fn check(value: f64, expect: f64, relative: f64) {
    assert!((value - expect).abs() <= relative * expect.abs(), "{value} is not {expect}");
}

/// Computed with mpmath 1.3 at 40 digits from the regularised incomplete beta function.
#[test]
fn student_t_agrees_with_an_arbitrary_precision_library() {
    let cdf = [
        (-6.0, 1.0, 0.05256845671125343),
        (-2.0, 1.0, 0.14758361765043326),
        (-0.3, 1.0, 0.40722642092225764),
        (0.001, 1.0, 0.5003183097800805),
        (1.0, 1.0, 0.75),
        (2.776445, 1.0, 0.8899575487843299),
        (12.0, 1.0, 0.9735353239404101),
        (-6.0, 2.0, 0.013335736607712385),
        (-2.0, 2.0, 0.09175170953613698),
        (-0.3, 2.0, 0.3962428304200888),
        (0.001, 2.0, 0.500353553302205),
        (1.0, 2.0, 0.7886751345948129),
        (2.776445, 2.0, 0.9455328463175039),
        (12.0, 2.0, 0.9965635331614208),
        (-6.0, 3.0, 0.004636357446142334),
        (-2.0, 3.0, 0.0696629842794216),
        (-0.3, 3.0, 0.3918816460199595),
        (0.001, 3.0, 0.5003675525152695),
        (1.0, 3.0, 0.8044988905221147),
        (2.776445, 3.0, 0.965402292970298),
        (12.0, 3.0, 0.9993774920996054),
        (-6.0, 4.0, 0.0019412685234802551),
        (-2.0, 4.0, 0.058058261758407795),
        (-0.3, 4.0, 0.38956071413872984),
        (0.001, 4.0, 0.5003749999218751),
        (1.0, 4.0, 0.8130495168499705),
        (2.776445, 4.0, 0.9749999973089543),
        (12.0, 4.0, 0.9998617857257485),
        (-6.0, 9.0, 0.00010124966103382033),
        (-2.0, 9.0, 0.03827641188535052),
        (-0.3, 9.0, 0.38549535187076245),
        (0.001, 9.0, 0.5003880348370133),
        (1.0, 9.0, 0.8282818019310433),
        (2.776445, 9.0, 0.9892372516862976),
        (12.0, 9.0, 0.9999996150056889),
        (-6.0, 30.0, 6.971384383602371e-07),
        (-2.0, 30.0, 0.02731252248149155),
        (-0.3, 30.0, 0.3831230526421764),
        (0.001, 30.0, 0.5003956321167574),
        (1.0, 30.0, 0.8373456922869851),
        (2.776445, 30.0, 0.9953114594250264),
        (12.0, 30.0, 0.999999999999721),
        (-6.0, 0.5, 0.1306546887349994),
        (-2.0, 0.5, 0.22275744509156561),
        (-0.3, 0.5, 0.4224295760652454),
        (0.001, 0.5, 0.5002696761657561),
        (1.0, 0.5, 0.698878389158678),
        (2.776445, 0.5, 0.8093490898553963),
        (12.0, 0.5, 0.907469739465399),
        (-6.0, 120.0, 1.0741519096530204e-08),
        (-2.0, 120.0, 0.02387926367016419),
        (-0.3, 120.0, 0.38234810558759313),
        (0.001, 120.0, 0.5003981119585037),
        (1.0, 120.0, 0.8403386380677894),
        (2.776445, 120.0, 0.9968109739650663),
        (12.0, 120.0, 1.0),
        (-6.0, 5000.0, 1.0560481416526935e-09),
        (-2.0, 5000.0, 0.022777129994146987),
        (-0.3, 5000.0, 0.38209481333472156),
        (0.001, 5000.0, 0.5003989222672859),
        (1.0, 5000.0, 0.841320550205985),
        (2.776445, 5000.0, 0.9972419254182932),
        (12.0, 5000.0, 1.0),
        (-6.0, 30000.0, 9.97883331077713e-10),
        (-2.0, 30000.0, 0.022754631266618107),
        (-0.3, 30000.0, 0.38208961708820344),
        (0.001, 30000.0, 0.5003989388894042),
        (1.0, 30000.0, 0.8413407132567415),
        (2.776445, 30000.0, 0.9972504499650351),
        (12.0, 30000.0, 1.0),
        (-6.0, 1000000.0, 9.869249061772174e-10),
        (-2.0, 1000000.0, 0.022750266925659603),
        (-0.3, 1000000.0, 0.3820886089894971),
        (0.001, 1000000.0, 0.5003989421141755),
        (1.0, 1000000.0, 0.841344625083211),
        (2.776445, 1000000.0, 0.997252102285594),
        (12.0, 1000000.0, 1.0),
    ];
    for (t, degrees_of_freedom, expect) in cdf {
        check(student_t_cdf(t, degrees_of_freedom), expect, 1e-10);
    }
    let quantiles = [
        (0.9, 1.0, 3.0776835371752536),
        (0.95, 1.0, 6.313751514675043),
        (0.975, 1.0, 12.706204736174705),
        (0.995, 1.0, 63.65674116287158),
        (0.9999, 1.0, 3183.098757118151),
        (0.9, 2.0, 1.8856180831641267),
        (0.95, 2.0, 2.9199855803537256),
        (0.975, 2.0, 4.302652729749464),
        (0.995, 2.0, 9.924843200918293),
        (0.9999, 2.0, 70.70007107496427),
        (0.9, 3.0, 1.6377443536962102),
        (0.95, 3.0, 2.3533634348018238),
        (0.975, 3.0, 3.1824463052837095),
        (0.995, 3.0, 5.840909309733357),
        (0.9999, 3.0, 22.203742273204185),
        (0.9, 4.0, 1.5332062740589438),
        (0.95, 4.0, 2.1318467863266504),
        (0.975, 4.0, 2.7764451051977943),
        (0.995, 4.0, 4.604094871349993),
        (0.9999, 4.0, 13.033671720896455),
        (0.9, 7.0, 1.4149239276505086),
        (0.95, 7.0, 1.8945786050900073),
        (0.975, 7.0, 2.3646242515927853),
        (0.995, 7.0, 3.499483297350494),
        (0.9999, 7.0, 7.063432828157514),
        (0.9, 10.0, 1.3721836411103356),
        (0.95, 10.0, 1.8124611228116765),
        (0.975, 10.0, 2.228138851986275),
        (0.995, 10.0, 3.1692726726169513),
        (0.9999, 10.0, 5.693820101457512),
        (0.9, 29.0, 1.311433647301551),
        (0.95, 29.0, 1.6991270265334977),
        (0.975, 29.0, 2.0452296421327043),
        (0.995, 29.0, 2.7563859036706053),
        (0.9999, 29.0, 4.25389411843228),
        (0.9, 1000.0, 1.2823987214609245),
        (0.95, 1000.0, 1.6463788172854648),
        (0.975, 1000.0, 1.9623390808264085),
        (0.995, 1000.0, 2.580754698065951),
        (0.9999, 1000.0, 3.732851604575368),
    ];
    for (p, degrees_of_freedom, expect) in quantiles {
        let t = student_t_quantile(p, degrees_of_freedom).expect("a probability");
        check(t, expect, 1e-10);
        let mirrored = student_t_quantile(1.0 - p, degrees_of_freedom).expect("a probability");
        check(mirrored, -expect, 1e-9);
    }
}

#[test]
fn the_normal_distribution_agrees_with_an_arbitrary_precision_library() {
    let cdf = [
        (-38.0, 2.88542835e-316),
        (-8.0, 6.220960574271784e-16),
        (-3.0001, 0.0013494549132607172),
        (-2.9999, 0.0013503412829549248),
        (-1.96, 0.024997895148220435),
        (-0.1, 0.460172162722971),
        (0.0, 0.5),
        (0.5, 0.6914624612740131),
        (1.6448536269514722, 0.95),
        (3.0, 0.9986501019683699),
        (6.0, 0.9999999990134123),
    ];
    for (z, expect) in cdf {
        check(normal_cdf(z), expect, 1e-12);
    }
    check(normal_quantile(0.975).expect("a probability"), 1.959_963_984_540_054, 1e-12);
}

#[test]
fn cdf_and_quantile_are_inverse() {
    for degrees_of_freedom in [0.3, 1.0, 2.0, 4.5, 29.0, 1e3, 1e6, 1e12, f64::INFINITY] {
        for p in [1e-9, 0.001, 0.025, 0.3, 0.5, 0.7, 0.95, 0.9995] {
            let t = student_t_quantile(p, degrees_of_freedom).expect("a probability");
            check(student_t_cdf(t, degrees_of_freedom), p, 1e-10);
        }
    }
}

#[test]
fn many_degrees_of_freedom_become_the_normal_distribution() {
    for t in [-8.0, -1.5, -0.01, 0.0, 0.7, 2.5] {
        check(student_t_cdf(t, 1e9), normal_cdf(t), 1e-5);
        check(student_t_cdf(t, f64::INFINITY), normal_cdf(t), 0.0);
        // Both sides of where the logarithms are expanded.
        check(student_t_cdf(t, 2e4 - 1.0), student_t_cdf(t, 2e4 + 1.0), 2e-5);
    }
}

#[test]
fn what_is_no_probability_has_no_quantile() {
    for p in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
        assert_eq!(student_t_quantile(p, 3.0), None);
        assert_eq!(normal_quantile(p), None);
    }
    for degrees_of_freedom in [0.0, -1.0, f64::NAN] {
        assert_eq!(student_t_quantile(0.9, degrees_of_freedom), None);
        assert!(student_t_cdf(1.0, degrees_of_freedom).is_nan());
    }
    assert_eq!((student_t_cdf(f64::INFINITY, 2.0), student_t_cdf(f64::NEG_INFINITY, 2.0)), (1.0, 0.0));
    assert!(student_t_cdf(f64::NAN, 2.0).is_nan() && normal_cdf(f64::NAN).is_nan());
}

#[test]
fn no_sample_and_one_sample_are_answers_of_their_own() {
    assert_eq!((mean(&[]), median(&[]), median_absolute_deviation(&[])), (None, None, None));
    assert_eq!((sample_sd(&[]), sample_sd(&[2.0])), (None, None));
    assert_eq!(
        (mean(&[2.0]), median(&[2.0]), median_absolute_deviation(&[2.0])),
        (Some(2.0), Some(2.0), Some(0.0))
    );
    assert_eq!((mean_interval(&[], 0.95), mean_interval(&[2.0], 0.95)), (None, None));
    assert_eq!((paired_interval(&[], 0.95), paired_interval(&[(1.0, 2.0)], 0.95)), (None, None));
    assert_eq!(pooled_sd([&[][..], &[1.0][..]]), None);
    assert_eq!((correlation(&[]), correlation(&[(1.0, 2.0)])), (None, None));
}

#[test]
fn no_spread_is_an_interval_without_width() {
    let same = mean_interval(&[1.1, 1.1, 1.1], 0.95).expect("three samples");
    assert_eq!((same.low, same.estimate, same.high, same.half_width()), (1.1, 1.1, 1.1, 0.0));
    assert!(same.contains(1.1) && !same.contains(1.1000001));
    assert_eq!(correlation(&[(1.0, 5.0), (2.0, 5.0)]), None);
}

#[test]
fn a_level_must_be_a_level() {
    for level in [0.0, 1.0, f64::NAN, 95.0] {
        assert_eq!(mean_interval(&[1.0, 2.0], level), None);
    }
    assert_eq!(interval(0.0, f64::NAN, 3.0, 0.95, 4), None);
}

#[test]
fn spread_survives_a_large_mean() {
    let near = [1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0];
    assert_eq!(mean(&near), Some(1e9 + 10.0));
    assert_eq!(sample_sd(&near), Some(30f64.sqrt()));
}

#[test]
fn the_median_does_not_mind_order_or_one_outlier() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    assert_eq!(median_absolute_deviation(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some(1.0));
    check(MAD_TO_SD, 1.0 / normal_quantile(0.75).expect("a probability"), 1e-12);
}

#[test]
fn pooling_ignores_the_distance_between_groups() {
    let pooled =
        pooled_sd([&[1.0, 3.0][..], &[101.0, 103.0, 105.0], &[7.0]]).expect("two groups with spread");
    assert_eq!(pooled.degrees_of_freedom, 3);
    check(pooled.sd, (10f64 / 3.0).sqrt(), 1e-15);
}

#[test]
fn pairing_removes_what_both_members_share() {
    let pairs = [(10.0, 10.9), (20.0, 21.1), (30.0, 31.0)];
    let paired = paired_interval(&pairs, 0.9).expect("three pairs");
    check(paired.estimate, 1.0, 1e-12);
    // t(0.95, 2) = 2.9199855804; the differences have a standard deviation of 0.1.
    check(paired.half_width(), 2.919_985_580_4 * 0.1 / 3f64.sqrt(), 1e-9);
    assert_eq!((paired.n, paired.level), (3, 0.9));
    check(correlation(&pairs).expect("spread on both sides"), 0.999_962_874, 1e-8);
}

#[test]
fn chi_squared_with_two_degrees_of_freedom_is_exponential() {
    for x in [1e-300_f64, 1e-9, 0.3, 2.0, 5.0, 80.0] {
        check(chi_squared_cdf(x, 2.0), -(-x / 2.0).exp_m1(), 1e-13);
    }
    for p in [1e-12_f64, 0.025, 0.5, 0.975] {
        check(chi_squared_quantile(p, 2.0).unwrap(), -2.0 * (-p).ln_1p(), 1e-12);
    }
}

#[test]
fn chi_squared_answers_at_its_edges() {
    assert_eq!((chi_squared_cdf(0.0, 3.0), chi_squared_cdf(-1.0, 3.0)), (0.0, 0.0));
    assert_eq!((chi_squared_cdf(f64::INFINITY, 3.0), chi_squared_cdf(f64::MAX, 50.0)), (1.0, 1.0));
    // Through a number too small to be told from zero.
    assert_eq!(chi_squared_cdf(1.0, 1e6), 0.0);
    for df in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(chi_squared_cdf(1.0, df).is_nan());
        assert_eq!(chi_squared_quantile(0.5, df), None);
    }
    for p in [0.0, 1.0, -0.5, f64::NAN] {
        assert_eq!(chi_squared_quantile(p, 3.0), None);
    }
}

#[test]
fn the_density_of_student_t_becomes_the_normal_one() {
    let normal = |t: f64| -0.5 * (t * t + (2.0 * std::f64::consts::PI).ln());
    for t in [0.0, 1.3, -4.0] {
        check(student_t_ln_pdf(t, 1e9), normal(t), 1e-7);
        check(student_t_ln_pdf(t, f64::INFINITY), normal(t), 1e-15);
    }
    // A density that is far too small to be written down still has a logarithm.
    check(
        student_t_ln_pdf(1e200, 3.0),
        3.0f64.ln() * 2.0 + (2.0 / std::f64::consts::PI / 3.0f64.sqrt()).ln() - 800.0 * 10f64.ln(),
        1e-12,
    );
    for df in [0.0, -2.0, f64::NAN] {
        assert!(student_t_ln_pdf(1.0, df).is_nan());
    }
}

#[test]
fn no_samples_one_sample_and_no_spread_have_no_trend() {
    assert_eq!((theil_sen(&[]), theil_sen(&[(0.0, 1.0)])), (None, None));
    assert_eq!((mann_kendall(&[]), mann_kendall(&[1.0])), (None, None));
    assert_eq!(mann_kendall(&[2.0, 2.0, 2.0, 2.0]), None);
    assert_eq!(theil_sen(&[(0.0, 2.0), (1.0, 2.0), (5.0, 2.0)]), Some(0.0));
    // Two samples are in some order, which says nothing.
    assert_eq!(mann_kendall(&[1.0, 2.0]), Some(1.0));
}

#[test]
fn a_trend_is_found_whichever_way_it_goes() {
    let rising: Vec<f64> = (0..12).map(|n| f64::from(n * n)).collect();
    let falling: Vec<f64> = rising.iter().map(|value| -value).collect();
    let p = mann_kendall(&rising).unwrap();
    assert!(p < 1e-5);
    assert_eq!(mann_kendall(&falling), Some(p));
}
