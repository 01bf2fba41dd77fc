//! The trials in order, each at its level with its interval, over the incumbent's line.

use sprag_engine::record::Direction;

use super::super::model::{Mark, Page, TrialView};
use super::shape::shape;
use super::{Frame, Scale, escape, push};
use crate::numbers;

/// The picture for that width; height follows. Trials without a score stand in a lane of their own.
pub fn staircase(page: &Page, class: &str, width: f64) -> String {
    let narrow = width < 600.0;
    let frame = Frame {
        width,
        height: if narrow { 340.0 } else { 400.0 },
        top: 26.0,
        right: 12.0,
        bottom: 74.0,
        left: if narrow { 50.0 } else { 60.0 },
    };
    let levels: Vec<&TrialView> = page.trials.iter().filter(|trial| trial.level.is_some()).collect();
    if levels.is_empty() {
        return "<p class=\"note\">No trial has a score yet.</p>".to_owned();
    }
    let (left, right) = frame.across();
    let (bottom, top) = frame.up();
    let (low, high) = range(page, &levels);
    let y = Scale::padded(low, high, bottom, top, 0.06);
    let last = page.trials.len().saturating_sub(1).max(1) as f64;
    let x = Scale { low: -0.6, high: last + 0.6, from: left, to: right };

    let label =
        format!("{} of {} trials in order, with the incumbent's level", page.metric, page.trials.len());
    let mut svg = frame.open(class, &label);
    frame.grid_across(&mut svg, &y, if narrow { 5 } else { 7 });
    let better = if page.direction == Direction::Lower { "lower is better" } else { "higher is better" };
    frame.axis_name(&mut svg, &format!("{} ({better})", page.metric));
    let lane = bottom + 34.0;
    ticks(&frame, &mut svg, &x, page.trials.len(), if narrow { 6 } else { 14 });
    frame.axis_below(&mut svg, "trial");
    push(
        &mut svg,
        format_args!(
            "<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left - 6.0,
            lane + 4.0,
            if narrow { "none" } else { "no score" }
        ),
    );
    push(
        &mut svg,
        format_args!(
            "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{lane:.1}\" y2=\"{lane:.1}\"/>"
        ),
    );
    push(&mut svg, format_args!("<path class=\"incumbent\" d=\"{}\"/>", incumbent_path(page, &x, &y)));

    let size = ((right - left) / page.trials.len().max(1) as f64 * 0.3).clamp(2.2, 5.5);
    for trial in &page.trials {
        let at = x.at(f64::from(trial.id));
        push(
            &mut svg,
            format_args!("<a href=\"#trial-{}\"><title>{}</title>", trial.id, escape(&tooltip(page, trial))),
        );
        match trial.level {
            None => svg.push_str(&shape(trial.mark, at, lane, size)),
            Some(level) if y.covers(level) => {
                if let Some([one, other]) = trial.level_interval {
                    svg.push_str(&interval(&y, at, one, other, trial.mark, size));
                }
                svg.push_str(&shape(trial.mark, at, y.at(level), size));
            }
            Some(level) => svg.push_str(&beyond(&y, at, level, trial.mark, size)),
        }
        svg.push_str("</a>");
    }
    svg.push_str("</svg>");
    svg
}

/// Values that the picture covers. What lies far on the bad side is shown at the edge with an arrow, so
/// that one bad idea does not flatten the staircase.
fn range(page: &Page, levels: &[&TrialView]) -> (f64, f64) {
    let sign = if page.direction == Direction::Lower { 1.0 } else { -1.0 };
    // In `badness` larger is worse, whatever the direction.
    let badness = |value: f64| sign * value;
    let kept = levels.iter().filter(|trial| matches!(trial.mark, Mark::Baseline | Mark::Win | Mark::Undone));
    let mut good: Vec<f64> = kept.filter_map(|trial| trial.level).map(badness).collect();
    let ends = levels.iter().flat_map(|trial| trial.level_interval.into_iter().flatten()).map(badness);
    let sigma = page.noise.as_ref().and_then(|noise| noise.score.sd).unwrap_or(0.0);
    if good.is_empty() {
        good = levels.iter().filter_map(|trial| trial.level).map(badness).collect();
    }
    let best = good.iter().copied().fold(f64::INFINITY, f64::min);
    let worst = good.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let limit = worst + (worst - best) + 6.0 * sigma;
    let floor = best - (worst - best) - 6.0 * sigma;
    let all = ends.chain(levels.iter().filter_map(|trial| trial.level).map(badness));
    let (mut low, mut high) = (best, worst);
    for value in all.filter(|value| (floor..=limit).contains(value)) {
        low = low.min(value);
        high = high.max(value);
    }
    let (one, other) = (sign * low, sign * high);
    (one.min(other), one.max(other))
}

fn ticks(frame: &Frame, svg: &mut String, x: &Scale, trials: usize, about: usize) {
    let whole = Scale { low: 0.0, high: trials.saturating_sub(1).max(1) as f64, ..*x };
    let (bottom, _) = frame.up();
    for tick in whole.ticks(about).0.into_iter().filter(|tick| tick.fract() == 0.0) {
        let at = x.at(tick);
        push(
            svg,
            format_args!(
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\"/>",
                bottom + 4.0
            ),
        );
        push(
            svg,
            format_args!("<text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{tick}</text>", bottom + 17.0),
        );
    }
}

/// The incumbent's level over the trials, as steps; an undone win steps back where it was taken back.
fn incumbent_path(page: &Page, x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    let mut level = None;
    for trial in &page.trials {
        let next = trial.incumbent_level.or(trial.level);
        let at = x.at(f64::from(trial.id));
        match (level, next) {
            (None, Some(next)) => push(&mut path, format_args!("M{at:.1} {:.1}", y.at(next))),
            (Some(_), Some(next)) => {
                push(
                    &mut path,
                    format_args!("H{:.1}V{:.1}H{at:.1}", x.at(f64::from(trial.id) - 0.5), y.at(next)),
                );
            }
            _ => {}
        }
        level = next.or(level);
    }
    let tip = page.headline.as_ref().and_then(|headline| page.trials.get(headline.tip as usize));
    if let (Some(_), Some(level)) = (level, tip.and_then(|tip| tip.level)) {
        let last = page.trials.last().map_or(0.0, |trial| f64::from(trial.id));
        let end = x.at(last + 0.5);
        push(&mut path, format_args!("H{:.1}V{:.1}H{end:.1}", x.at(last + 0.25), y.at(level)));
    }
    path
}

fn interval(y: &Scale, at: f64, one: f64, other: f64, mark: Mark, size: f64) -> String {
    let (upper, lower) = (y.at(one).clamp(y.to, y.from), y.at(other).clamp(y.to, y.from));
    let cap = size * 0.7;
    let mut path = format!("M{at:.1} {upper:.1}V{lower:.1}");
    // An end that is cut off by the edge has no cap: the interval goes on.
    for value in [one, other].into_iter().filter(|value| y.covers(*value)) {
        let end = y.at(value);
        push(&mut path, format_args!("M{:.1} {end:.1}H{:.1}", at - cap, at + cap));
    }
    format!("<path class=\"interval {}\" d=\"{path}\"/>", mark.class())
}

fn beyond(y: &Scale, at: f64, level: f64, mark: Mark, size: f64) -> String {
    let (edge, toward) = if level > y.high { (y.to, -1.0) } else { (y.from, 1.0) };
    let tip = edge + toward * 2.0;
    let tail = edge - toward * 2.4 * size;
    format!(
        "{}<path class=\"interval {}\" d=\"M{at:.1} {tail:.1}V{tip:.1}M{:.1} {:.1}L{at:.1} {tip:.1}L{:.1} {:.1}\"/>",
        shape(mark, at, tail - toward * size, size),
        mark.class(),
        at - size * 0.7,
        tip - toward * size * 0.8,
        at + size * 0.7,
        tip - toward * size * 0.8
    )
}

fn tooltip(page: &Page, trial: &TrialView) -> String {
    let mut text = format!("trial {} {}: {}", trial.id, trial.mark.word(), trial.title);
    if let Some(effect) = &trial.effect {
        let [gain, low, high] =
            [effect.gain, effect.low, effect.high].map(|value| numbers::signed(value, page.decimals));
        push(&mut text, format_args!("\ngain {gain} [{low}, {high}], {}", numbers::repeats(effect.runs)));
    }
    if let Some((reason, detail)) = &trial.invalid {
        push(&mut text, format_args!("\n{reason}: {detail}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;

    #[test]
    fn every_trial_is_in_the_picture_and_linked_to_its_details() {
        let page = fixture::filled_page();
        let svg = staircase(&page, "wide", 960.0);
        for trial in &page.trials {
            assert!(svg.contains(&format!("<a href=\"#trial-{}\">", trial.id)));
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_far_loss_does_not_flatten_the_staircase() {
        let page = fixture::filled_page();
        let levels: Vec<&TrialView> = page.trials.iter().filter(|trial| trial.level.is_some()).collect();
        let (low, high) = range(&page, &levels);
        let far = page.trials[1].level.unwrap();
        assert!(high < far, "{low}..{high} covers {far}");
    }

    #[test]
    fn pictures_of_degenerate_runs_have_finite_coordinates() {
        let mut page = fixture::filled_page();
        page.trials.truncate(1);
        page.trials[0].level_interval = None;
        let svg = staircase(&page, "wide", 960.0);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        page.trials.clear();
        assert!(staircase(&page, "wide", 960.0).contains("No trial has a score"));
    }
}
