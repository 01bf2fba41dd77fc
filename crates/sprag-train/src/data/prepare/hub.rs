//! The `hf` source: chooses shards of a dataset on a Hugging Face hub and fetches them.
//!
//! The newest commit is asked for once; all files are then taken from that commit, with the lengths and hashes that
//! the hub states for it.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::shards::Shard;
use super::source::DEFAULT_REPO;
use super::transfer::{Client, Wanted};
use super::{OnProgress, PrepareProgress, Stage};
use crate::data::{DataError, Split};

/// The last shard of the default dataset. Pinned as validation there, as in karpathy/autoresearch's `prepare.py`, so
/// that a dataset that grows does not change what is measured.
const DEFAULT_REPO_LAST: &str = "shard_06542.parquet";
/// Shards to train on when nothing else is said: about a gigabyte of text.
const DEFAULT_TRAIN_SHARDS: u32 = 4;

/// What is wanted from which hub.
pub(crate) struct Request<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) repo: &'a str,
    pub(crate) train_shards: Option<u32>,
    /// Where shards are kept.
    pub(crate) dir: &'a Path,
    pub(crate) proxy: Option<&'a str>,
    /// Hosts that are reached without it.
    pub(crate) no_proxy: &'a str,
}

/// What the hub says about a dataset.
#[derive(Deserialize)]
struct Dataset {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Clone, Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Clone, Debug, Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Fetches what is not here yet; gives back the commit and the shards, small splits first, so that a text that occurs
/// twice stays out of the train split.
pub(crate) fn download(
    request: &Request<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(Option<String>, Vec<Shard>), DataError> {
    download_with(&Client::new(request.proxy, request.no_proxy)?, request, on_progress)
}

fn download_with(
    client: &Client,
    request: &Request<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(Option<String>, Vec<Shard>), DataError> {
    let endpoint = request.endpoint.trim_end_matches('/');
    let url = format!("{endpoint}/api/datasets/{}/revision/main?blobs=true", request.repo);
    let dataset: Dataset =
        serde_json::from_str(&client.text(&url)?).map_err(|error| DataError::Download {
            url: url.clone(),
            problem: format!("the answer is not that of a hub: {error}"),
            refused: true,
        })?;
    let revision = dataset.sha.clone();
    let chosen = choose(request, dataset.siblings)?;
    let sizes = chosen.iter().map(|(file, _)| file.bytes().unwrap_or(0));
    let total: u64 = sizes.sum();
    let mut shards = vec![];
    let mut before = 0;
    for (file, split) in chosen {
        let commit = revision.as_deref().unwrap_or("main");
        let dest = request.dir.join(request.repo.replace('/', "--")).join(&file.rfilename);
        let folder = dest.parent().unwrap_or(request.dir);
        fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
        let wanted = Wanted {
            url: format!("{endpoint}/datasets/{}/resolve/{commit}/{}", request.repo, file.rfilename),
            dest: dest.clone(),
            bytes: file.bytes(),
            sha256: file.lfs.as_ref().and_then(|lfs| lfs.sha256.clone()),
            revision: revision.clone(),
        };
        let mut here = 0;
        client.fetch(&wanted, &mut |bytes| {
            here = bytes;
            let done = before + bytes;
            on_progress(PrepareProgress {
                stage: Stage::Download,
                done,
                total: total.max(done),
                unit: "bytes",
            });
        })?;
        before += here;
        shards.push(Shard::open(dest, split)?);
    }
    shards.sort_by_key(|shard| shard.split.is_none_or(|split| split == Split::Train));
    Ok((revision, shards))
}

impl Sibling {
    fn bytes(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }

    /// Whether it is a shard whose name may become a path below a folder.
    fn is_shard(&self) -> bool {
        let plain =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
        self.rfilename.ends_with(".parquet") && self.rfilename.split('/').all(plain)
    }
}

/// The last shard validates, the one before it is the holdout, and the first ones are trained on. Of fewer than three
/// shards, all are taken and their documents dealt out by text.
fn choose(request: &Request<'_>, siblings: Vec<Sibling>) -> Result<Vec<(Sibling, Option<Split>)>, DataError> {
    let mut files: Vec<Sibling> = siblings.into_iter().filter(Sibling::is_shard).collect();
    files.sort_by(|one, other| one.rfilename.cmp(&other.rfilename));
    if request.repo == DEFAULT_REPO {
        let last = files.iter().position(|file| file.rfilename == DEFAULT_REPO_LAST);
        let Some(last) = last else {
            return Err(DataError::Download {
                url: format!("{}/datasets/{}", request.endpoint, request.repo),
                problem: format!("its validation shard {DEFAULT_REPO_LAST} is not there"),
                refused: true,
            });
        };
        files.truncate(last + 1);
    }
    if files.is_empty() {
        return Err(DataError::Download {
            url: format!("{}/datasets/{}", request.endpoint, request.repo),
            problem: "it holds no .parquet file".to_owned(),
            refused: true,
        });
    }
    if files.len() < Split::ALL.len() {
        return Ok(files.into_iter().map(|file| (file, None)).collect());
    }
    let holdout_at = files.len() - 2;
    let train = (request.train_shards.unwrap_or(DEFAULT_TRAIN_SHARDS) as usize).min(holdout_at);
    let mut chosen: Vec<(Sibling, Option<Split>)> = vec![
        (files[holdout_at + 1].clone(), Some(Split::Val)),
        (files[holdout_at].clone(), Some(Split::Holdout)),
    ];
    files.truncate(train);
    chosen.extend(files.into_iter().map(|file| (file, Some(Split::Train))));
    Ok(chosen)
}

#[cfg(test)]
mod tests;
