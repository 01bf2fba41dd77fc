//! Which kinds of ideas pay, and how well proposers foresee what theirs do.

use sprag_engine::memory::{Family, Predictions, Yield};

use super::{escape, push};
use crate::numbers;
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
    proposers(html, page);
    for predictions in &page.predictions {
        push(html, format_args!("<p>{}</p>\n", escape(&sentence(predictions))));
    }
    html.push_str("</section>\n");
}

/// What each proposer brought and cost; nothing where there is one that costs nothing.
fn proposers(html: &mut String, page: &Page) {
    if !words::shows_yields(page) {
        return;
    }
    html.push_str(
        "<h3>Who proposed</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>proposer</th><th>trials</th><th>kept</th><th>certified</th>\
         <th>no score</th><th>certified gain, sigma</th><th>tentative</th><th>time</th><th>tokens</th><th>USD</th>\
         </tr></thead>\n<tbody>\n",
    );
    for one in &page.yields {
        let Yield { tried, kept, certified, invalid, spending, .. } = one;
        let untold = || "not told".to_owned();
        let tokens = Some(spending.tokens()).filter(|tokens| *tokens > 0);
        push(
            html,
            format_args!(
                "<tr><td>{}</td><td>{tried}</td><td>{kept}</td><td>{certified}</td><td>{invalid}</td><td>{:.2}</td>\
                 <td>{:.2}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&one.proposer),
                one.certified_gain_sigmas,
                one.tentative_gain_sigmas,
                numbers::duration(one.hours * 3600.0),
                tokens.map_or_else(untold, |tokens| numbers::count(tokens as f64)),
                spending.usd.map_or_else(untold, |usd| format!("{usd:.2}")),
            ),
        );
    }
    html.push_str(
        "</tbody>\n</table></div>\n<p class=\"note\">Gains are sums over trials that stand, each shrunken towards zero by how \
         few runs it rests on. Time is asking, building and running.</p>\n",
    );
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
