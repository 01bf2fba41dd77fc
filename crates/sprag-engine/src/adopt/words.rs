//! Shell commands as they stand in documents, taken apart as far as guesses need it.

/// A command without what sends its output elsewhere, and without the prompt before it.
pub(super) fn cleaned(command: &str) -> String {
    let command = command.trim().trim_start_matches("$ ");
    let end = [" >", " 2>", " &>", " | tee"].iter().filter_map(|mark| command.find(mark)).min();
    command[..end.unwrap_or(command.len())].trim().trim_end_matches(" &").to_owned()
}

/// A word for a shell.
pub fn shell_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// True for what only a shell understands.
pub(super) fn needs_shell(command: &str) -> bool {
    command.contains(['|', '>', '<', ';', '&', '$', '*', '`', '(', '\\']) || command.contains('~')
}

/// The words of a command that needs no shell; quotes hold a word together.
pub(super) fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut open, mut quote) = (String::new(), false, None);
    for letter in command.chars() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (Some(_), _) => word.push(letter),
            (None, '"' | '\'') => (quote, open) = (Some(letter), true),
            (None, _) if letter.is_whitespace() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            (None, _) => word.push(letter),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// `NAME=value` before a command: the variables, and where the command itself begins.
pub(super) fn assignments(words: &[String]) -> (Vec<(String, String)>, &[String]) {
    let assigned = |word: &String| {
        let (name, value) = word.split_once('=')?;
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named =
            !name.is_empty() && name.chars().all(good) && !name.starts_with(|c: char| c.is_ascii_digit());
        named.then(|| (name.to_owned(), value.to_owned()))
    };
    let variables: Vec<(String, String)> = words.iter().map_while(assigned).collect();
    let rest = &words[variables.len()..];
    (variables, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_and_prompts_are_taken_off() {
        for (command, expected) in [
            ("uv run train.py > run.log 2>&1", "uv run train.py"),
            ("$ make bench", "make bench"),
            ("python a.py 2>&1 | tee out", "python a.py"),
            ("make a && ./a", "make a && ./a"),
            ("./go.sh &", "./go.sh"),
        ] {
            assert_eq!(cleaned(command), expected);
        }
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(split(r#"a "b c" 'd "e"' f"#), ["a", "b c", "d \"e\"", "f"]);
        assert_eq!(split("  a  '' "), ["a", ""]);
    }

    #[test]
    fn variables_before_a_command_are_its_environment() {
        let words = split("A=1 B_2='x y' python a=b.py");
        let (variables, rest) = assignments(&words);
        assert_eq!(variables, [("A".into(), "1".into()), ("B_2".into(), "x y".into())]);
        assert_eq!(rest, ["python", "a=b.py"]);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in
            [("search", "search"), ("command:a b", "'command:a b'"), ("it's", "'it'\\''s'"), ("", "''")]
        {
            assert_eq!(shell_word(word), expected);
        }
    }
}
