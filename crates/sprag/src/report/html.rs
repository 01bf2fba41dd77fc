//! The page as one self-contained HTML file: no request to anywhere, complete without scripts.
//!
//! Every text that came from outside goes through [`escape`]; a content security policy says the same
//! to the browser.

mod details;
mod learned;
mod second;

use std::fmt::Write;

use sprag_engine::record::{AuditEnd, Budget};
use sprag_engine::roofline;
use sprag_measure::stats::Interval;

use super::model::{DETECTABLE_POWER, Estimate, Headline, Mark, Noise, Page, Standing};
use super::plot::{escape, noise, shape, staircase};
use crate::numbers;

const STYLE: &str = include_str!("html/report.css");
const SCRIPT: &str = include_str!("html/report.js");

/// Writes the file's text.
pub fn render(page: &Page) -> String {
    let title = format!("{} / {} - Sprag report", page.task, page.run);
    let mut html = begin(&title);
    header(&mut html, page);
    if let Some(headline) = &page.headline {
        cards(&mut html, page, headline);
    } else {
        html.push_str(
            "<p class=\"note\">The baseline is not measured yet, so nothing can be compared.</p>\n",
        );
    }
    trials(&mut html, page);
    audits(&mut html, page);
    second::table(&mut html, page);
    learned::section(&mut html, page);
    if let Some(noise) = &page.noise {
        noise_floor(&mut html, page, noise);
    }
    details::list(&mut html, page);
    time(&mut html, page);
    provenance(&mut html, page);
    push(&mut html, format_args!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    html
}

/// A page up to its content, which is to stand within `main`.
pub fn begin(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(title)
    )
}

fn header(html: &mut String, page: &Page) {
    push(
        html,
        format_args!(
            "<header>\n<h1>{} <span class=\"run\">run {}</span></h1>\n",
            escape(&page.task),
            escape(&page.run)
        ),
    );
    let state = match &page.finished {
        Some(reason) => format!("finished: {}", escape(reason)),
        None => "not finished".to_owned(),
    };
    push(
        html,
        format_args!(
            "<p class=\"sub\">{} &middot; {} to {} &middot; {state} &middot; budget {} a trial &middot; seed {}</p>\n",
            escape(&floor(page)),
            escape(&page.started_at),
            escape(&page.updated_at),
            escape(&budget(page.budget)),
            page.seed
        ),
    );
    if !page.sandbox_missing.is_empty() {
        push(
            html,
            format_args!(
                "<p class=\"warning\"><strong>Not fully confined:</strong> this run was allowed to go on without: {}. \
             Its scores rest on trust in the candidates.</p>\n",
                escape(&page.sandbox_missing.join("; "))
            ),
        );
    }
    html.push_str("</header>\n");
}

/// What this run can tell from noise, first of all.
fn floor(page: &Page) -> String {
    match page.headline.as_ref().and_then(|headline| headline.detectable) {
        Some(gain) => format!("finds a gain of {} 8 times in 10", numbers::plain(gain, page.decimals)),
        None => "smallest gain not known".to_owned(),
    }
}

/// What a trial may spend, in words.
pub fn budget(budget: Budget) -> String {
    match budget {
        Budget::Seconds(seconds) => format!("{seconds} s of training"),
        Budget::Tokens(tokens) => format!("{} tokens", numbers::count(tokens as f64)),
        Budget::Steps(steps) => format!("{steps} steps"),
        Budget::Evaluations(evaluations) => format!("{evaluations} evaluations"),
    }
}

fn cards(html: &mut String, page: &Page, headline: &Headline) {
    html.push_str("<section class=\"cards\" aria-label=\"result\">\n");
    let decimals = page.decimals;
    let mut card = |name: &str, value: &str, note: &str| {
        push(
            html,
            format_args!(
                "<div class=\"card\"><h2>{name}</h2><p class=\"value\">{value}</p><p>{note}</p></div>\n"
            ),
        );
    };
    let own = spread(&headline.score, decimals);
    let (value, runs) = match headline.standing {
        Some(Standing { mean, standard_error }) => {
            let [mean, error] = [mean, standard_error].map(|value| numbers::plain(value, decimals));
            (
                format!("{mean} <small>&plusmn; {error} standard error</small>"),
                format!("; its own runs: {own}"),
            )
        }
        None => (own, String::new()),
    };
    let tip = format!("<a href=\"#trial-{0}\">trial {0}</a>: {1}", headline.tip, escape(&headline.title));
    let level = match (headline.tip, page.tentative) {
        (0, _) => "",
        (_, 0) => " (certified)",
        _ => " (tentative)",
    };
    card(&format!("Tip, {}", escape(&page.metric)), &value, &format!("{tip}{level}{runs}"));
    let (value, note) = certified(page);
    card("Certified champion", &value, &note);
    match &headline.gain {
        Some(gain) => card(
            "Gain over the baseline",
            &numbers::signed(gain.estimate, decimals),
            &format!(
                "{} &middot; {:.1} % of the baseline",
                between(gain, decimals),
                percent(gain.estimate, headline.baseline.mean)
            ),
        ),
        None => card("Gain over the baseline", "none yet", "the baseline is still the tip"),
    }
    card("Baseline", &spread(&headline.baseline, decimals), "the code as it was, measured first");
    match headline.detectable {
        Some(detectable) => card(
            "Smallest gain it can see",
            &numbers::plain(detectable, decimals),
            &format!(
                "a candidate that is really better by this much wins {:.0} times in 10, with up to {} repeats at error level {}",
                DETECTABLE_POWER * 10.0,
                page.policy.max_repeats,
                page.policy.alpha
            ),
        ),
        None => card("Smallest gain it can see", "none", "this policy tells no gain from noise"),
    }
    html.push_str("</section>\n");
}

/// The certified champion and what it rests on.
fn certified(page: &Page) -> (String, String) {
    let certified = page.certified.filter(|trial| *trial > 0);
    let audit = certified.and_then(|trial| {
        let mut audits = page.audits.iter().rev();
        audits.find(|audit| audit.tip == trial && audit.end == Some(AuditEnd::Certified))
    });
    match (certified, audit.and_then(|audit| audit.effect)) {
        (Some(trial), Some(effect)) => (
            format!("<a href=\"#trial-{trial}\">trial {trial}</a>"),
            format!(
                "{} over the champion before it, in {} pairs with fresh seeds",
                numbers::signed(effect.gain, page.decimals),
                effect.runs
            ),
        ),
        (Some(trial), None) => (format!("trial {trial}"), "by an audit".to_owned()),
        (None, _) => ("none yet".to_owned(), "no audit has borne a gain out".to_owned()),
    }
}

fn audits(html: &mut String, page: &Page) {
    if page.audits.is_empty() {
        return;
    }
    html.push_str("<section>\n<h2>Audits</h2>\n");
    push(
        html,
        format_args!(
            "<p>Every few keeps the tip runs against the last certified champion with fresh seeds, both arms taking \
             turns. All audits so far certify falsely at most {:.3} times in expectation.</p>\n<div class=\"scroll\"><table>\n\
             <tr><th>audit</th><th>tip</th><th>over</th><th>keeps</th><th>gain</th><th>interval</th><th>pairs</th>\
             <th>e-value</th><th>needed</th><th></th></tr>\n",
            page.expected_false_certifications
        ),
    );
    for audit in &page.audits {
        let (gain, interval, pairs) = audit.effect.map_or(Default::default(), |effect| {
            let [gain, low, high] =
                [effect.gain, effect.low, effect.high].map(|end| numbers::signed(end, page.decimals));
            (gain, format!("{low} .. {high}"), effect.runs.to_string())
        });
        push(
            html,
            format_args!(
                "<tr><td class=\"number\">{}</td><td class=\"number\"><a href=\"#trial-{}\">{}</a></td><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td><td class=\"number\">{gain}</td><td class=\"number\">{interval}</td>\
                 <td class=\"number\">{pairs}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>\n",
                audit.id,
                audit.tip,
                audit.tip,
                audit.against,
                audit.keeps,
                audit.e_value.map_or(String::new(), numbers::e_value),
                numbers::e_value(1.0 / audit.level),
                audit.end.map_or("under way", AuditEnd::word)
            ),
        );
    }
    html.push_str("</table></div>\n");
    if let Some(score) = page.holdout {
        push(
            html,
            format_args!(
                "<p>Of the sealed holdout {} is shown, after {} of {} queries. It moves only by more than the noise of \
                 one run.</p>\n",
                numbers::plain(score, page.decimals),
                page.holdout_queries,
                page.policy.holdout_queries
            ),
        );
    }
    html.push_str("</section>\n");
}

/// Value, standard deviation and count: never a naked number.
fn spread(estimate: &Estimate, decimals: usize) -> String {
    let mean = numbers::plain(estimate.mean, decimals);
    match estimate.sd {
        Some(sd) => {
            format!("{mean} <small>&plusmn; {} sd, n = {}</small>", numbers::plain(sd, decimals), estimate.n)
        }
        None => format!("{mean} <small>n = {}, spread unknown</small>", estimate.n),
    }
}

fn between(interval: &Interval, decimals: usize) -> String {
    let [low, high] = [interval.low, interval.high].map(|end| numbers::signed(end, decimals));
    format!("{:.0} % interval {low} to {high}, n = {}", interval.level * 100.0, interval.n)
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { 100.0 * part / whole.abs() }
}

fn trials(html: &mut String, page: &Page) {
    let counts = &page.counts;
    push(html, format_args!("<section>\n<h2>{} trials</h2>\n", counts.total()));
    push(
        html,
        format_args!(
            "<p>{} kept, {} not better, {} that cannot be told from noise, {} without a score{}{}{}{}.</p>\n",
            counts.wins,
            counts.losses,
            counts.inconclusive,
            counts.invalid_total(),
            if counts.outrun > 0 {
                format!(", {} behind in their heat", counts.outrun)
            } else {
                String::new()
            },
            if counts.stopped > 0 { format!(", {} stopped early", counts.stopped) } else { String::new() },
            if counts.undone > 0 { format!(", {} taken back", counts.undone) } else { String::new() },
            if counts.open > 0 { format!(", {} not decided yet", counts.open) } else { String::new() },
        ),
    );
    html.push_str("<figure>\n");
    html.push_str(&staircase::staircase(page, "wide", 960.0));
    html.push_str(&staircase::staircase(page, "narrow", 400.0));
    legend(html);
    html.push_str(
        "<figcaption>The line is the incumbent, where all runs of it and of what it was made from place it. What was \
         kept stands on it; everything else at its incumbent's level moved by the gain estimated for it. The bar is \
         the interval. An arrow at the edge: far outside of the picture.</figcaption>\n</figure>\n</section>\n",
    );
}

fn legend(html: &mut String) {
    html.push_str("<ul class=\"legend\">\n");
    for mark in Mark::ALL {
        push(
            html,
            format_args!("<li>{}{} <span>{}</span></li>\n", shape::icon(mark), mark.word(), meaning(mark)),
        );
    }
    html.push_str("<li><svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><path class=\"incumbent\" d=\"M1 11H8V5H15\"/></svg>incumbent</li>\n</ul>\n");
}

fn meaning(mark: Mark) -> &'static str {
    match mark {
        Mark::Baseline => "start",
        Mark::Win => "better, kept",
        Mark::Loss => "not better",
        Mark::Inconclusive => "within noise",
        Mark::Outrun => "behind others of its heat",
        Mark::Stopped => "stopped early",
        Mark::Invalid => "no score",
        Mark::Undone => "taken back",
        Mark::Open => "not decided",
    }
}

fn noise_floor(html: &mut String, page: &Page, noise: &Noise) {
    html.push_str("<section>\n<h2>Noise floor</h2>\n");
    push(
        html,
        format_args!(
            "<p>The same code, {} times, each with another seed: {} = {}. Differences of this size mean nothing.</p>\n",
            noise.score.n,
            escape(&page.metric),
            spread(&noise.score, page.decimals + 1)
        ),
    );
    html.push_str("<div class=\"pair\">\n<figure>\n");
    html.push_str(&noise::repeats(page, noise));
    html.push_str("<figcaption>Repeats of the baseline in order; line: mean, band: one standard deviation to each side.</figcaption>\n</figure>\n");
    if let Some(scatter) = noise::throughput(page, noise) {
        let correlation = match noise.throughput_correlation {
            Some(r) => format!("Pearson's r = {r:+.2}, n = {}", noise.repeats.len()),
            None => "no correlation: one of them has no spread".to_owned(),
        };
        push(
            html,
            format_args!(
                "<figure>\n{scatter}<figcaption>Throughput against score: {correlation}. A strong relation says that the \
             machine's speed, not the seed, makes the noise.</figcaption>\n</figure>\n"
            ),
        );
    }
    html.push_str("</div>\n</section>\n");
}

fn time(html: &mut String, page: &Page) {
    let time = &page.time;
    let parts = [
        ("training", time.train_seconds),
        ("evaluation", time.evaluation_seconds),
        ("start-up and runs that gave no score", time.other_run_seconds),
        ("smoke tests", time.smoke_seconds),
        ("builds", time.build_seconds),
        ("proposing, git, deciding, recording", time.engine_seconds),
    ];
    let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    if total <= 0.0 {
        return;
    }
    push(
        html,
        format_args!("<section>\n<h2>Where {} went</h2>\n<table class=\"bars\">\n", numbers::duration(total)),
    );
    for (name, seconds) in parts {
        let share = 100.0 * seconds / total;
        push(
            html,
            format_args!(
                "<tr><th scope=\"row\">{name}</th><td class=\"number\">{}</td><td class=\"number\">{share:.1} %</td>\
             <td class=\"bar\"><span style=\"width:{share:.1}%\"></span></td></tr>\n",
                numbers::duration(seconds)
            ),
        );
    }
    html.push_str("</table>\n");
    if let Some(scoring) = &page.scoring {
        push(html, format_args!("<p>Scoring took {scoring}.</p>\n"));
    }
    html.push_str("</section>\n");
}

fn provenance(html: &mut String, page: &Page) {
    let own = |name: &str, value: String| (name.to_owned(), value);
    let policy = &page.policy;
    let run = vec![
        own("started by", format!("sprag {}", page.sprag_version)),
        own("report by", format!("sprag {} at {}", page.made_by, page.generated_at)),
        own("proposers", page.proposers.join(", ")),
        own("baseline repeats", policy.baseline_repeats.to_string()),
        own("gate", policy.preset.to_string()),
        own("repeated above", format!("{} standard errors", policy.screen_z)),
        own("error level of a look", format!("{} (one-sided)", policy.alpha)),
        own("most repeats", policy.max_repeats.to_string()),
        own("level of an audit", format!("at most {}", policy.audit_alpha)),
        own("false share of all certified", format!("at most {}, by e-LOND", policy.audit_fdr)),
        own("resumed", format!("{} times", page.resumed)),
        own("torn lines repaired", page.repaired.to_string()),
        own("base commit", page.base.clone()),
        own("task.toml SHA-256", page.task_sha256.clone()),
        own("fixed files SHA-256", page.fixed_sha256.clone()),
    ];
    let machine: Vec<_> =
        page.machine.iter().filter(|(name, _)| !roofline::is_for_programs(name)).map(machine_fact).collect();
    let mut sandbox: Vec<_> = page.sandbox.iter().map(|part| own("enforced", part.clone())).collect();
    sandbox.extend(page.sandbox_missing.iter().map(|part| own("missing", part.clone())));
    html.push_str("<section>\n<h2>What it was measured on</h2>\n<div class=\"facts\">\n");
    for (name, rows) in [("Machine", &machine), ("Sandbox", &sandbox), ("Data", &page.data), ("Run", &run)] {
        if rows.is_empty() {
            continue;
        }
        push(html, format_args!("<div><h3>{name}</h3>\n<dl>\n"));
        for (name, value) in rows {
            push(html, format_args!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
        }
        html.push_str("</dl></div>\n");
    }
    html.push_str("</div>\n</section>\n");
    if !page.reproduce.is_empty() {
        html.push_str("<section>\n<h2>To repeat it</h2>\n<pre class=\"shell\">");
        push(html, format_args!("{}</pre>\n</section>\n", escape(&page.reproduce.join("\n"))));
    }
}

/// A fact about the machine; sizes are told in units.
fn machine_fact((name, value): (&String, &String)) -> (String, String) {
    let bytes = name.strip_suffix("_bytes").zip(value.parse::<f64>().ok());
    match bytes {
        Some((name, bytes)) => (name.replace('_', " "), numbers::bytes(bytes)),
        None => (name.replace('_', " "), value.clone()),
    }
}

/// Appends formatted text; writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn texts_from_outside_are_never_live() {
        let mut page = fixture::filled_page();
        let attack = "\"><img src=x onerror=alert(1)><script>alert(2)</script>";
        page.task = attack.to_owned();
        page.run = attack.to_owned();
        page.metric = attack.to_owned();
        page.finished = Some(attack.to_owned());
        page.sandbox_missing = vec![attack.to_owned()];
        page.machine.insert(attack.to_owned(), attack.to_owned());
        page.data.push((attack.to_owned(), attack.to_owned()));
        page.reproduce.push(attack.to_owned());
        for trial in &mut page.trials {
            trial.title = attack.to_owned();
            trial.family = Some(attack.to_owned());
            trial.hypothesis = Some(attack.to_owned());
            trial.reason = Some(attack.to_owned());
            trial.diff = Some(format!("+{attack}\n-{attack}"));
            trial.build_error = Some(attack.to_owned());
            trial.proposer = attack.to_owned();
            trial.paths = vec![attack.to_owned()];
            trial.invalid = Some((attack.to_owned(), attack.to_owned()));
            trial.commit = Some(attack.to_owned());
            for fact in &mut trial.facts {
                fact.name = attack.to_owned();
            }
            for measurement in &mut trial.measurements {
                measurement.detail = Some(attack.to_owned());
            }
        }
        let html = render(&page);
        assert!(!html.contains("<img"));
        assert_eq!(html.matches("<script>").count(), 1, "only the page's own script");
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"));
    }

    #[test]
    fn what_was_measured_of_the_machine_is_told_in_units_alone() {
        let mut page = fixture::filled_page();
        page.machine.insert("measured_memory_bandwidth".to_owned(), "62.6 GB/s".to_owned());
        page.machine.insert(roofline::MEMORY.to_owned(), "6.2593689e10".to_owned());
        let html = render(&page);
        assert!(html.contains("62.6 GB/s") && !html.contains("6.2593689e10"));
    }

    #[test]
    fn the_file_asks_for_nothing_from_outside() {
        let html = render(&fixture::filled_page());
        for forbidden in ["http://", "https://", "src=", "@import", "url(", "<link"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_trial_has_its_details() {
        let page = fixture::filled_page();
        let html = render(&page);
        for trial in &page.trials {
            assert_eq!(html.matches(&format!("id=\"trial-{}\"", trial.id)).count(), 1);
        }
    }

    #[test]
    fn tags_are_balanced() {
        let html = render(&fixture::filled_page());
        for tag in [
            "section", "figure", "details", "table", "tr", "td", "th", "svg", "g", "a", "p", "div", "dl",
            "ul", "li", "pre", "span",
        ] {
            let open = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "<{tag}>");
        }
    }

    #[test]
    fn a_run_can_be_shown_after_every_line_of_its_ledger() {
        for state in fixture::states() {
            let Some(page) = crate::report::model::page(&state, Default::default()) else { continue };
            let html = render(&page);
            assert!(!html.contains("NaN") && !html.contains(">inf"), "after {:?}", state.updated_at);
        }
    }

    /// For looking at it: `SPRAG_REPORT_PREVIEW=out.html cargo test -p sprag report_preview`.
    #[test]
    fn report_preview_is_a_whole_file() {
        let html = render(&fixture::filled_page());
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
        if let Some(path) = std::env::var_os("SPRAG_REPORT_PREVIEW") {
            std::fs::write(path, html).unwrap();
        }
    }
}
