//! Pictures as inline SVG: text in, text out, no state. Colours are classes that the page's style sheet
//! fills, so one picture serves light and dark; meaning is always in shape or words as well.

pub mod curves;
pub mod machine;
pub mod noise;
pub mod shape;
pub mod staircase;

use std::fmt::Write;

/// Text made safe for HTML and SVG, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(character),
            // Other control characters are not allowed in HTML and could hide text from a reader.
            control if control.is_control() => safe.push('\u{FFFD}'),
            // Neither are marks that turn the direction of text around.
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => safe.push('\u{FFFD}'),
            other => safe.push(other),
        }
    }
    safe
}

/// A linear map from values to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Value at `from`.
    pub low: f64,
    /// Value at `to`.
    pub high: f64,
    /// Pixel of `low`.
    pub from: f64,
    /// Pixel of `high`.
    pub to: f64,
}

impl Scale {
    /// A scale over values with some air at both ends; no spread gets a unit of it.
    pub fn padded(low: f64, high: f64, from: f64, to: f64, air: f64) -> Scale {
        let spread = if high > low { high - low } else { (low.abs() * 0.01).max(1e-9) };
        Scale { low: low - air * spread, high: high + air * spread, from, to }
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// True when the value lies on the scale.
    pub fn covers(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Round values on the scale, about that many, with the decimals they need.
    pub fn ticks(&self, about: usize) -> (Vec<f64>, usize) {
        let step = round_step((self.high - self.low) / about.max(1) as f64);
        let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        ((first..=last).map(|index| index as f64 * step).collect(), decimals)
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let ratio = rough / power;
    power
        * if ratio <= 1.0 {
            1.0
        } else if ratio <= 2.0 {
            2.0
        } else if ratio <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// The frame of a picture: its size and the room around the plotted area.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Width in user units.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// Room above.
    pub top: f64,
    /// Room at the right.
    pub right: f64,
    /// Room below.
    pub bottom: f64,
    /// Room at the left.
    pub left: f64,
}

impl Frame {
    /// Left and right edge of the plotted area.
    pub fn across(&self) -> (f64, f64) {
        (self.left, self.width - self.right)
    }

    /// Lower and upper edge of the plotted area.
    pub fn up(&self) -> (f64, f64) {
        (self.height - self.bottom, self.top)
    }

    /// The opening tag, with a name for people who do not see it.
    fn open(&self, class: &str, label: &str) -> String {
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            self.width,
            self.height,
            escape(label)
        )
    }

    /// Horizontal lines with their values at the left.
    fn grid_across(&self, svg: &mut String, scale: &Scale, about: usize) {
        let (left, right) = self.across();
        let (ticks, decimals) = scale.ticks(about);
        for tick in ticks {
            let y = scale.at(tick);
            push(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
            push(
                svg,
                format_args!(
                    "<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{tick:.decimals$}</text>",
                    left - 6.0,
                    y + 4.0
                ),
            );
        }
    }

    /// Values below the plotted area, written by `label`.
    fn ticks_below(
        &self,
        svg: &mut String,
        scale: &Scale,
        about: usize,
        label: impl Fn(f64, usize) -> String,
    ) {
        let (bottom, _) = self.up();
        let (ticks, decimals) = scale.ticks(about);
        for tick in ticks {
            let x = scale.at(tick);
            push(
                svg,
                format_args!(
                    "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\"/>",
                    bottom + 4.0
                ),
            );
            push(
                svg,
                format_args!(
                    "<text class=\"tick mid\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                    bottom + 17.0,
                    label(tick, decimals)
                ),
            );
        }
    }

    /// The line at the bottom, and the name of the axis under its right end.
    fn axis_below(&self, svg: &mut String, name: &str) {
        let (left, right) = self.across();
        let (bottom, _) = self.up();
        push(
            svg,
            format_args!(
                "<line class=\"axis\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\"/>"
            ),
        );
        push(
            svg,
            format_args!(
                "<text class=\"axisname end\" x=\"{right:.1}\" y=\"{:.1}\">{}</text>",
                self.height - 4.0,
                escape(name)
            ),
        );
    }

    /// The name of the vertical axis, above it.
    fn axis_name(&self, svg: &mut String, name: &str) {
        push(svg, format_args!("<text class=\"axisname\" x=\"2\" y=\"12\">{}</text>", escape(name)));
    }
}

/// Appends formatted text; writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_has_no_live_characters() {
        assert_eq!(escape("<b>'&\"</b>"), "&lt;b&gt;&#39;&amp;&quot;&lt;/b&gt;");
        assert_eq!(escape("a\u{1b}[31m\u{202e}b"), "a\u{FFFD}[31m\u{FFFD}b");
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_scale() {
        for (low, high) in [(2.31, 2.47), (0.0, 26.0), (-3.0, 1e6), (1e-4, 2e-4)] {
            let scale = Scale::padded(low, high, 0.0, 100.0, 0.05);
            let (ticks, decimals) = scale.ticks(5);
            assert!((2..=12).contains(&ticks.len()), "{ticks:?}");
            assert!(ticks.iter().all(|tick| scale.covers(*tick)));
            let texts: Vec<String> = ticks.iter().map(|tick| format!("{tick:.decimals$}")).collect();
            let mut distinct = texts.clone();
            distinct.dedup();
            assert_eq!(texts, distinct);
        }
    }

    #[test]
    fn a_scale_without_spread_still_maps_to_finite_pixels() {
        for value in [0.0, 2.5, -1e12] {
            let scale = Scale::padded(value, value, 0.0, 100.0, 0.1);
            assert!((scale.at(value) - 50.0).abs() < 1e-3, "{}", scale.at(value));
        }
    }
}
