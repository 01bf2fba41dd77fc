//! Text that others wrote, made harmless to read: a known attack on loops like this one hides instructions for the
//! next proposer in what a trial prints.

/// One line of somebody else's, for a table or a sentence: cut, without control characters, in quotes.
pub fn line(text: &str, most: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() || is_hidden(c) { ' ' } else { c }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = words.chars().take(most).collect();
    let more = if cut.len() < words.len() { "..." } else { "" };
    format!("\"{}{more}\"", cut.replace('"', "'").replace('|', "\\|").replace('`', "'"))
}

/// Several lines, at most so many, within a fence longer than any in them.
pub fn block(text: &str, lines: usize, width: usize) -> String {
    let all: Vec<String> = text.lines().map(|line| tame(line, width)).collect();
    let left_out = all.len().saturating_sub(lines);
    let mut shown = all.into_iter().take(lines).collect::<Vec<_>>().join("\n");
    if left_out > 0 {
        shown.push_str(&format!("\n({left_out} more lines)"));
    }
    let fence = fence(&shown);
    format!("{fence}data\n{shown}\n{fence}")
}

/// A fence longer than any within the text.
pub fn fence(text: &str) -> String {
    let mut fence = "````".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    fence
}

fn tame(line: &str, width: usize) -> String {
    let plain = |c: char| if (c.is_control() && c != '\t') || is_hidden(c) { ' ' } else { c };
    line.chars().take(width).map(plain).collect()
}

/// Characters that are not seen, or turn text around.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}
