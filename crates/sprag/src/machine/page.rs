//! A probe as one self-contained page: the roofline and the ladder of the caches as pictures, the figures as text.

use sprag_measure::probe::Probe;

use super::words;
use crate::report::html::begin;
use crate::report::plot::{escape, machine};

/// The page's text.
pub fn render(probe: &Probe) -> String {
    let name = probe.machine.get("cpu").map_or("this machine", String::as_str);
    let mut html = begin(&format!("{name} - Sprag probe"));
    html.push_str(&format!(
        "<header>\n<h1>{}</h1>\n<p class=\"sub\">measured at {} in {:.0} s; every figure is the median of its goes, with \
         half of their range</p>\n</header>\n",
        escape(name),
        escape(&probe.at),
        probe.seconds
    ));
    for doubt in words::doubts(probe) {
        html.push_str(&format!(
            "<p class=\"warning\">{}</p>\n",
            escape(doubt.trim_start_matches("note").trim())
        ));
    }
    html.push_str("<section>\n<h2>Roofline</h2>\n<figure>\n");
    html.push_str(&machine::roofline(probe).unwrap_or_default());
    html.push_str(
        "<figcaption>Under the slope memory limits, under the roof arithmetic. The roof is the highest peak that was \
         reached, the slope the most bytes that surely moved.</figcaption>\n</figure>\n</section>\n<section>\n<h2>Where the caches \
         end</h2>\n<div class=\"pair\"><figure>\n",
    );
    html.push_str(&machine::latency(probe).unwrap_or_default());
    html.push_str(
        "<figcaption>Time from one load to the next that depends on it, over the size of what is worked on. Dashed: where \
         the system says that a cache ends.</figcaption>\n</figure>\n<figure>\n",
    );
    html.push_str(&machine::reading(probe).unwrap_or_default());
    html.push_str("<figcaption>What one core reads in order.</figcaption>\n</figure></div>\n</section>\n<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><pre style=\"max-height: none\">");
    html.push_str(&escape(&words::lines(probe).join("\n")));
    html.push_str("</pre></div>\n</section>\n</main>\n</body>\n</html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_for_anything_and_shows_three_pictures() {
        let mut probe = super::words::fixture();
        probe.machine.insert("cpu".to_owned(), "<b>Chip</b>".to_owned());
        let html = render(&probe);
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(!html.contains("<b>Chip") && !html.contains("http://") && !html.contains("https://"));
        assert!(html.contains("default-src 'none'") && !html.contains("NaN"));
    }
}
