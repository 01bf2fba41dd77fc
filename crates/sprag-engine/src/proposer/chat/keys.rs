//! Keys for servers: from the environment or from a file that only its owner can read, and shown nowhere.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Hosts whose keys have variables of their own; a key goes to no other host.
const VARIABLES: [(&str, &str); 3] = [
    ("api.anthropic.com", "ANTHROPIC_API_KEY"),
    ("api.openai.com", "OPENAI_API_KEY"),
    ("openrouter.ai", "OPENROUTER_API_KEY"),
];
/// For all other hosts.
const VARIABLE: &str = "SPRAG_API_KEY";
/// Names the key file.
const FILE_VARIABLE: &str = "SPRAG_KEY_FILE";

/// A key. It has no way to be printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(hidden)")
    }
}

impl Key {
    /// The key for a host: from the key file, else from the host's variable.
    ///
    /// # Errors
    /// The file can be read by others, or is not as it should be; its content is not repeated.
    pub(super) fn find(host: &str, environment: &[(OsString, OsString)]) -> Result<Option<Key>, String> {
        let text = match in_file(host, environment)? {
            Some(key) => key,
            None => {
                let variable = variable(host);
                match value(environment, variable) {
                    Some(key) => {
                        key.into_string().map_err(|_| format!("{variable} holds what no key holds"))?
                    }
                    None => return Ok(None),
                }
            }
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("the key for {host} has a space or another character that no key has"));
        }
        Ok(Some(Key(text.to_owned())))
    }

    /// For the header, and nothing else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// A text without the key: servers repeat it in complaints.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

/// What to do about a key that is missing or refused.
pub(super) fn hint(host: &str) -> String {
    format!(
        "put its key into {}, or as a line `{host} KEY` into a file of mode 600 that {FILE_VARIABLE} names",
        variable(host)
    )
}

fn variable(host: &str) -> &'static str {
    VARIABLES.iter().find(|(known, _)| *known == host).map_or(VARIABLE, |(_, variable)| variable)
}

fn value(environment: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    environment
        .iter()
        .find(|(variable, _)| variable == name)
        .map(|(_, value)| value.clone())
        .filter(|value| !value.is_empty())
}

/// Lines of `HOST KEY`; `#` begins a comment.
fn in_file(host: &str, environment: &[(OsString, OsString)]) -> Result<Option<String>, String> {
    let Some(path) = value(environment, FILE_VARIABLE).map(PathBuf::from) else { return Ok(None) };
    let shown = path.display();
    let found = path.metadata().map_err(|cause| format!("read the key file {shown}: {cause}"))?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(format!(
            "others may read the key file {shown}; `chmod 600 {shown}`, and take new keys if they did"
        ));
    }
    let text =
        std::fs::read_to_string(&path).map_err(|cause| format!("read the key file {shown}: {cause}"))?;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [own, key] if *own == host => return Ok(Some((*key).to_owned())),
            [_, _] => {}
            _ => return Err(format!("line {} of the key file {shown} is not `HOST KEY`", at + 1)),
        }
    }
    Ok(None)
}
