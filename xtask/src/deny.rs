//! Licences and sources of every dependency, from `cargo metadata`: what `cargo deny` checks that needs no
//! network. Security advisories need its database and are checked where there is one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sprag_measure::process;

/// Licences that a program under Apache-2.0 OR MIT may link.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Packages whose manifest names a licence file instead of an expression, and what that file, read by a person,
/// says. A new version is read again.
const READ_BY_HAND: &[(&str, &str, &str)] = &[("cfg_block", "0.1.1", "Apache-2.0")];

/// Checks every package that this platform builds from.
pub fn run(root: &Path) -> Result<String> {
    let metadata: Value =
        serde_json::from_slice(&metadata(root)?).context("read the output of cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let findings: Vec<String> = packages.iter().flat_map(findings).collect();
    if !findings.is_empty() {
        bail!("{} findings\n  {}", findings.len(), findings.join("\n  "));
    }
    let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
    packages.iter().for_each(|package| *versions.entry(text(package, "name")).or_default() += 1);
    let repeated = versions.values().filter(|count| **count > 1).count();
    Ok(format!("{} packages, {repeated} names in more than one version", packages.len()))
}

/// What `cargo metadata` prints. For this platform alone: packages of others were never fetched, and a check that
/// needs the network would be none.
fn metadata(root: &Path) -> Result<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let platform = ["--filter-platform", "host-tuple"];
    let environment: Vec<_> = std::env::vars_os().collect();
    let output = process::output(cargo, arguments.into_iter().chain(platform), root, &environment)
        .context("start cargo metadata")?;
    if !output.success() {
        let said = output.error_text();
        bail!(
            "cargo metadata {}: {said}\n  run `cargo fetch` once, with the network, then try again",
            output.end
        );
    }
    Ok(output.stdout)
}

/// What is wrong with the source or the licence of one package.
fn findings(package: &Value) -> Vec<String> {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let Some(source) = package["source"].as_str() else { return Vec::new() };
    let mut findings = Vec::new();
    if !source.starts_with("registry+") && !source.starts_with("sparse+") {
        findings.push(format!("{name} {version} comes from {source}, not from the registry"));
    }
    let by_hand = READ_BY_HAND.iter().find(|(known, of, _)| (*known, *of) == (name, version));
    let stated = package["license"].as_str();
    match stated.or(by_hand.map(|(_, _, licence)| *licence)) {
        Some(licence) if satisfied(licence) => {}
        Some(licence) => {
            findings.push(format!("{name} {version} has licence `{licence}`, which is not in the list"))
        }
        None => {
            let file = package["license_file"].as_str().unwrap_or("no file");
            findings
                .push(format!("{name} {version} states no licence but {file}: read it and list it by hand"));
        }
    }
    findings
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

/// True when an SPDX expression can be satisfied with allowed licences; false also when it is none. `AND` binds
/// tighter than `OR`.
fn satisfied(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> =
        expression.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_owned).collect();
    let mut rest = tokens.as_slice();
    alternatives(&mut rest) == Some(true) && rest.is_empty()
}

/// `A OR B`; none where an operand is missing.
fn alternatives(rest: &mut &[String]) -> Option<bool> {
    let mut value = conjunction(rest)?;
    while rest.first().is_some_and(|token| token == "OR") {
        *rest = &rest[1..];
        value |= conjunction(rest)?;
    }
    Some(value)
}

/// `A AND B`; none where an operand is missing.
fn conjunction(rest: &mut &[String]) -> Option<bool> {
    let mut value = single(rest)?;
    while rest.first().is_some_and(|token| token == "AND") {
        *rest = &rest[1..];
        value &= single(rest)?;
    }
    Some(value)
}

/// A licence, perhaps with an exception, or an expression in parentheses; none for anything else.
fn single(rest: &mut &[String]) -> Option<bool> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    match first.as_str() {
        "(" => {
            let value = alternatives(rest)?;
            *rest = rest.strip_prefix(&[")".to_owned()])?;
            return Some(value);
        }
        ")" | "OR" | "AND" | "WITH" => return None,
        _ => {}
    }
    let mut name = first.clone();
    if rest.first().is_some_and(|token| token == "WITH") {
        name = format!("{name} WITH {}", rest.get(1)?);
        *rest = &rest[2..];
    }
    Some(ALLOWED.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(satisfied(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0 WITH Commons-Clause"] {
            assert!(!satisfied(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_expression_satisfies_nobody() {
        for bad in ["", "MIT OR", "AND MIT", "MIT MIT", "(MIT", "MIT)", "MIT WITH", "MIT AND OR MIT"] {
            assert!(!satisfied(bad), "{bad}");
        }
    }

    /// What is said about a package of the registry.
    fn check(name: &str, licence: Option<&str>, file: Option<&str>) -> Vec<String> {
        findings(&json!({"name": name, "version": "0.1.1", "source": "registry+x", "license": licence,
            "license_file": file}))
    }

    #[test]
    fn a_licence_file_excuses_no_licence() {
        assert!(check("a", Some("MIT"), Some("LICENSE")).is_empty());
        let found = check("a", Some("GPL-3.0"), Some("LICENSE"));
        assert!(found.len() == 1 && found[0].contains("GPL-3.0"), "{found:?}");
        let found = check("a", None, Some("LICENSE"));
        assert!(found.len() == 1 && found[0].contains("by hand"), "{found:?}");
        assert!(check("cfg_block", None, Some("LICENSE")).is_empty());
    }

    #[test]
    fn what_comes_from_elsewhere_is_found_and_what_is_written_here_is_not() {
        let elsewhere = json!({"name": "a", "version": "1.0.0", "source": "git+https://x", "license": "MIT"});
        assert_eq!(findings(&elsewhere).len(), 1);
        assert!(findings(&json!({"name": "sprag", "version": "0.1.0", "source": null})).is_empty());
    }

    #[test]
    fn a_failure_of_cargo_is_told_in_its_own_words() {
        let error = metadata(Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml"), "{error}");
    }
}
