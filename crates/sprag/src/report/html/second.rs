//! The keeps under both budgets, side by side: where they disagree, a change wins by speed.

use sprag_engine::session::Second;

use super::super::model::{Page, TrialView};
use super::super::plot::escape;
use super::{budget, push};
use crate::numbers;

/// Appends the section; nothing without a keep that is known under a second budget.
pub fn table(html: &mut String, page: &Page) {
    let mut known = page.trials.iter().filter_map(|trial| Some((trial, trial.second.as_ref()?))).peekable();
    let Some((_, first)) = known.peek() else { return };
    push(
        html,
        format_args!(
            "<section>\n<h2>Why it is better</h2>\n<p>Every keep and the incumbent before it ran once more within {other}. \
             These scores decide nothing. A gain within {own} alone is one <b>by speed</b>, a gain within both of code \
             that is not faster one <b>by learning</b>; where the intervals do not allow a word it is unclear.</p>\n\
             <div class=\"scroll\"><table>\n<tr><th>trial</th><th>what changed</th><th>within {own}</th><th>interval</th>\
             <th>within {other}</th><th>interval</th><th>sd</th><th>pairs</th><th>speed</th><th>interval</th>\
             <th>better</th></tr>\n",
            other = escape(&budget(first.budget)),
            own = escape(&budget(page.budget)),
        ),
    );
    for (trial, second) in known {
        row(html, page, trial, second);
    }
    html.push_str("</table></div>\n</section>\n");
}

fn row(html: &mut String, page: &Page, trial: &TrialView, second: &Second) {
    let signed = |value: f64| numbers::signed(value, page.decimals);
    let ratio = |value: f64| format!("{value:.3}");
    let unknown = || ["-".to_owned(), "-".to_owned()];
    let first = &second.first;
    let [gain, interval] = second.gain.map_or_else(unknown, |gain| {
        [signed(gain.estimate), format!("{} .. {}", signed(gain.low), signed(gain.high))]
    });
    let [speed, speeds] = second.speed.map_or_else(unknown, |speed| {
        [ratio(speed.estimate), format!("{} .. {}", ratio(speed.low), ratio(speed.high))]
    });
    let sd = second.sd.map_or("-".to_owned(), |sd| numbers::plain(sd, page.decimals));
    push(
        html,
        format_args!(
            "<tr><td class=\"number\"><a href=\"#trial-{id}\">{id}</a></td><td>{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{} .. {}</td><td class=\"number\">{gain}</td><td class=\"number\">{interval}</td>\
             <td class=\"number\">{sd}</td><td class=\"number\">{}</td><td class=\"number\">{speed}</td>\
             <td class=\"number\">{speeds}</td><td>{}</td></tr>\n",
            escape(&trial.title),
            signed(first.gain),
            signed(first.low),
            signed(first.high),
            second.differences.len(),
            second.cause,
            id = trial.id,
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::html::render;

    #[test]
    fn every_keep_has_its_word_and_a_run_without_a_second_budget_no_section() {
        let page = fixture::page_of_two_budgets();
        let mut html = String::new();
        table(&mut html, &page);
        let words = ["by speed", "by learning", "unclear"];
        let ends: Vec<&str> = html.lines().filter(|line| line.starts_with("<tr><td")).collect();
        assert_eq!(ends.len(), words.len(), "{html}");
        for (line, word) in ends.iter().zip(words) {
            assert!(line.ends_with(&format!("<td>{word}</td></tr>")), "{line}");
        }
        assert!(render(&page).contains("second budget, 500 k tokens"), "the measurement says its budget");
        let mut none = String::new();
        table(&mut none, &fixture::filled_page());
        assert_eq!(none, "");
    }
}
