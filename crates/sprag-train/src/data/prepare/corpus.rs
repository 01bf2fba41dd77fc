//! The text after cleaning: where each document lies and which split it belongs to, not the text itself.
//!
//! Sources hand over candidates; here copies are dropped, packages capped, splits dealt out. The text is read again
//! when it is needed, so that memory does not grow with the source.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use super::cleaning::Reason;
use super::duplicates::{Copy, Fingerprint, Seen};
use super::shards::Shard;
use super::shares::{SMALL_SHARE, by_text, deal, stable_hash};
use super::{OnProgress, PrepareOptions, Source, folder, hub, packages, shards};
use crate::data::{DataError, Dropped, Part, SourceFacts, Split};

/// Text handed over at once, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// A document as a source of files found it.
pub(crate) struct Candidate {
    /// The package, file or passage that decides its split.
    pub(crate) part: String,
    /// Version of the package; empty for files.
    pub(crate) version: String,
    /// Decides, by its hash, which documents stay when not all may.
    pub(crate) rank_name: String,
    pub(crate) path: PathBuf,
    pub(crate) range: Range<usize>,
    /// What is remembered of its text, or why it is left out.
    pub(crate) kept: Result<Fingerprint, Reason>,
}

/// A document that is kept.
#[derive(Clone, Debug)]
struct Document {
    part: String,
    version: String,
    path: PathBuf,
    range: Range<usize>,
    rank: u64,
    digest: u64,
    split: Split,
}

impl Document {
    fn bytes(&self) -> u64 {
        self.range.len() as u64
    }

    fn read(&self) -> Result<String, DataError> {
        let mut bytes = vec![0; self.range.len()];
        let read = |bytes: &mut [u8]| {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.range.start as u64))?;
            file.read_exact(bytes)
        };
        read(&mut bytes).map_err(DataError::io("read", &self.path))?;
        match String::from_utf8(bytes) {
            Ok(text) if Fingerprint::digest(&text) == self.digest => Ok(text),
            _ => Err(DataError::format(&self.path, "it changed while it was being read")),
        }
    }
}

/// What a source of files found, copies already left out.
#[derive(Default)]
pub(crate) struct Gathered {
    documents: Vec<Document>,
    seen: Seen,
    dropped: Tally,
    raw_documents: u64,
    raw_bytes: u64,
    split_by: &'static str,
    train_only: BTreeSet<String>,
}

/// What was left out, by reason.
#[derive(Default)]
struct Tally(BTreeMap<String, Dropped>);

impl Tally {
    fn add(&mut self, reason: Reason, bytes: u64) {
        let dropped = self.0.entry(reason.name().to_owned()).or_default();
        dropped.documents += 1;
        dropped.bytes += bytes;
    }
}

impl Gathered {
    /// Nothing yet; splits will be decided by `split_by`.
    pub(crate) fn split_by(split_by: &'static str) -> Gathered {
        Gathered { split_by, ..Gathered::default() }
    }

    /// Adds a document unless cleaning left it out or it is a copy of an earlier one.
    pub(crate) fn add(&mut self, candidate: Candidate) {
        let bytes = candidate.range.len() as u64;
        self.raw_documents += 1;
        self.raw_bytes += bytes;
        let fingerprint = match candidate.kept {
            Ok(fingerprint) => fingerprint,
            Err(reason) => return self.dropped.add(reason, bytes),
        };
        let digest = fingerprint.exact();
        match self.seen.check(fingerprint) {
            Some(Copy::Exact) => self.dropped.add(Reason::ExactCopy, bytes),
            Some(Copy::Near) => self.dropped.add(Reason::NearCopy, bytes),
            None => self.documents.push(Document {
                rank: stable_hash(candidate.rank_name.as_bytes()),
                part: candidate.part,
                version: candidate.version,
                path: candidate.path,
                range: candidate.range,
                digest,
                split: Split::Train,
            }),
        }
    }

    /// Keeps at most `cap` bytes of each part, by rank.
    fn cap_parts(&mut self, cap: u64) {
        let mut taken: BTreeMap<String, u64> = BTreeMap::new();
        self.keep_by_rank(Reason::OverPackageCap, |document| {
            let taken = taken.entry(document.part.clone()).or_default();
            let fits = *taken + document.bytes() <= cap;
            *taken += if fits { document.bytes() } else { 0 };
            fits
        });
    }

    fn cap_all(&mut self, limit: u64) {
        let mut taken = 0;
        self.keep_by_rank(Reason::OverLimit, |document| {
            let fits = taken + document.bytes() <= limit;
            taken += if fits { document.bytes() } else { 0 };
            fits
        });
    }

    fn keep_by_rank(&mut self, reason: Reason, mut fits: impl FnMut(&Document) -> bool) {
        let mut order: Vec<usize> = (0..self.documents.len()).collect();
        order.sort_by_key(|&at| self.documents[at].rank);
        let mut keep = vec![false; self.documents.len()];
        for at in order {
            keep[at] = fits(&self.documents[at]);
        }
        let mut keep = keep.into_iter();
        let dropped = &mut self.dropped;
        self.documents.retain(|document| {
            let keep = keep.next().unwrap_or(false);
            if !keep {
                dropped.add(reason, document.bytes());
            }
            keep
        });
    }

    /// Names parts that may be in no split but train.
    pub(crate) fn keep_for_training(&mut self, parts: BTreeSet<String>) {
        self.train_only = parts;
    }

    /// Deals the parts out to the splits. Parts are named in the manifest if `list_parts`.
    fn into_corpus(mut self, kind: &str, list_parts: bool) -> Result<Corpus, DataError> {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        for document in &self.documents {
            *sizes.entry(document.part.clone()).or_default() += document.bytes();
        }
        let sizes: Vec<(String, u64)> = sizes.into_iter().collect();
        let Some(splits) = deal(&sizes, &self.train_only) else {
            let bytes = sizes.iter().map(|(_, bytes)| bytes).sum();
            return Err(DataError::TooLittle { documents: self.documents.len() as u64, bytes });
        };
        let mut parts: BTreeMap<String, Part> = BTreeMap::new();
        for ((name, _), split) in sizes.into_iter().zip(splits) {
            let part =
                Part { name: name.clone(), versions: vec![], split: Some(split), documents: 0, bytes: 0 };
            parts.insert(name, part);
        }
        for document in &mut self.documents {
            if let Some(part) = parts.get_mut(&document.part) {
                document.split = part.split.unwrap_or(Split::Train);
                part.documents += 1;
                part.bytes += document.bytes();
                if !document.version.is_empty() && !part.versions.contains(&document.version) {
                    part.versions.push(document.version.clone());
                }
            }
        }
        Ok(Corpus {
            facts: SourceFacts {
                kind: kind.to_owned(),
                name: kind.to_owned(),
                revision: None,
                parts: if list_parts { parts.into_values().collect() } else { vec![] },
                split_by: self.split_by.to_owned(),
            },
            raw_documents: self.raw_documents,
            raw_bytes: self.raw_bytes,
            dropped: self.dropped,
            body: Body::Files(self.documents),
        })
    }
}

/// A document's text and where it goes.
pub(crate) struct Text {
    pub(crate) split: Split,
    pub(crate) text: String,
}

/// Receives texts in the corpus's order, some megabytes at a time.
type Visitor<'a> = &'a mut dyn FnMut(Vec<Text>) -> Result<(), DataError>;

/// The text after cleaning.
pub(crate) struct Corpus {
    facts: SourceFacts,
    raw_documents: u64,
    raw_bytes: u64,
    dropped: Tally,
    body: Body,
}

enum Body {
    Files(Vec<Document>),
    Shards { shards: Vec<Shard>, max_bytes: Option<u64> },
}

/// What is known of a corpus when all of it was visited.
pub(crate) struct Facts {
    pub(crate) source: SourceFacts,
    pub(crate) raw_documents: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) dropped: BTreeMap<String, Dropped>,
}

impl Corpus {
    /// Finds and cleans the text of a source.
    pub(crate) fn gather(options: &PrepareOptions, on_progress: OnProgress<'_>) -> Result<Corpus, DataError> {
        match &options.source {
            Source::Cargo { metadata_json, linked } => {
                let mut gathered = packages::gather(metadata_json, linked.clone(), on_progress)?;
                gathered.cap_parts(packages::CAP_BYTES);
                gathered.cap_all(options.max_bytes.unwrap_or(u64::MAX));
                gathered.into_corpus("cargo", true)
            }
            Source::Dir(dir) => {
                let mut gathered = folder::gather(dir, on_progress)?;
                gathered.cap_all(options.max_bytes.unwrap_or(u64::MAX));
                gathered.into_corpus("dir", false)
            }
            Source::Parquet(path) => {
                let shards = shards::find(path)?;
                Ok(Corpus::of_shards(options, "parquet", "parquet", None, shards))
            }
            Source::Hf { repo, shards, endpoint } => {
                let request = hub::Request {
                    endpoint,
                    repo,
                    train_shards: *shards,
                    dir: &options.downloads,
                    proxy: options.proxy.as_deref(),
                    no_proxy: options.no_proxy.as_deref().unwrap_or_default(),
                };
                let (revision, shards) = hub::download(&request, on_progress)?;
                Ok(Corpus::of_shards(options, "hf", &format!("hf:{repo}"), revision, shards))
            }
        }
    }

    fn of_shards(
        options: &PrepareOptions,
        kind: &str,
        name: &str,
        revision: Option<String>,
        shards: Vec<Shard>,
    ) -> Corpus {
        let part = |shard: &Shard| Part {
            name: shard.name.clone(),
            versions: vec![],
            split: shard.split,
            documents: 0,
            bytes: 0,
        };
        let split_by = if shards.iter().all(|shard| shard.split.is_some()) { "shard" } else { "text" };
        Corpus {
            facts: SourceFacts {
                kind: kind.to_owned(),
                name: name.to_owned(),
                revision,
                parts: shards.iter().map(part).collect(),
                split_by: split_by.to_owned(),
            },
            raw_documents: 0,
            raw_bytes: 0,
            dropped: Tally::default(),
            body: Body::Shards { shards, max_bytes: options.max_bytes },
        }
    }

    /// Bytes of text, for progress: exact for files, an upper bound for shards.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.body {
            Body::Files(documents) => documents.iter().map(Document::bytes).sum(),
            Body::Shards { shards, max_bytes } => {
                shards.iter().map(|shard| shard.text_bytes).sum::<u64>().min(max_bytes.unwrap_or(u64::MAX))
            }
        }
    }

    /// Visits train texts chosen without regard to their place, until `limit` bytes; says whether that was all.
    pub(crate) fn visit_sample(&self, limit: u64, visitor: Visitor<'_>) -> Result<bool, DataError> {
        let mut batch = Batch::new(visitor);
        let mut taken = 0;
        match &self.body {
            Body::Files(documents) => {
                let mut train: Vec<&Document> =
                    documents.iter().filter(|document| document.split == Split::Train).collect();
                train.sort_by_key(|document| document.rank);
                for document in train {
                    if taken >= limit {
                        batch.finish()?;
                        return Ok(false);
                    }
                    taken += document.bytes();
                    batch.add(Text { split: Split::Train, text: document.read()? })?;
                }
            }
            Body::Shards { shards, .. } => {
                for shard in
                    shards.iter().filter(|shard| shard.split.is_none_or(|split| split == Split::Train))
                {
                    shard.read(&mut |text| {
                        if shard.split.is_none() && by_text(&text) != Split::Train {
                            return Ok(true);
                        }
                        taken += text.len() as u64;
                        batch.add(Text { split: Split::Train, text })?;
                        Ok(taken < limit)
                    })?;
                    if taken >= limit {
                        batch.finish()?;
                        return Ok(false);
                    }
                }
            }
        }
        batch.finish()?;
        Ok(true)
    }

    /// Visits all texts in order.
    pub(crate) fn visit(mut self, visitor: Visitor<'_>) -> Result<Facts, DataError> {
        let mut batch = Batch::new(visitor);
        match std::mem::replace(&mut self.body, Body::Files(vec![])) {
            Body::Files(documents) => {
                for document in documents {
                    batch.add(Text { split: document.split, text: document.read()? })?;
                }
            }
            Body::Shards { shards, max_bytes } => self.visit_shards(&shards, max_bytes, &mut batch)?,
        }
        batch.finish()?;
        Ok(Facts {
            source: self.facts,
            raw_documents: self.raw_documents,
            raw_bytes: self.raw_bytes,
            dropped: self.dropped.0,
        })
    }

    fn visit_shards(
        &mut self,
        shards: &[Shard],
        max_bytes: Option<u64>,
        batch: &mut Batch<'_>,
    ) -> Result<(), DataError> {
        let max_bytes = max_bytes.unwrap_or(u64::MAX);
        let small = max_bytes / SMALL_SHARE;
        let limits = [max_bytes - 2 * small, small, small];
        let mut taken = [0; Split::ALL.len()];
        let mut seen = HashSet::new();
        for (number, shard) in shards.iter().enumerate() {
            shard.read(&mut |text| {
                let bytes = text.len() as u64;
                self.raw_documents += 1;
                self.raw_bytes += bytes;
                let split = shard.split.unwrap_or_else(|| by_text(&text));
                let reason = if text.trim().is_empty() {
                    Some(Reason::TooShort)
                } else if !seen.insert(stable_hash(text.as_bytes())) {
                    Some(Reason::ExactCopy)
                } else if taken[split as usize] + bytes > limits[split as usize] {
                    Some(Reason::OverLimit)
                } else {
                    None
                };
                if let Some(reason) = reason {
                    self.dropped.add(reason, bytes);
                } else {
                    taken[split as usize] += bytes;
                    self.facts.parts[number].documents += 1;
                    self.facts.parts[number].bytes += bytes;
                    batch.add(Text { split, text })?;
                }
                // Nothing more of a shard is wanted once its only split is full.
                Ok(!(reason == Some(Reason::OverLimit) && shard.split.is_some()))
            })?;
        }
        Ok(())
    }
}

/// Collects texts until there are enough to be worth handing over.
struct Batch<'a> {
    visitor: Visitor<'a>,
    texts: Vec<Text>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(visitor: Visitor<'a>) -> Batch<'a> {
        Batch { visitor, texts: vec![], bytes: 0 }
    }

    fn add(&mut self, text: Text) -> Result<(), DataError> {
        self.bytes += text.text.len();
        self.texts.push(text);
        if self.bytes < BATCH_BYTES { Ok(()) } else { self.finish() }
    }

    fn finish(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        let texts = std::mem::take(&mut self.texts);
        if texts.is_empty() { Ok(()) } else { (self.visitor)(texts) }
    }
}
