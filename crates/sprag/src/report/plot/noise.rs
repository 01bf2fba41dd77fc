//! The noise floor: repeats of the baseline as dots, and throughput against score.

use super::super::model::{Noise, Page};
use super::{Frame, Scale, escape, push};
use crate::numbers;

/// The repeats in order, with their mean and one standard deviation to both sides.
pub fn repeats(page: &Page, noise: &Noise) -> String {
    let frame = Frame { width: 440.0, height: 240.0, top: 26.0, right: 12.0, bottom: 40.0, left: 62.0 };
    let (left, right) = frame.across();
    let (bottom, top) = frame.up();
    let sd = noise.score.sd.unwrap_or(0.0);
    let values = noise.repeats.iter().map(|repeat| repeat.value);
    let low = values.clone().fold(noise.score.mean - sd, f64::min);
    let high = values.fold(noise.score.mean + sd, f64::max);
    let y = Scale::padded(low, high, bottom, top, 0.12);
    let x = Scale { low: 0.5, high: noise.repeats.len() as f64 + 0.5, from: left, to: right };
    let mut svg =
        frame.open("small", &format!("{} of {} repeats of the baseline", page.metric, noise.repeats.len()));
    let (upper, lower) = (y.at(noise.score.mean + sd), y.at(noise.score.mean - sd));
    push(
        &mut svg,
        format_args!(
            "<rect class=\"band\" x=\"{left:.1}\" y=\"{upper:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            right - left,
            (lower - upper).max(0.5)
        ),
    );
    frame.grid_across(&mut svg, &y, 5);
    frame.axis_name(&mut svg, &page.metric);
    frame.axis_below(&mut svg, "repeat");
    let mean = y.at(noise.score.mean);
    push(
        &mut svg,
        format_args!(
            "<line class=\"incumbent\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{mean:.1}\" y2=\"{mean:.1}\"/>"
        ),
    );
    for (index, repeat) in noise.repeats.iter().enumerate() {
        let (at, up) = (x.at(index as f64 + 1.0), y.at(repeat.value));
        let title = format!("seed {}: {}", repeat.seed, numbers::plain(repeat.value, page.decimals + 1));
        push(
            &mut svg,
            format_args!(
                "<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"4.5\"><title>{}</title></circle>",
                escape(&title)
            ),
        );
        if noise.repeats.len() <= 20 {
            push(
                &mut svg,
                format_args!(
                    "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                    bottom + 17.0,
                    index + 1
                ),
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Throughput against score of the repeats; `None` when fewer than two have a throughput.
pub fn throughput(page: &Page, noise: &Noise) -> Option<String> {
    let points: Vec<(f64, f64)> =
        noise.repeats.iter().filter_map(|repeat| Some((repeat.tokens_per_second?, repeat.value))).collect();
    if points.len() < 2 {
        return None;
    }
    let frame = Frame { width: 440.0, height: 240.0, top: 26.0, right: 22.0, bottom: 40.0, left: 62.0 };
    let (left, right) = frame.across();
    let (bottom, top) = frame.up();
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (slowest, fastest) = ends(&mut points.iter().map(|point| point.0));
    let (least, most) = ends(&mut points.iter().map(|point| point.1));
    let x = Scale::padded(slowest, fastest, left, right, 0.12);
    let y = Scale::padded(least, most, bottom, top, 0.12);
    let mut svg = frame.open("small", &format!("throughput against {} over the repeats", page.metric));
    frame.grid_across(&mut svg, &y, 5);
    frame.axis_name(&mut svg, &page.metric);
    let divisor = if fastest >= 10_000.0 { 1000.0 } else { 1.0 };
    let scaled = Scale { low: x.low / divisor, high: x.high / divisor, ..x };
    frame.ticks_below(&mut svg, &scaled, 4, |tick, decimals| format!("{tick:.decimals$}"));
    frame.axis_below(&mut svg, if divisor > 1.0 { "thousand tokens a second" } else { "tokens a second" });
    for (rate, value) in points {
        push(
            &mut svg,
            format_args!(
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\"><title>{}/s, {}</title></circle>",
                x.at(rate),
                y.at(value),
                numbers::count(rate),
                numbers::plain(value, page.decimals + 1)
            ),
        );
    }
    svg.push_str("</svg>");
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;

    #[test]
    fn every_repeat_is_a_dot() {
        let page = fixture::filled_page();
        let noise = page.noise.as_ref().unwrap();
        assert_eq!(repeats(&page, noise).matches("class=\"dot\"").count(), 5);
        assert_eq!(throughput(&page, noise).unwrap().matches("class=\"dot\"").count(), 5);
    }

    #[test]
    fn without_throughput_there_is_no_scatter() {
        let page = fixture::filled_page();
        let mut noise = page.noise.clone().unwrap();
        noise.repeats.iter_mut().for_each(|repeat| repeat.tokens_per_second = None);
        assert_eq!(throughput(&page, &noise), None);
    }
}
