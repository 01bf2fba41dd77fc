//! The `cargo` source: the packages that this very program is built from, as cargo keeps them.
//!
//! Which those are is told by what `cargo metadata` printed for the manifest of `corpus_manifest`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;

use super::cleaning::{ENDINGS, clean};
use super::corpus::{Candidate, Gathered};
use super::duplicates::Fingerprint;
use super::folder::{files_below, relative};
use super::{OnProgress, PrepareProgress, Stage};
use crate::data::DataError;

/// Most text of one package, all versions together: less than a hundredth of the whole, so that none dominates and
/// each split holds many.
pub(crate) const CAP_BYTES: u64 = 400_000;

/// Packages read between two reports of progress.
const CHUNK_PACKAGES: usize = 8;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// None for packages of the workspace, which are not part of the corpus: people here wrote them.
    source: Option<String>,
    manifest_path: PathBuf,
}

impl Package {
    fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

fn parse(metadata_json: &str) -> Result<Metadata, DataError> {
    serde_json::from_str(metadata_json).map_err(|error| DataError::CargoMetadata(error.to_string()))
}

/// Reads the packages in the order of their names, the newest version of each first, and those of `train_only`
/// before all others: of copies the first stays, and one that stayed in a package that is scored on could be read
/// in its twin.
pub(crate) fn gather(
    metadata_json: &str,
    train_only: BTreeSet<String>,
    on_progress: OnProgress<'_>,
) -> Result<Gathered, DataError> {
    let mut packages = parse(metadata_json)?.packages;
    packages.retain(|package| package.source.is_some());
    if packages.is_empty() {
        return Err(DataError::CargoMetadata("it names no package of a registry".to_owned()));
    }
    let place = |package: &Package| (!train_only.contains(&package.name), package.name.clone());
    packages.sort_by(|one, other| {
        let newest_first = || version_key(&other.version).cmp(&version_key(&one.version));
        place(one).cmp(&place(other)).then_with(newest_first)
    });
    let missing: Vec<String> = packages
        .iter()
        .filter(|package| !package.manifest_path.is_file())
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    if !missing.is_empty() {
        return Err(DataError::MissingPackages { missing });
    }
    let mut gathered = Gathered::split_by("package");
    let mut done = 0;
    for chunk in packages.chunks(CHUNK_PACKAGES) {
        let read: Result<Vec<_>, _> = chunk.par_iter().map(candidates).collect();
        read?.into_iter().flatten().for_each(|candidate| gathered.add(candidate));
        done += chunk.len() as u64;
        let total = packages.len() as u64;
        on_progress(PrepareProgress { stage: Stage::Clean, done, total, unit: "packages" });
    }
    gathered.keep_for_training(train_only);
    Ok(gathered)
}

/// Orders `1.10.0` after `1.9.0`, and before `1.10.0` what precedes it as `1.10.0-rc.1`.
fn version_key(version: &str) -> (Vec<u64>, bool, &str) {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let numbers = release.split('.').map(|number| number.parse().unwrap_or(0)).collect();
    (numbers, !version.contains('-'), version)
}

fn candidates(package: &Package) -> Result<Vec<Candidate>, DataError> {
    let files = files_below(package.dir())?;
    let is_document = |path: &PathBuf| {
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
    };
    files.into_par_iter().filter(is_document).map(|path| candidate(package, path)).collect()
}

fn candidate(package: &Package, path: PathBuf) -> Result<Candidate, DataError> {
    let bytes = fs::read(&path).map_err(DataError::io("read", &path))?;
    let name = relative(package.dir(), &path);
    let (range, kept) = match clean(&name, &bytes) {
        Err(reason) => (0..bytes.len(), Err(reason)),
        Ok(range) => {
            let text = std::str::from_utf8(&bytes[range.clone()]).unwrap_or_default();
            (range, Ok(Fingerprint::of(text)))
        }
    };
    Ok(Candidate {
        part: package.name.clone(),
        version: package.version.clone(),
        rank_name: format!("{} {} {name}", package.name, package.version),
        path,
        range,
        kept,
    })
}
