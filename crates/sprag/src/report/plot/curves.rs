//! Training curves of a candidate (solid) beside its incumbent's (dashed).

use sprag_engine::record::Budget;

use super::super::model::Curve;
use super::{Frame, Scale, escape, push};

/// The picture; `None` without a curve.
pub fn curves(curves: &[Curve], budget: Budget) -> Option<String> {
    if curves.is_empty() {
        return None;
    }
    let frame = Frame { width: 440.0, height: 230.0, top: 26.0, right: 14.0, bottom: 40.0, left: 48.0 };
    let (left, right) = frame.across();
    let (bottom, top) = frame.up();
    let (divisor, axis) = match budget {
        Budget::Seconds(_) => (1.0, "seconds"),
        Budget::Tokens(_) => (1e6, "million tokens"),
        Budget::Steps(_) => (1.0, "steps"),
        Budget::Evaluations(_) => (1.0, "evaluations"),
    };
    let points = curves.iter().flat_map(|curve| &curve.points);
    let end = points.clone().map(|point| point[0] / divisor).fold(0.0, f64::max);
    let mut losses: Vec<f64> = points.map(|point| point[1]).collect();
    losses.sort_by(f64::total_cmp);
    // The first steps fall from so high that they would flatten the rest: they may leave the picture.
    let high = losses[(losses.len() - 1) * 95 / 100];
    let x = Scale { low: 0.0, high: if end > 0.0 { end } else { 1.0 }, from: left, to: right };
    let y = Scale::padded(losses[0], high, bottom, top, 0.06);
    let mut svg = frame.open("small", "training loss over the budget");
    frame.grid_across(&mut svg, &y, 5);
    frame.axis_name(&mut svg, "training loss (nats a token, reported by the candidate)");
    frame.ticks_below(&mut svg, &x, 5, |tick, decimals| format!("{tick:.decimals$}"));
    frame.axis_below(&mut svg, axis);
    // The candidate is drawn last, on top.
    for candidate in [false, true] {
        for curve in curves.iter().filter(|curve| curve.candidate == candidate) {
            let mut path = String::new();
            for point in curve.points.iter().filter(|point| y.covers(point[1])) {
                let letter = if path.is_empty() { 'M' } else { 'L' };
                let up = y.at(point[1]);
                push(&mut path, format_args!("{letter}{:.1} {up:.1}", x.at(point[0] / divisor)));
            }
            let class = if candidate { "candidate" } else { "parent" };
            let title = format!("trial {}, seed {}", curve.arm, curve.seed);
            push(
                &mut svg,
                format_args!(
                    "<path class=\"curve {class}\" d=\"{path}\"><title>{}</title></path>",
                    escape(&title)
                ),
            );
        }
    }
    svg.push_str("</svg>");
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;

    #[test]
    fn candidate_and_incumbent_differ_by_dashes() {
        let page = fixture::filled_page();
        let svg = curves(&page.trials[2].curves, page.budget).unwrap();
        assert!(svg.contains("curve candidate") && svg.contains("curve parent"));
        assert_eq!(curves(&[], page.budget), None);
    }

    #[test]
    fn a_curve_of_one_time_has_finite_coordinates() {
        let curve = Curve { arm: 1, candidate: true, seed: 1, points: vec![[0.0, 2.0], [0.0, 2.0]] };
        for (budget, axis) in [
            (Budget::Seconds(1.0), ">seconds<"),
            (Budget::Tokens(10), ">million tokens<"),
            (Budget::Steps(10), ">steps<"),
            (Budget::Evaluations(10), ">evaluations<"),
        ] {
            let svg = curves(std::slice::from_ref(&curve), budget).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains(axis), "{axis}: {svg}");
        }
    }
}
