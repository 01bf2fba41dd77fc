//! Comparisons as self-contained pages: a picture and the figures as text.

use sprag_measure::plan::{self, Crossover, Device, Estimate, Job, SweepRow, Workload};

use super::{Chosen, ModelArgs, gigabytes, rates, sweep};
use crate::numbers;
use crate::report::html::begin;
use crate::report::plot::escape;
use crate::report::plot::machine::{Along, machines};

const END: &str = "</main>\n</body>\n</html>\n";

fn marked(device: &Device) -> String {
    if device.is_projected() { format!("{} (PROJECTED)", device.name) } else { device.name.clone() }
}

fn section(html: &mut String, title: &str, picture: Option<String>, caption: &str) {
    html.push_str(&format!("<section>\n<h2>{title}</h2>\n<figure>\n{}\n", picture.unwrap_or_default()));
    html.push_str(&format!("<figcaption>{}</figcaption>\n</figure>\n</section>\n", escape(caption)));
}

fn figures(html: &mut String, lines: &[String]) {
    html.push_str("<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><pre style=\"max-height: none\">");
    html.push_str(&escape(&lines.join("\n")));
    html.push_str("</pre></div>\n</section>\n");
}

/// One model on several machines, over the context.
pub fn compared(chosen: &Chosen, args: &ModelArgs, devices: &[Device], plans: &[Estimate]) -> String {
    let name = &chosen.architecture.name;
    let mut html = begin(&format!("{name} - Sprag plan"));
    html.push_str(&format!(
        "<header>\n<h1>{}</h1>\n<p class=\"sub\">weights in {}; computed, not measured</p>\n</header>\n",
        escape(name),
        escape(chosen.quant.name)
    ));
    let most = args.context.max(2048).ilog2();
    let over = |of: &dyn Fn(&Estimate) -> Option<f64>| -> Vec<(String, Vec<(f64, f64)>)> {
        let line = |device: &Device| {
            let at = |power: u32| {
                let job = Job { context: 1 << power, ..args.job(chosen) };
                let plan = plan::estimate(&job, device);
                let value = of(&plan).filter(|_| plan.fit.fits())?;
                Some(((1_u64 << power) as f64, value))
            };
            (marked(device), (7..=most).filter_map(at).collect())
        };
        devices.iter().map(line).collect()
    };
    section(
        &mut html,
        "Decode",
        machines(
            "decode over the context",
            "tokens/s",
            Along::Positions,
            &over(&|plan| Some(plan.decode.expected)),
        ),
        "Expected tokens a second at each length of the context; a line ends where the model does not fit any more.",
    );
    section(
        &mut html,
        "Prefill",
        machines(
            "prefill over the prompt",
            "tokens/s",
            Along::Positions,
            &over(&|plan| Some(plan.prefill?.expected)),
        ),
        "Machines of which nobody says how many operations they do have no line.",
    );
    let mut lines = Vec::new();
    for (device, plan) in devices.iter().zip(plans) {
        let fits = if plan.fit.fits() { "fits" } else { "DOES NOT FIT" };
        lines.push(format!(
            "{}: {fits}, {} of {}",
            marked(device),
            gigabytes(plan.fit.needed),
            gigabytes(plan.fit.usable)
        ));
        lines.push(format!("  decode at {} positions: {}", args.context, rates(&plan.decode)));
        lines.extend(plan.prefill.as_ref().map(|prefill| format!("  prefill: {}", rates(prefill))));
        lines.push(format!("  sources: {}", device.source()));
    }
    figures(&mut html, &lines);
    html.push_str(END);
    html
}

/// Machines over the size of a model.
pub fn swept(devices: &[Device], workload: &Workload, rows: &[SweepRow], changes: &[Crossover]) -> String {
    let mut html = begin("Machines over model size - Sprag plan");
    html.push_str(&format!(
        "<header>\n<h1>Machines over model size</h1>\n<p class=\"sub\">dense models in {}, a prompt of {} tokens and an \
         answer of {}; computed, not measured</p>\n</header>\n",
        escape(workload.quant.name),
        workload.prompt,
        workload.answer
    ));
    let over = |of: &dyn Fn(&plan::SweepPoint) -> f64| -> Vec<(String, Vec<(f64, f64)>)> {
        let line = |(at, device): (usize, &Device)| {
            let fitting = rows.iter().filter(|row| row.points[at].fits);
            (marked(device), fitting.map(|row| (row.params as f64, of(&row.points[at]))).collect())
        };
        devices.iter().enumerate().map(line).collect()
    };
    section(
        &mut html,
        "Time of the answer",
        machines(
            "seconds until the end of the answer",
            "seconds",
            Along::Parameters,
            &over(&|point| point.seconds),
        ),
        "A line ends where the model does not fit any more.",
    );
    section(
        &mut html,
        "Decode",
        machines("decode over the size", "tokens/s", Along::Parameters, &over(&|point| point.decode)),
        "Expected tokens a second.",
    );
    let mut lines: Vec<String> = changes.iter().map(|change| sweep::changed(change, devices)).collect();
    for (at, device) in devices.iter().enumerate() {
        let most = rows.iter().rfind(|row| row.points[at].fits);
        let most = most.map_or("nothing".to_owned(), |row| numbers::count(row.params as f64));
        lines.push(format!("{}: the largest that fits is {most}; {}", marked(device), device.source()));
    }
    figures(&mut html, &lines);
    html.push_str(END);
    html
}
