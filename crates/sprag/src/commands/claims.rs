//! `sprag claims`: public claims about machines and models, judged each time anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use sprag_measure::claims::{Claim, Judged, SHIPPED, judge, read_claims};

use super::{print_json, println_or_stop, write_whole};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::report::html::begin;
use crate::report::plot::escape;
use crate::ui::tame;

/// Judge public claims about machines and models by the planner's own arithmetic
///
/// A claim is data: what is said, by whom, and which quantities it must agree with. Its verdict is computed each time: it
/// holds, cannot happen (does not fit, or is above what the machine can do), is wrong by a factor, is a slip of units, a
/// projection, contradicts another claim, or cannot be judged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag claims
         sprag claims show 1
         sprag claims --file mine.toml --report claims.html")]
pub struct Args {
    #[command(subcommand)]
    command: Option<ClaimsCommand>,
    /// Claims of one's own instead of those that ship (docs/claims.md describes the form)
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    /// Also write a page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum ClaimsCommand {
    /// Show one claim with all of its working
    #[command(after_help = "Example: sprag claims show 13")]
    Show {
        /// Its number
        #[arg(value_name = "N")]
        id: u32,
    },
}

/// Judges them.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let claims = read(args.file.as_deref())?;
    let judged =
        claims.iter().map(|claim| judge(claim, &claims)).collect::<Result<Vec<Judged<'_>>, _>>().map_err(
            |error| Failure::new(format!("cannot judge: {error}")).hint("docs/claims.md describes the form"),
        )?;
    if let Some(ClaimsCommand::Show { id }) = args.command {
        return show(&judged, id, args.json);
    }
    if let Some(report) = &args.report {
        write_whole(report, &page(&judged))?;
    }
    if args.json {
        let all: Vec<Value> = judged.iter().map(told).collect();
        print_json(&json!({ "verdicts": counts(&judged), "claims": all }))?;
        return Ok(ExitCode::Success);
    }
    for one in &judged {
        let projected = if one.projected { "  PROJECTED" } else { "" };
        println_or_stop(&format!("{:>3}  {}{projected}", one.claim.id, tame(&one.claim.statement)))?;
        println_or_stop(&format!("     {}", tame(&one.verdict.to_string())))?;
    }
    let counts: Vec<String> = counts(&judged).iter().map(|(word, count)| format!("{count} {word}")).collect();
    println_or_stop(&format!("{} claims: {}", judged.len(), counts.join(", ")))?;
    match &args.report {
        Some(report) => println_or_stop(&format!("report {}", report.display()))?,
        None => println_or_stop("next: sprag claims show N")?,
    }
    Ok(ExitCode::Success)
}

fn read(file: Option<&Path>) -> anyhow::Result<Vec<Claim>> {
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => SHIPPED.to_owned(),
    };
    Ok(read_claims(&text).map_err(|error| {
        let shown = file.map_or("the claims that ship".to_owned(), |path| path.display().to_string());
        Failure::new(format!("cannot read {shown}: {error}")).hint("docs/claims.md describes the form")
    })?)
}

fn counts(judged: &[Judged<'_>]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for one in judged {
        *counts.entry(one.verdict.word()).or_default() += 1;
    }
    counts
}

fn claimed(claim: &Claim) -> String {
    let numbers: Vec<String> = claim.claimed.iter().map(f64::to_string).collect();
    format!("{} {}", numbers.join(" to "), claim.unit.parts().1).trim_end().to_owned()
}

fn show(judged: &[Judged<'_>], id: u32, json: bool) -> anyhow::Result<ExitCode> {
    let one = judged.iter().find(|one| one.claim.id == id).ok_or_else(|| {
        let last = judged.iter().map(|one| one.claim.id).max().unwrap_or(0);
        Failure::new(format!("there is no claim {id}")).hint(format!("the last one is {last}"))
    })?;
    if json {
        print_json(&told(one))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!("claim {id}   {}", tame(&one.claim.statement)))?;
    println_or_stop(&format!("source    {}", tame(&one.claim.source)))?;
    println_or_stop(&format!("claimed   {}", claimed(one.claim)))?;
    println_or_stop(&format!("verdict   {}", tame(&one.verdict.to_string())))?;
    if one.projected {
        println_or_stop("          PROJECTED: nobody sells a machine that it is about")?;
    }
    for line in &one.working {
        println_or_stop(&format!("working   {}", tame(line)))?;
    }
    Ok(ExitCode::Success)
}

fn told(one: &Judged<'_>) -> Value {
    let claim = one.claim;
    json!({ "id": claim.id, "statement": claim.statement, "source": claim.source, "claimed": claim.claimed,
        "unit": claim.unit.parts().1, "verdict": one.verdict.word(), "verdict_text": one.verdict.to_string(),
        "projected": one.projected, "working": one.working })
}

fn page(judged: &[Judged<'_>]) -> String {
    let mut html = begin("Claims - Sprag");
    let counts: Vec<String> = counts(judged).iter().map(|(word, count)| format!("{count} {word}")).collect();
    html.push_str(&format!(
        "<header>\n<h1>Claims</h1>\n<p class=\"sub\">{} claims, judged by arithmetic: {}</p>\n</header>\n<section>\n",
        judged.len(),
        escape(&counts.join(", "))
    ));
    for one in judged {
        let projected = if one.projected { " (PROJECTED)" } else { "" };
        html.push_str(&format!(
            "<details id=\"claim-{id}\"><summary>{id}. {}: <strong>{}</strong>{projected}</summary>\n<p class=\"sub\">claimed {} by {}</p>\n<ul>\n",
            escape(&one.claim.statement),
            escape(&one.verdict.to_string()),
            escape(&claimed(one.claim)),
            escape(&one.claim.source),
            id = one.claim.id,
        ));
        for line in &one.working {
            html.push_str(&format!("<li>{}</li>\n", escape(line)));
        }
        html.push_str("</ul></details>\n");
    }
    html.push_str("</section>\n</main>\n</body>\n</html>\n");
    html
}
