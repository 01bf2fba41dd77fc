//! The list of trials: a line each, which opens to diff, measurements, curves and facts.

use super::super::model::{Curve, EffectView, FactView, Mark, MeasurementView, Page, TrialView};
use super::super::plot::{curves, escape, shape};
use super::{budget, push};
use crate::numbers;
use crate::ui::words as lines;

/// Appends the section.
pub fn list(html: &mut String, page: &Page) {
    html.push_str(
        "<section>\n<h2>Every trial</h2>\n<p class=\"note\">A gain is positive when better, in units of the metric; \
         <abbr title=\"standard deviations of one run\">&sigma;</abbr> is the noise of one run. Open a line for its \
         diff, measurements and curves.</p>\n<div class=\"filter\" hidden></div>\n<div class=\"trials\">\n",
    );
    html.push_str(
        "<div class=\"line head\" aria-hidden=\"true\"><span></span><span>verdict</span><span>what changed</span>\
         <span class=\"number\">gain</span><span class=\"number\">interval</span><span>rests on</span></div>\n",
    );
    for trial in &page.trials {
        entry(html, page, trial);
    }
    html.push_str("</div>\n</section>\n");
}

fn entry(html: &mut String, page: &Page, trial: &TrialView) {
    push(html, format_args!("<details data-mark=\"{}\"><summary class=\"line\">", trial.mark.class()));
    push(html, format_args!("<span class=\"id\">{}</span>", trial.id));
    push(
        html,
        format_args!("<span class=\"verdict\">{}{}</span>", shape::icon(trial.mark), trial.mark.word()),
    );
    push(html, format_args!("<span class=\"title\">{}</span>", escape(&trial.title)));
    match (&trial.effect, &trial.invalid) {
        (Some(effect), _) => effect_cells(html, page, effect),
        (None, Some((reason, _))) => {
            push(html, format_args!("<span class=\"why\">{}</span>", escape(reason)))
        }
        (None, None) => {
            push(html, format_args!("<span class=\"why\">{}</span>", escape(&standing(page, trial))))
        }
    }
    push(html, format_args!("</summary>\n<div class=\"body\" id=\"trial-{}\">\n", trial.id));
    words(html, page, trial);
    if let Some(error) = &trial.build_error {
        push(html, format_args!("<h3>Build error</h3>\n<pre>{}</pre>\n", escape(error)));
    }
    if let Some(diff) = trial.diff.as_deref().filter(|diff| !diff.trim().is_empty()) {
        html.push_str("<h3>Diff</h3>\n");
        diff_lines(html, diff);
    }
    html.push_str("<div class=\"pair\">\n");
    if let Some(picture) = curves::curves(&trial.curves, page.budget) {
        push(html, format_args!("<figure>\n{picture}{}</figure>\n", curve_key(trial, &trial.curves)));
    }
    facts(html, trial, &trial.facts);
    html.push_str("</div>\n");
    measurements(html, page, trial, &trial.measurements);
    html.push_str("</div>\n</details>\n");
}

/// What stands in place of a gain.
fn standing(page: &Page, trial: &TrialView) -> String {
    match (trial.mark, &page.headline) {
        (Mark::Baseline, Some(headline)) => {
            let estimate = &headline.baseline;
            let mean = numbers::plain(estimate.mean, page.decimals);
            let sd = estimate.sd.map_or("unknown".to_owned(), |sd| numbers::plain(sd, page.decimals));
            format!("{mean} ± {sd} sd, n = {}", estimate.n)
        }
        _ => trial.reason.clone().unwrap_or_else(|| "not decided yet".to_owned()),
    }
}

fn effect_cells(html: &mut String, page: &Page, effect: &EffectView) {
    let [gain, low, high] =
        [effect.gain, effect.low, effect.high].map(|value| numbers::signed(value, page.decimals));
    let sigmas = effect.sigmas.map_or(String::new(), |sigmas| format!(" <small>{sigmas:+.1}&sigma;</small>"));
    push(
        html,
        format_args!(
            "<span class=\"number gain\">{gain}{sigmas}</span><span class=\"number\">{low} .. {high}</span><span class=\"rests\">{}</span>",
            numbers::repeats(effect.runs)
        ),
    );
}

fn words(html: &mut String, page: &Page, trial: &TrialView) {
    html.push_str("<dl class=\"words\">\n");
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            push(html, format_args!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value)));
        }
    };
    row("decision", trial.reason.clone());
    row("why better", trial.second.as_ref().map(|second| lines::second(second, page.budget, page.decimals)));
    row("no score", trial.invalid.as_ref().map(|(reason, detail)| format!("{reason}: {detail}")));
    row("hypothesis", trial.hypothesis.clone());
    row("family", trial.family.clone());
    row("proposer", Some(trial.proposer.clone()));
    row("measured against", trial.parent_trial.map(|parent| format!("trial {parent}")));
    row(
        "changes",
        (!trial.paths.is_empty()).then(|| {
            format!("{} (+{} -{} lines)", trial.paths.join(", "), trial.insertions, trial.deletions)
        }),
    );
    row("commit", trial.commit.clone());
    let builds = match trial.builds {
        0 => "not built".to_owned(),
        1 => numbers::duration(trial.build_seconds),
        n => format!("{} in {n} attempts", numbers::duration(trial.build_seconds)),
    };
    row("build", Some(builds));
    row(
        "runs",
        Some(format!("{} in {} executions", numbers::duration(trial.run_seconds), trial.measurements.len())),
    );
    row("started", Some(trial.started_at.clone()));
    row("decided", trial.decided_at.clone());
    html.push_str("</dl>\n");
}

fn diff_lines(html: &mut String, diff: &str) {
    html.push_str("<pre class=\"diff\">");
    for line in diff.lines() {
        let class = match line.as_bytes() {
            [b'+', b'+', b'+', ..]
            | [b'-', b'-', b'-', ..]
            | [b'd', b'i', b'f', b'f', ..]
            | [b'i', b'n', b'd', ..] => "meta",
            [b'@', ..] => "hunk",
            [b'+', ..] => "added",
            [b'-', ..] => "removed",
            _ => "same",
        };
        push(html, format_args!("<span class=\"{class}\">{}</span>\n", escape(line)));
    }
    html.push_str("</pre>\n");
}

fn curve_key(trial: &TrialView, curves: &[Curve]) -> String {
    let mut key = format!("<figcaption>Solid: trial {}", trial.id);
    if let Some(curve) = curves.iter().find(|curve| !curve.candidate) {
        key += &format!("; dashed: its incumbent, trial {}", curve.arm);
    }
    key + ".</figcaption>"
}

fn facts(html: &mut String, trial: &TrialView, facts: &[FactView]) {
    if facts.is_empty() {
        return;
    }
    let beside = facts.iter().any(|fact| fact.incumbent.is_some());
    html.push_str("<div class=\"scroll\"><table>\n<tr><th>mean over runs</th>");
    push(html, format_args!("<th class=\"number\">trial {}</th>", trial.id));
    if beside {
        html.push_str("<th class=\"number\">incumbent</th><th class=\"number\">ratio</th>");
    }
    html.push_str("</tr>\n");
    for fact in facts {
        let cell = |value: Option<f64>| {
            value.map_or("-".to_owned(), |value| escape(&numbers::quantity(&fact.name, value)))
        };
        push(
            html,
            format_args!(
                "<tr><td>{}</td><td class=\"number\">{}</td>",
                escape(&numbers::fact_name(&fact.name)),
                cell(fact.candidate)
            ),
        );
        if beside {
            let ratio = match (fact.candidate, fact.incumbent) {
                (Some(candidate), Some(incumbent)) if incumbent != 0.0 => {
                    format!("{:.3}", candidate / incumbent)
                }
                _ => "-".to_owned(),
            };
            push(
                html,
                format_args!(
                    "<td class=\"number\">{}</td><td class=\"number\">{ratio}</td>",
                    cell(fact.incumbent)
                ),
            );
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
}

fn measurements(html: &mut String, page: &Page, trial: &TrialView, measurements: &[MeasurementView]) {
    if measurements.is_empty() {
        return;
    }
    html.push_str("<h3>Measurements</h3>\n<div class=\"scroll\"><table>\n<tr><th class=\"number\">no.</th><th>for</th><th>code</th>");
    push(
        html,
        format_args!(
            "<th class=\"number\">seed</th><th class=\"number\">{}</th><th class=\"number\">wall</th><th>end</th></tr>\n",
            escape(&page.metric)
        ),
    );
    for measurement in measurements {
        let measure = &measurement.measure;
        let code =
            if measure.arm == trial.id { "this trial".to_owned() } else { format!("trial {}", measure.arm) };
        let value =
            measurement.value.map_or("-".to_owned(), |value| numbers::plain(value, page.decimals + 1));
        let own = if measurement.self_reported { " (said by the candidate)" } else { "" };
        let within = measure.budget.map_or(String::new(), |other| format!(", {}", escape(&budget(other))));
        let detail =
            measurement.detail.as_ref().map_or(String::new(), |detail| format!(": {}", escape(detail)));
        push(
            html,
            format_args!(
                "<tr><td class=\"number\">{}</td><td>{}{within}</td><td>{code}</td><td class=\"number\">{}</td><td class=\"number\">{value}{own}</td>\
             <td class=\"number\">{}</td><td>{}{detail}</td></tr>\n",
                measure.measure,
                purpose(measure),
                measure.seed,
                numbers::duration(measurement.seconds),
                escape(&measurement.outcome)
            ),
        );
    }
    html.push_str("</table></div>\n");
}

fn purpose(measure: &sprag_engine::record::Measure) -> &'static str {
    use sprag_engine::record::Purpose;
    match measure.purpose {
        Purpose::Baseline => "baseline",
        Purpose::Smoke => "smoke test",
        Purpose::Guard => "guards",
        Purpose::Screen => "screening",
        Purpose::Confirm => "repeat",
        Purpose::Anchor => "anchor",
        Purpose::Audit => "audit",
        Purpose::Holdout => "holdout",
        Purpose::Check => "check",
        Purpose::Second => "second budget",
        Purpose::Race => "race",
    }
}
