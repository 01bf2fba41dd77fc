//! A comparison of runtimes as one self-contained page.

use crate::report::html::begin;
use crate::report::plot::escape;
use crate::report::plot::machine::{Along, machines};

use super::summary::Row;

/// The page: rates over the length of the prompt as pictures, all figures as text.
pub fn render(title: &str, subtitle: &str, measured: &[(String, Vec<Row>)], lines: &[String]) -> String {
    let mut html = begin(&format!("{title} - Sprag bench"));
    html.push_str(&format!(
        "<header>\n<h1>{}</h1>\n<p class=\"sub\">{}</p>\n</header>\n",
        escape(title),
        escape(subtitle)
    ));
    let over = |of: &dyn Fn(&Row) -> Option<f64>| -> Vec<(String, Vec<(f64, f64)>)> {
        let line = |(name, rows): &(String, Vec<Row>)| {
            let point = |row: &Row| Some((f64::from(row.prompt_tokens), of(row)?));
            (name.clone(), rows.iter().filter_map(point).collect())
        };
        measured.iter().map(line).collect()
    };
    for (name, label, of) in [
        (
            "Decode",
            "decode over the length of the prompt",
            &(|row: &Row| Some(row.decode?.median)) as &dyn Fn(&Row) -> Option<f64>,
        ),
        ("Prefill", "prefill over the length of the prompt", &|row: &Row| Some(row.prefill.median)),
    ] {
        // One length is a point, and no line.
        if let Some(picture) = machines(label, "tokens/s", Along::Positions, &over(of)) {
            html.push_str(&format!(
                "<section>\n<h2>{name}</h2>\n<figure>\n{picture}\n</figure>\n</section>\n"
            ));
        }
    }
    html.push_str("<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><pre style=\"max-height: none\">");
    html.push_str(&escape(&lines.join("\n")));
    html.push_str("</pre></div>\n</section>\n</main>\n</body>\n</html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::super::summary::{Needs, rows, tests::measured};
    use super::*;

    #[test]
    fn the_page_asks_nobody_for_anything_and_escapes_names() {
        let needs = Needs { bytes: &|_| 0.8e9, prompt_flop: &|_| 2e9 };
        let rows = rows(&measured("a", 45.0), &[128], 33, &needs);
        let html = render("<b>model</b>", "sub", &[("a".to_owned(), rows)], &["line".to_owned()]);
        assert!(!html.contains("<b>model") && html.contains("default-src 'none'") && !html.contains("NaN"));
    }
}
