//! The folder that builds of candidates take for cargo's own: what they are built from, of all else a name.
//!
//! Cargo opens every package of the resolved graph before it knows which ones it builds, and most stand there for
//! features that are off. What it opens need not hold their text, which may be validation text: stubs will do. So a
//! build reads the packages that it links and no other, and the list of its paths is short.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// Its name in a task's folder.
pub const NAME: &str = ".cargo-home";

/// A package of a registry, and where cargo unpacked it.
struct Package {
    name: String,
    version: String,
    folder: PathBuf,
}

impl Package {
    /// Its places in cargo's folder: `registry/src/INDEX/PACKAGE` and `registry/cache/INDEX/PACKAGE.crate`.
    fn places(&self) -> Option<(PathBuf, PathBuf)> {
        let (index, name) = (self.folder.parent()?.file_name()?, self.folder.file_name()?);
        let mut archive = name.to_owned();
        archive.push(".crate");
        let registry = Path::new("registry");
        Some((registry.join("src").join(index).join(name), registry.join("cache").join(index).join(archive)))
    }
}

/// Makes the folder `home` from what `cargo metadata` printed and the packages that are linked, by name and version.
/// Returns what a build must be able to read besides it.
pub fn write(
    home: &Path,
    cargo_home: &Path,
    metadata: &[u8],
    linked: &BTreeSet<(String, String)>,
) -> anyhow::Result<Vec<PathBuf>> {
    // Where packages come from stands in the index and, for a mirror, in the configuration. Credentials stay out.
    let own = ["registry/index", "config.toml", "config"];
    let own: Vec<_> = own.into_iter().filter(|name| cargo_home.join(name).exists()).collect();
    for name in &own {
        link(&cargo_home.join(name), &home.join(name))?;
    }
    let mut readable: Vec<PathBuf> = own.iter().map(|name| cargo_home.join(name)).collect();
    for package in packages(metadata)? {
        let Some((folder, archive)) = package.places() else { continue };
        // Cargo only looks whether there is one: the checksum was compared when it was unpacked.
        put(&home.join(archive), "unpacked already\n")?;
        if linked.contains(&(package.name.clone(), package.version.clone())) {
            link(&package.folder, &home.join(folder))?;
            readable.push(package.folder);
        } else {
            stub(&package, &home.join(folder))?;
        }
    }
    Ok(readable)
}

fn packages(metadata: &[u8]) -> anyhow::Result<Vec<Package>> {
    let metadata: Value = serde_json::from_slice(metadata).context("cannot read what cargo metadata says")?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = |package: &Value| {
        let folder = Path::new(package["manifest_path"].as_str()?).parent()?.to_owned();
        let (name, version) = (package["name"].as_str()?.to_owned(), package["version"].as_str()?.to_owned());
        Some(Package { name, version, folder })
    };
    let foreign = packages.iter().filter(|package| !package["source"].is_null());
    foreign.map(|one| package(one).context("cargo metadata describes a package without its place")).collect()
}

/// A package as cargo has to find it: unpacked, with a manifest that names a library.
fn stub(package: &Package, folder: &Path) -> anyhow::Result<()> {
    let Package { name, version, .. } = package;
    let manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\n\n[lib]\npath = \"empty.rs\"\n");
    put(&folder.join("Cargo.toml"), &manifest)?;
    put(&folder.join("empty.rs"), "")?;
    put(&folder.join(".cargo-ok"), "{\"v\":1}")
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    make_folder_of(path)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn link(target: &Path, path: &Path) -> anyhow::Result<()> {
    make_folder_of(path)?;
    std::os::unix::fs::symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}

fn make_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_package_that_is_not_linked_a_build_finds_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let (cargo_home, home) = (dir.path().join("cargo"), dir.path().join("home"));
        let source = |name: &str| cargo_home.join("registry/src/index-1").join(name);
        for name in ["linked-1.0.0", "other-1.0.0"] {
            put(&source(name).join("Cargo.toml"), "[package] # text").unwrap();
            put(&source(name).join("src/lib.rs"), "text").unwrap();
        }
        put(&cargo_home.join("credentials.toml"), "secret").unwrap();
        put(&cargo_home.join("registry/index/index-1/config.json"), "{}").unwrap();
        let package = |name: &str| {
            let manifest = source(&format!("{name}-1.0.0")).join("Cargo.toml");
            serde_json::json!({"name": name, "version": "1.0.0", "source": "x", "manifest_path": manifest})
        };
        let own = serde_json::json!({"name": "gpt", "source": null, "manifest_path": "/task/Cargo.toml"});
        let metadata =
            serde_json::json!({"packages": [package("linked"), package("other"), own]}).to_string();
        let linked = BTreeSet::from([("linked".to_owned(), "1.0.0".to_owned())]);
        let readable = write(&home, &cargo_home, metadata.as_bytes(), &linked).unwrap();
        assert_eq!(readable, [cargo_home.join("registry/index"), source("linked-1.0.0")]);
        let read = |path: &str| std::fs::read_to_string(home.join("registry").join(path)).unwrap();
        assert_eq!(read("src/index-1/linked-1.0.0/src/lib.rs"), "text");
        assert!(!read("src/index-1/other-1.0.0/Cargo.toml").contains("text"));
        assert!(!home.join("registry/src/index-1/other-1.0.0/src").exists());
        assert!(!read("cache/index-1/other-1.0.0.crate").is_empty(), "cargo would fetch it");
    }
}
