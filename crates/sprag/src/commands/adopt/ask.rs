//! Asks on the terminal what a repository does not say.

use std::io::{BufRead, IsTerminal, Write};

use sprag_engine::adopt::{Question, Wishes};

use crate::ui::tame;

/// True when there is somebody to ask.
pub fn possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks until the answer can be taken; false when there is none.
pub fn settle(question: &Question, wishes: &mut Wishes) -> anyhow::Result<bool> {
    let (mut input, mut talk) = (std::io::stdin().lock(), std::io::stderr().lock());
    settle_with(question, wishes, &mut input, &mut talk)
}

fn settle_with(
    question: &Question,
    wishes: &mut Wishes,
    input: &mut dyn BufRead,
    talk: &mut dyn Write,
) -> anyhow::Result<bool> {
    writeln!(talk, "\n{}", tame(&question.text))?;
    for (index, choice) in question.choices.iter().enumerate() {
        writeln!(talk, "  {}  {:<24} {}", index + 1, tame(&choice.value), tame(&choice.why))?;
    }
    loop {
        let numbers = if question.choices.is_empty() { "" } else { "a number, or " };
        write!(talk, "{numbers}the value of {} (nothing: leave it): ", question.flag)?;
        talk.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(false);
        }
        let (flag, value) = answer(question, line.trim());
        match wishes.answer(flag, value) {
            Ok(()) => return Ok(true),
            Err(problem) => writeln!(talk, "{problem}")?,
        }
    }
}

/// The choice of that number, else the words themselves.
fn answer<'q>(question: &'q Question, words: &'q str) -> (&'q str, &'q str) {
    let chosen = words.parse::<usize>().ok().and_then(|number| question.choices.get(number.checked_sub(1)?));
    chosen.map_or((question.flag, words), |choice| (choice.flag.as_str(), choice.value.as_str()))
}

#[cfg(test)]
mod tests {
    use sprag_engine::adopt::Choice;
    use sprag_engine::record::Direction;

    use super::*;

    fn question(flag: &'static str, values: &[&str]) -> Question {
        let choice = |value: &&str| Choice {
            flag: format!("{} {value}", flag.split(' ').next().unwrap_or_default()),
            value: (*value).to_owned(),
            why: "seen".to_owned(),
        };
        Question { text: "which?".to_owned(), choices: values.iter().map(choice).collect(), flag }
    }

    fn told(question: &Question, typed: &str) -> (bool, Wishes, String) {
        let (mut wishes, mut talk) = (Wishes::default(), Vec::new());
        let settled = settle_with(question, &mut wishes, &mut typed.as_bytes(), &mut talk).unwrap();
        (settled, wishes, String::from_utf8(talk).unwrap())
    }

    #[test]
    fn a_number_chooses_and_words_stand_for_themselves() {
        let metrics = question("--metric NAME", &["loss", "size"]);
        assert_eq!(told(&metrics, "2\n").1.metric.as_deref(), Some("size"));
        assert_eq!(told(&metrics, "speed\n").1.metric.as_deref(), Some("speed"));
        let files = question("--mutable GLOB", &["a.py"]);
        assert_eq!(told(&files, "a.py src/**\n").1.mutable, ["a.py", "src/**"]);
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again_and_none_leaves_it_open() {
        let ways = question("--direction lower|higher", &["lower", "higher"]);
        let (settled, wishes, talk) = told(&ways, "sideways\nhigher\n");
        assert!(settled && wishes.direction == Some(Direction::Higher));
        assert!(talk.contains("`sideways` is no direction"), "{talk}");
        assert!(!told(&ways, "\n").0);
        assert!(!told(&ways, "").0);
    }
}
