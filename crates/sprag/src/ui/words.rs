//! A trial, a headline and counts as lines of text; console, `log`, `status` and `show` share them.

use sprag_engine::memory::Yield;
use sprag_engine::record::{AuditEnd, Budget, Raced};
use sprag_engine::session::{SECOND_PAIRS, Second};
use sprag_engine::state::EarlyStops;
use sprag_measure::stats::Interval;

use crate::numbers;
use crate::report::html;
use crate::report::model::{
    AuditView, Counts, EffectView, Estimate, Headline, Mark, Page, Standing, TrialView,
};

use super::{Tone, tame, toned};

/// Columns that gain, interval and repeats take.
const EFFECT_COLUMNS: usize = 38;

/// One finished (or open) trial on one line: number, verdict, what it rests on, title, reason.
pub fn trial_line(trial: &TrialView, page: &Page, colour: bool) -> String {
    let verdict = toned(&format!("{:<12}", trial.mark.word()), tone(trial.mark), colour);
    let middle = match (&trial.effect, &trial.invalid) {
        (Some(view), _) => effect(view, page.decimals),
        (None, Some((reason, _))) => reason.clone(),
        (None, None) if trial.mark == Mark::Baseline => page
            .headline
            .as_ref()
            .map_or_else(String::new, |headline| estimate(&headline.baseline, page.decimals)),
        (None, None) => trial.raced.as_ref().map_or_else(String::new, |raced| place(raced, page.decimals)),
    };
    let mut line =
        format!("trial {:>3}  {verdict}  {middle:<EFFECT_COLUMNS$}  {}", trial.id, tame(&trial.title));
    if let Some((_, detail)) = &trial.invalid {
        let first = detail.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if !first.is_empty() {
            line += &format!(" ({})", tame(first.trim()));
        }
    }
    line.trim_end().to_owned()
}

/// `3 of 4 on 5 s, 0.0123 behind trial 2`.
fn place(raced: &Raced, decimals: usize) -> String {
    let behind = numbers::plain(raced.behind, decimals);
    format!("{} of {} on {}, {behind} behind trial {}", raced.place, raced.of, raced.budget, raced.against)
}

/// `+0.0312 [+0.0062, +0.0562] 2 repeats`.
pub fn effect(effect: &EffectView, decimals: usize) -> String {
    let [gain, low, high] =
        [effect.gain, effect.low, effect.high].map(|value| numbers::signed(value, decimals));
    let rests = if effect.runs == 0 { "1 run".to_owned() } else { numbers::repeats(effect.runs) };
    format!("{gain} [{low}, {high}] {rests}")
}

/// A keep under both budgets: `by speed: +0.0912 [+0.0182, +0.1642] within 20 s of training, +0.0005 [-0.0125, +0.0135]
/// (sd 0.0021, n=2) within 500 k tokens, 1.196 [1.177, 1.216] times the speed (n=4) of trial 0`.
pub fn second(second: &Second, first: Budget, decimals: usize) -> String {
    let between = |[gain, low, high]: [f64; 3]| {
        let [gain, low, high] = [gain, low, high].map(|value| numbers::signed(value, decimals));
        format!("{gain} [{low}, {high}]")
    };
    let Second { first: effect, budget, gain, sd, speed, cause, skipped, against, .. } = second;
    let first = format!("{} within {}", between([effect.gain, effect.low, effect.high]), html::budget(first));
    let other = match gain {
        Some(Interval { estimate, low, high, n, .. }) => {
            let sd =
                sd.map_or("spread unknown".to_owned(), |sd| format!("sd {}", numbers::plain(sd, decimals)));
            format!("{} ({sd}, n={n})", between([*estimate, *low, *high]))
        }
        None => "no pair".to_owned(),
    };
    let speed = match speed {
        Some(Interval { estimate, low, high, n, .. }) => {
            format!("{estimate:.3} [{low:.3}, {high:.3}] times the speed (n={n}) of trial {against}")
        }
        None => format!("a speed that does not compare with that of trial {against}"),
    };
    let mut line = format!("{cause}: {first}, {other} within {}, {speed}", html::budget(*budget));
    if !skipped.is_empty() {
        line += &format!("; {} of {SECOND_PAIRS} pairs left out: {}", skipped.len(), skipped.join("; "));
    }
    line
}

/// `2.4132 ± 0.0048 (sd, n=5)`.
pub fn estimate(estimate: &Estimate, decimals: usize) -> String {
    let mean = numbers::plain(estimate.mean, decimals);
    match estimate.sd {
        Some(sd) => format!("{mean} ± {} (sd, n={})", numbers::plain(sd, decimals), estimate.n),
        None => format!("{mean} (n={}, spread unknown)", estimate.n),
    }
}

/// The first line of every view: what this run can tell from noise, and what it cannot.
pub fn floor(page: &Page) -> String {
    match page.headline.as_ref().and_then(|headline| headline.detectable) {
        Some(detectable) => format!(
            "floor     {}: a true gain of {} is found 8 times in 10, smaller ones less often",
            page.metric,
            numbers::plain(detectable, page.decimals)
        ),
        None if page.headline.is_some() => {
            format!("floor     {}: none, this policy tells no gain from noise", page.metric)
        }
        None => format!("floor     {}: not known before the baseline is measured", page.metric),
    }
}

/// What was certified, with what it rests on; empty before the first audit.
pub fn audits(page: &Page) -> Vec<String> {
    let mut lines: Vec<String> = page.audits.iter().map(|audit| audit_line(audit, page.decimals)).collect();
    let ended = page.audits.iter().filter(|audit| audit.end.is_some()).count();
    if ended > 0 {
        lines.push(format!(
            "          of {ended} audits at most {:.3} certify falsely in expectation",
            page.expected_false_certifications
        ));
    }
    lines
}

/// One audit on one line.
pub fn audit_line(audit: &AuditView, decimals: usize) -> String {
    let word = audit.end.map_or("under way", AuditEnd::word);
    let what = format!("audit {:>3} {word:<10} trial {} over trial {}", audit.id, audit.tip, audit.against);
    let Some(effect) = &audit.effect else {
        return format!("{what}: {}", audit.reason.as_deref().map(tame).unwrap_or_default());
    };
    let [gain, low, high] = [effect.gain, effect.low, effect.high].map(|end| numbers::signed(end, decimals));
    format!(
        "{what}: {gain} [{low}, {high}] in {} fresh pairs, e-value {}",
        effect.runs,
        numbers::e_value(audit.e_value.unwrap_or_default())
    )
}

/// What is asked for because the run stands still.
pub fn plateau(page: &Page) -> Option<String> {
    page.plateau.map(|plateau| {
        format!(
            "nothing was kept in {} judged trials, so proposers are asked for {}",
            plateau.without_win,
            plateau.stage.words()
        )
    })
}

/// What proposers cost, as far as they tell; nothing where none costs anything.
pub fn spent(page: &Page) -> Option<String> {
    let spent = page.spent;
    if spent.seconds <= 0.0 {
        return None;
    }
    let tokens = match spent.tokens() {
        0 => "tokens not told".to_owned(),
        tokens => format!("{} tokens", numbers::count(tokens as f64)),
    };
    let usd = spent.usd.map_or_else(|| "dollars not told".to_owned(), |usd| format!("{usd:.2} USD"));
    Some(format!("{} of asking, {tokens}, {usd}", numbers::duration(spent.seconds)))
}

/// True where it matters who proposed: there are several, or one that costs something.
pub fn shows_yields(page: &Page) -> bool {
    page.yields.len() > 1 || page.spent.seconds > 0.0
}

/// What each proposer brought, a line each; nothing where there is one that costs nothing.
pub fn yields(page: &Page) -> Vec<String> {
    if !shows_yields(page) {
        return Vec::new();
    }
    let line = |one: &Yield| {
        let usd = one.spending.usd.map(|usd| format!(", {usd:.2} USD")).unwrap_or_default();
        let tokens = match one.spending.tokens() {
            0 => String::new(),
            tokens => format!(", {} tokens", numbers::count(tokens as f64)),
        };
        format!(
            "by        {}: {}, {} kept, {} certified; gain {:.2} sigma certified, {:.2} tentative; {}{tokens}{usd}",
            tame(&one.proposer),
            if one.tried == 1 { "1 trial".to_owned() } else { format!("{} trials", one.tried) },
            one.kept,
            one.certified,
            one.certified_gain_sigmas,
            one.tentative_gain_sigmas,
            numbers::duration(one.hours * 3600.0),
        )
    };
    page.yields.iter().map(line).collect()
}

/// What a score that the candidate tells itself is worth.
pub fn self_reported(page: &Page) -> Option<&'static str> {
    page.self_reported.then_some(
        "scores    are what the candidate says itself: fixed files are hashed, and a separate `[evaluate]` command in a \
         pristine tree would judge it (docs/task.md)",
    )
}

/// What is certified and the tip with its gain over the baseline, as lines.
pub fn headline(headline: &Headline, page: &Page) -> Vec<String> {
    let decimals = page.decimals;
    let mut lines =
        vec![floor(page), format!("baseline  {} {}", page.metric, estimate(&headline.baseline, decimals))];
    match page.certified {
        Some(certified) if certified > 0 => {
            let title = page.trials.get(certified as usize).map_or("", |trial| trial.title.as_str());
            lines.push(format!("certified trial {certified}: {}", tame(title)));
        }
        _ => lines.push("certified nothing over the baseline yet".to_owned()),
    }
    match &headline.gain {
        None => lines.push("tip       the baseline: nothing better was found yet".to_owned()),
        Some(gain) => {
            let id = headline.tip;
            let score = stands(headline, decimals);
            let level = match page.tentative {
                0 => "certified".to_owned(),
                1 => "1 keep tentative".to_owned(),
                keeps => format!("{keeps} keeps tentative"),
            };
            lines.push(format!(
                "tip       {} {score}  trial {id}: {} ({level})",
                page.metric,
                tame(&headline.title)
            ));
            let [estimate, low, high] =
                [gain.estimate, gain.low, gain.high].map(|end| numbers::signed(end, decimals));
            lines.push(format!(
                "gain      {estimate} [{low}, {high}] at {:.0} % over the baseline",
                gain.level * 100.0
            ));
        }
    }
    lines.extend(self_reported(page).map(str::to_owned));
    lines.extend(plateau(page).map(|words| format!("plateau   {words}")));
    lines.extend(spent(page).map(|words| format!("proposers {words}")));
    lines.extend(audits(page));
    if let Some(score) = page.holdout {
        lines.push(format!(
            "holdout   {} {} is shown of the sealed holdout, after {} of {} queries",
            page.metric,
            numbers::plain(score, decimals),
            page.holdout_queries,
            page.policy.holdout_queries
        ));
    }
    lines.extend(early_stops(page.early_stops));
    match page.disturbed {
        0 => {}
        1 => lines.push("machine   1 execution was disturbed and made again".to_owned()),
        n => lines.push(format!("machine   {n} executions were disturbed and made again")),
    }
    lines
}

/// What stopping early did; nothing where it never came to that.
fn early_stops(EarlyStops { stopped, run_on, kept }: EarlyStops) -> Option<String> {
    (stopped + run_on > 0).then(|| {
        format!(
            "stopped   {stopped} early; {run_on} run on to measure false stops, of which {kept} were kept (false stops)"
        )
    })
}

/// `2.3967 ± 0.0091 (standard error), own runs 2.3910 ± 0.0370 (sd, n=5)`.
fn stands(headline: &Headline, decimals: usize) -> String {
    let own = estimate(&headline.score, decimals);
    match headline.standing {
        Some(Standing { mean, standard_error }) => {
            let [mean, error] = [mean, standard_error].map(|value| numbers::plain(value, decimals));
            format!("{mean} ± {error} (standard error), own runs {own}")
        }
        None => own,
    }
}

/// `26 trials: 5 wins, 8 losses, ...`; what did not happen is left out.
pub fn counts(counts: &Counts) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u32, one: &str, several: &str| {
        if n > 0 {
            parts.push(format!("{n} {}", if n == 1 { one } else { several }));
        }
    };
    part(counts.wins, "win", "wins");
    part(counts.losses, "loss", "losses");
    part(counts.inconclusive, "inconclusive", "inconclusive");
    part(counts.outrun, "outrun", "outrun");
    part(counts.stopped, "stopped early", "stopped early");
    part(counts.invalid_total(), "invalid", "invalid");
    part(counts.undone, "undone", "undone");
    part(counts.open, "open", "open");
    let total = counts.total();
    let noun = if total == 1 { "trial" } else { "trials" };
    if parts.is_empty() { format!("{total} {noun}") } else { format!("{total} {noun}: {}", parts.join(", ")) }
}

/// `3 memory, 1 build`; empty without invalid trials.
pub fn reasons(counts: &Counts) -> String {
    let parts: Vec<String> = counts.invalid.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    parts.join(", ")
}

fn tone(mark: Mark) -> Tone {
    match mark {
        Mark::Win => Tone::Good,
        Mark::Loss | Mark::Stopped => Tone::Bad,
        Mark::Inconclusive | Mark::Undone => Tone::Doubt,
        Mark::Invalid | Mark::Open | Mark::Outrun => Tone::Faint,
        Mark::Baseline => Tone::Strong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_ending_reads_without_colour() {
        let page = fixture::filled_page();
        for (id, expected) in [
            (0, "trial   0  BASELINE      2.4132 ± 0.0048 (sd, n=5)               the code as it was"),
            (2, "trial   2  WIN           +0.0312 [+0.0062, +0.0562] 2 repeats    N_LAYER 4 -> 3"),
            (5, "trial   5  LOSS          -0.0212 [-0.0339, -0.0064] 1 run        N_HEAD 4 -> 8"),
            (
                3,
                "trial   3  INVALID       memory                                  BATCH_SIZE 16 -> 256 (used 8.4 GiB of 8.0 GiB)",
            ),
            (10, "trial  10  UNDONE        +0.0241 [+0.0048, +0.0434] 2 repeats    SEQ_LEN 256 -> 192"),
            (25, "trial  25  OPEN                                                  N_LAYER 3 -> 2"),
        ] {
            assert_eq!(trial_line(&page.trials[id], &page, false), expected);
        }
    }

    #[test]
    fn a_keep_under_both_budgets_says_gains_spread_speed_and_what_is_missing() {
        let page = fixture::page_of_two_budgets();
        let line = |id: usize| second(page.trials[id].second.as_ref().unwrap(), page.budget, page.decimals);
        let speed = line(1);
        assert!(
            speed.starts_with("by speed: +0.0912 [+0.0182, +0.1642] within 20 s of training, +0.0005 ["),
            "{speed}"
        );
        assert!(
            speed.contains("] (sd 0.0021, n=2) within 500 k tokens, 1.")
                && speed.ends_with("(n=4) of trial 0"),
            "{speed}"
        );
        assert!(line(2).starts_with("by learning: ") && line(2).ends_with("of trial 1"), "{}", line(2));
        let unclear = line(3);
        assert!(
            unclear.starts_with("unclear: ") && unclear.contains(", no pair within 500 k tokens, "),
            "{unclear}"
        );
        let skipped = "; 2 of 2 pairs left out: trial 3 gave no score: timeout: no end after 55 s; trial";
        assert!(unclear.contains(skipped), "{unclear}");
    }

    #[test]
    fn who_was_outrun_is_told_its_place_and_counted_apart() {
        let mut page = fixture::filled_page();
        let budget = sprag_engine::record::Budget::Seconds(5.0);
        let trial = &mut page.trials[5];
        (trial.mark, trial.effect) = (Mark::Outrun, None);
        trial.raced = Some(Raced { place: 3, of: 4, against: 2, behind: 0.0123, budget });
        let expected = "trial   5  OUTRUN        3 of 4 on 5s, 0.0123 behind trial 2     N_HEAD 4 -> 8";
        assert_eq!(trial_line(&page.trials[5], &page, false), expected);
        let several = Counts { wins: 1, outrun: 3, ..Counts::default() };
        assert_eq!(counts(&several), "4 trials: 1 win, 3 outrun");
    }

    #[test]
    fn early_stops_are_told_once_there_are_any() {
        assert_eq!(early_stops(EarlyStops::default()), None);
        let line = early_stops(EarlyStops { stopped: 7, run_on: 2, kept: 1 }).unwrap();
        assert!(
            line.ends_with("7 early; 2 run on to measure false stops, of which 1 were kept (false stops)"),
            "{line}"
        );
    }

    #[test]
    fn colour_adds_nothing_but_escapes() {
        let page = fixture::filled_page();
        for trial in &page.trials {
            let coloured = trial_line(trial, &page, true);
            let mut bare = String::new();
            let mut rest = coloured.as_str();
            while let Some(start) = rest.find('\u{1b}') {
                bare += &rest[..start];
                let end = rest[start..].find('m').unwrap();
                rest = &rest[start + end + 1..];
            }
            bare += rest;
            assert_eq!(bare, trial_line(trial, &page, false));
        }
    }

    #[test]
    fn control_characters_of_a_title_do_not_reach_the_terminal() {
        let mut page = fixture::filled_page();
        page.trials[2].title = "a\u{1b}[2Jb\nc".to_owned();
        let line = trial_line(&page.trials[2], &page, false);
        assert!(line.ends_with("a [2Jb c"), "{line}");
    }
}
