//! Pictures of a machine: its roofline, and the ladder of its caches. Both axes are logarithmic.

use sprag_measure::probe::{Probe, Rung};
use sprag_measure::units::Bytes;

use crate::numbers;

use super::{Frame, Scale, escape, push};

/// One line of a picture: a name and its points.
struct Line {
    class: &'static str,
    name: String,
    points: Vec<(f64, f64)>,
}

/// What both kinds of picture have in common.
struct Picture<'a> {
    label: &'a str,
    up: &'a str,
    along: &'a str,
    /// Names a power along the axis below, by its exponent; steps of so many.
    tick: &'a dyn Fn(i32) -> String,
    base: f64,
    step: usize,
    /// Dashed lines from bottom to top.
    marks: Vec<(f64, String)>,
    /// Lines have their names at their ends.
    named: bool,
}

impl Picture<'_> {
    fn draw(&self, lines: &[Line]) -> Option<String> {
        let frame = Frame { width: 520.0, height: 300.0, top: 26.0, right: 16.0, bottom: 42.0, left: 56.0 };
        let (left, right) = frame.across();
        let (bottom, top) = frame.up();
        let all = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
        let span = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let low = all().map(of).fold(f64::INFINITY, f64::min);
            let high = all().map(of).fold(0.0, f64::max);
            (low < high).then_some((low, high))
        };
        let ((x_low, x_high), (y_low, y_high)) = (span(&|point| point.0)?, span(&|point| point.1)?);
        let x = Scale { low: x_low.log(self.base), high: x_high.log(self.base), from: left, to: right };
        let y = Scale { low: y_low.log10().floor(), high: y_high.log10().ceil(), from: bottom, to: top };
        let mut svg = frame.open("small", self.label);
        for power in y.low as i32..=y.high as i32 {
            let up = y.at(f64::from(power));
            push(
                &mut svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{up:.1}\" y2=\"{up:.1}\"/>"
                ),
            );
            let text = if (0..4).contains(&power) {
                format!("{}", 10_i64.pow(power as u32))
            } else {
                format!("1e{power}")
            };
            push(
                &mut svg,
                format_args!(
                    "<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                    left - 6.0,
                    up + 4.0
                ),
            );
        }
        for power in (x.low.ceil() as i32..=x.high.floor() as i32).step_by(self.step) {
            let at = x.at(f64::from(power));
            push(
                &mut svg,
                format_args!(
                    "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\"/>",
                    bottom + 4.0
                ),
            );
            push(
                &mut svg,
                format_args!(
                    "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                    bottom + 17.0,
                    escape(&(self.tick)(power))
                ),
            );
        }
        for (number, (value, name)) in
            self.marks.iter().filter(|(value, _)| x.covers(value.log(self.base))).enumerate()
        {
            let at = x.at(value.log(self.base));
            push(
                &mut svg,
                format_args!(
                    "<line class=\"curve parent\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom:.1}\" y2=\"{top:.1}\"/>\
                     <text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                    // Names of neighbours do not lie on each other.
                    top + 10.0 + 13.0 * (number % 2) as f64,
                    escape(name)
                ),
            );
        }
        for line in lines {
            let mut path = String::new();
            for (along, up) in &line.points {
                let letter = if path.is_empty() { 'M' } else { 'L' };
                push(
                    &mut path,
                    format_args!("{letter}{:.1} {:.1}", x.at(along.log(self.base)), y.at(up.log10())),
                );
            }
            push(
                &mut svg,
                format_args!(
                    "<path class=\"curve {}\" d=\"{path}\"><title>{}</title></path>",
                    line.class,
                    escape(&line.name)
                ),
            );
            if let Some((along, up)) = line.points.last().filter(|_| self.named) {
                push(
                    &mut svg,
                    format_args!(
                        "<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                        x.at(along.log(self.base)),
                        y.at(up.log10()) - 5.0,
                        escape(&line.name)
                    ),
                );
            }
        }
        frame.axis_name(&mut svg, self.up);
        frame.axis_below(&mut svg, self.along);
        svg.push_str("</svg>");
        Some(svg)
    }
}

/// Operations a second over operations a byte, for each precision.
pub fn roofline(probe: &Probe) -> Option<String> {
    let line = |precision: &str, class| {
        let ridge = probe.ridge(precision)?;
        let along = (-4..=10).map(|power| 2f64.powi(power)).chain([ridge.flop_per_byte()]);
        let mut points: Vec<(f64, f64)> = along.map(|at| (at, ridge.at(at) / 1e9)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = format!(
            "{precision}: {:.0} GFLOP/s, from {:.1} FLOP a byte on",
            ridge.flop_per_second / 1e9,
            ridge.flop_per_byte()
        );
        Some(Line { class, name, points })
    };
    let lines: Vec<Line> = [("fp32", "candidate"), ("bf16", "candidate")]
        .into_iter()
        .filter_map(|(name, class)| line(name, class))
        .collect();
    let marks = ["fp32", "bf16"]
        .into_iter()
        .filter_map(|name| Some((probe.ridge(name)?.flop_per_byte(), name.to_owned())));
    let tick = |power: i32| if power < 0 { format!("1/{}", 1 << -power) } else { format!("{}", 1 << power) };
    Picture {
        label: "roofline",
        up: "GFLOP/s",
        along: "FLOP a byte",
        tick: &tick,
        base: 2.0,
        step: 2,
        marks: marks.collect(),
        named: false,
    }
    .draw(&lines)
}

/// Points of one kind over sizes that are about doubled from one to the next.
pub fn steps(points: &[(f64, f64)], along: &str, up: &str, label: &str) -> String {
    let tick = |power: i32| format!("{}", 2_i64.saturating_pow(power.max(0).unsigned_abs()));
    let picture =
        Picture { label, up, along, tick: &tick, base: 2.0, step: 1, marks: Vec::new(), named: false };
    let line = Line { class: "candidate", name: String::new(), points: points.to_vec() };
    picture.draw(&[line]).unwrap_or_default()
}

/// Latency over the working set.
pub fn latency(probe: &Probe) -> Option<String> {
    ladder(probe, "latency over the working set", "nanoseconds a load", &|rung| {
        rung.latency_seconds.median * 1e9
    })
}

/// Bandwidth of one core over the working set.
pub fn reading(probe: &Probe) -> Option<String> {
    ladder(probe, "bandwidth over the working set", "GB/s", &|rung| rung.read_bytes_per_second.median / 1e9)
}

fn ladder(probe: &Probe, label: &str, up: &str, of: &dyn Fn(&Rung) -> f64) -> Option<String> {
    let points = probe.ladder.iter().map(|rung| (rung.bytes as f64, of(rung))).collect();
    let lines = [Line { class: "candidate", name: label.to_owned(), points }];
    let marks = probe.presented.caches.iter().map(|cache| (cache.bytes as f64, format!("L{}", cache.level)));
    let tick = |power: i32| {
        let text = Bytes(1 << power).to_string();
        text.replace(".0 ", " ")
    };
    let picture = Picture {
        label,
        up,
        along: "bytes worked on",
        tick: &tick,
        base: 2.0,
        step: 4,
        marks: marks.collect(),
        named: false,
    };
    picture.draw(&lines)
}

/// Several machines over the context or over the size of a model; `None` where there is nothing to draw. Names stand at the
/// ends of their lines.
pub fn machines(label: &str, up: &str, along: Along, lines: &[(String, Vec<(f64, f64)>)]) -> Option<String> {
    let lines: Vec<Line> = lines
        .iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| Line { class: "candidate", name: name.clone(), points: points.clone() })
        .collect();
    let (tick, base, step, along): (&dyn Fn(i32) -> String, f64, usize, &str) = match along {
        Along::Positions => (&|power| numbers::count(2f64.powi(power)), 2.0, 3, "positions"),
        Along::Parameters => (&|power| numbers::count(10f64.powi(power)), 10.0, 1, "parameters"),
    };
    Picture { label, up, along, tick, base, step, marks: Vec::new(), named: true }.draw(&lines)
}

/// What lies along such a picture.
#[derive(Clone, Copy, Debug)]
pub enum Along {
    /// Positions of the context, by powers of two.
    Positions,
    /// Parameters of the model, by powers of ten.
    Parameters,
}
