//! Which kinds of ideas pay, and how well proposers foresee what theirs do.

use sprag_engine::memory::{Family, Predictions};

use super::{escape, push};
use crate::report::model::Page;
use crate::ui::words;

/// The section; nothing before a trial was decided.
pub(super) fn section(html: &mut String, page: &Page) {
    if page.families.is_empty() {
        return;
    }
    html.push_str("<section>\n<h2>Which ideas pay</h2>\n");
    if let Some(plateau) = words::plateau(page) {
        push(html, format_args!("<p class=\"note\">{}</p>\n", escape(&plateau)));
    }
    html.push_str(
        "<table>\n<thead><tr><th>family</th><th>tried</th><th>kept</th><th>certified</th><th>no score</th>\
         <th>mean gain, sigma</th></tr></thead>\n<tbody>\n",
    );
    for family in &page.families {
        push(
            html,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&family.name),
                family.tried,
                family.kept,
                family.certified,
                family.invalid,
                gain(family)
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n");
    for predictions in &page.predictions {
        push(html, format_args!("<p>{}</p>\n", escape(&sentence(predictions))));
    }
    html.push_str("</section>\n");
}

fn gain(family: &Family) -> String {
    match (&family.gain, family.mean_gain) {
        (Some(gain), _) => {
            format!("{:+.2} [{:+.2}, {:+.2}], n = {}", gain.estimate, gain.low, gain.high, gain.n)
        }
        (None, Some(gain)) => format!("{gain:+.2}, n = 1"),
        (None, None) => "none measured".to_owned(),
    }
}

/// How well one proposer, or all of them, foresaw effects.
pub fn sentence(predictions: &Predictions) -> String {
    let who = if predictions.proposer.is_empty() { "All proposers" } else { predictions.proposer.as_str() };
    format!(
        "{who} declared {} effects: the sign was right in {:.0} %, {:.1} sigma were expected and {:.1} measured in the \
         mean, {:.1} apart.",
        predictions.n,
        predictions.right_sign * 100.0,
        predictions.mean_expected_sigmas,
        predictions.mean_measured_sigmas,
        predictions.mean_error_sigmas
    )
}
