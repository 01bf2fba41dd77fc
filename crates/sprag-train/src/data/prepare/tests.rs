//! Whole preparations of small sources, looked at through the reader's door.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::data::Prepared;

/// Prose that differs from seed to seed.
fn prose(seed: u64, words: usize) -> String {
    let mut state = seed;
    let word =
        |number: u64| ["fn", "größe", "日本", "the", "loop", "trial", "value", "mut"][number as usize % 8];
    let words = (0..words).map(|_| {
        let random = crate::data::permutation::next_random(&mut state);
        let ending = |shift: u32| char::from(b'a' + (random >> shift & 15) as u8);
        format!(
            "{}{}{}{}",
            word(random),
            ending(8),
            ending(12),
            if random & 0x30000 == 0 { "\n" } else { " " }
        )
    });
    words.collect()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn options(source: Source, out: &Path) -> PrepareOptions {
    PrepareOptions { vocab_size: 300, ..PrepareOptions::new(source, out.to_owned()) }
}

fn run(source: Source, out: &Path) -> Manifest {
    prepare(&options(source, out), &mut |_| {}).unwrap()
}

/// All documents of a split, as text.
fn documents(out: &Path, split: Split) -> Vec<String> {
    let prepared = Prepared::open(out).unwrap();
    let file = prepared.split(split).unwrap();
    (0..file.document_count())
        .map(|number| {
            let tokens = file.document(number);
            assert_eq!(tokens.get(0), Some(prepared.bos()));
            String::from_utf8(prepared.vocabulary().decode(tokens.iter())).unwrap()
        })
        .collect()
}

/// Packages as cargo would lay them out, and what `cargo metadata` would say about them.
fn packages(dir: &Path, packages: &[(&str, &str)]) -> Source {
    let mut described = vec![serde_json::json!({"name": "sprag", "version": "0.1.0", "source": null,
        "manifest_path": dir.join("absent/Cargo.toml")})];
    for (name, version) in packages {
        let folder = dir.join(format!("{name}-{version}"));
        write(&folder.join("Cargo.toml"), &format!("[package]\nname = \"{name}\"\n# {}\n", prose(1, 200)));
        write(&folder.join("LICENSE.txt"), &prose(2, 100));
        let seed = name.bytes().fold(version.len() as u64, |seed, byte| seed * 31 + u64::from(byte));
        write(&folder.join("src/lib.rs"), &format!("//! {name} {version}\n{}", prose(seed, 300)));
        write(&folder.join("src/main.c"), &prose(4, 100));
        described.push(serde_json::json!({"name": name, "version": version, "source": "registry+x",
            "manifest_path": folder.join("Cargo.toml")}));
    }
    Source::Cargo {
        metadata_json: serde_json::json!({ "packages": described }).to_string(),
        linked: BTreeSet::new(),
    }
}

const PACKAGES: [(&str, &str); 7] = [
    ("a", "1.0.0"),
    ("b", "1.0.0"),
    ("b", "2.10.0"),
    ("c", "0.1.0"),
    ("d", "0.1.0"),
    ("e", "0.1.0"),
    ("f", "0.1.0"),
];

#[test]
fn packages_become_a_data_folder_and_none_is_in_two_splits() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let manifest = run(packages(dir.path(), &PACKAGES), &out);
    assert_eq!(manifest, *Prepared::open(&out).unwrap().manifest());
    Prepared::open(&out).unwrap().verify().unwrap();

    let names: Vec<_> = manifest.source.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(manifest.source.parts[1].versions, ["2.10.0", "1.0.0"]);
    assert_eq!(manifest.corpus.dropped["licence"].documents, 7);
    // Their manifests differ in the name only, and in nothing between versions.
    assert_eq!(manifest.corpus.dropped["near_copy"].documents, 5);
    assert_eq!(manifest.corpus.dropped["exact_copy"].documents, 1);

    for part in &manifest.source.parts {
        let holding = Split::ALL.into_iter().filter(|split| {
            documents(&out, *split).iter().any(|text| text.starts_with(&format!("//! {} ", part.name)))
        });
        assert_eq!(holding.collect::<Vec<_>>(), [part.split.unwrap()], "{}", part.name);
    }
}

#[test]
fn the_manifest_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let manifest = run(packages(dir.path(), &PACKAGES), &out);
    for (split, facts) in &manifest.splits {
        let texts = documents(&out, *split);
        assert_eq!(facts.documents, texts.len() as u64);
        assert_eq!(facts.bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
        let body = (facts.tokens - facts.documents) as f64;
        assert!((facts.bytes_per_token - facts.bytes as f64 / body).abs() < 1e-12);
    }
    let corpus = &manifest.corpus;
    assert_eq!(corpus.documents, manifest.splits.values().map(|facts| facts.documents).sum::<u64>());
    assert_eq!(corpus.bytes, manifest.source.parts.iter().map(|part| part.bytes).sum::<u64>());
    let dropped: u64 = corpus.dropped.values().map(|dropped| dropped.documents).sum();
    assert_eq!(corpus.raw_documents, corpus.documents + dropped);
}

#[test]
fn preparing_twice_gives_equal_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = packages(dir.path(), &PACKAGES);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    assert_eq!(run(source.clone(), &one), run(source, &other));
    for name in ["train.bin", "val.bin", "holdout.bin", "tokenizer.json", "manifest.json"] {
        assert_eq!(fs::read(one.join(name)).unwrap(), fs::read(other.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_changed_folder_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    run(packages(dir.path(), &PACKAGES), &out);
    let path = out.join("val.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Prepared::open(&out).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("val.bin") && error.to_string().contains("SHA-256"), "{error}");

    fs::copy(out.join("train.bin"), &path).unwrap();
    let error = Prepared::open(&out).unwrap().split(Split::Val).unwrap_err();
    assert!(error.to_string().contains("manifest says"), "{error}");
    fs::write(out.join("manifest.json"), "{\"format\": 2}").unwrap();
    assert!(Prepared::open(&out).unwrap_err().to_string().contains("format is 2"));
}

#[test]
fn missing_packages_name_cargo_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let source = packages(dir.path(), &PACKAGES);
    fs::remove_dir_all(dir.path().join("b-2.10.0")).unwrap();
    let error = prepare(&options(source, &dir.path().join("out")), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("b 2.10.0"), "{error}");
    assert!(error.hint().unwrap().contains("cargo fetch"));
}

#[test]
fn a_folder_of_many_files_is_split_by_file() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..60 {
        write(&dir.path().join(format!("text/{number}/a.anything")), &prose(number, 50));
    }
    write(&dir.path().join("text/copy.txt"), &prose(3, 50));
    write(&dir.path().join("text/.hidden"), &prose(99, 50));
    let out = dir.path().join("out");
    let manifest = run(Source::Dir(dir.path().join("text")), &out);
    assert_eq!((manifest.source.split_by.as_str(), manifest.corpus.documents), ("file", 60));
    assert_eq!(manifest.corpus.dropped["exact_copy"].documents, 1);
    assert_eq!(manifest.splits[&Split::Val].documents, 3);
}

#[test]
fn a_single_file_is_split_by_passage_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let text = prose(5, 30_000);
    write(&dir.path().join("text/all.txt"), &text);
    let out = dir.path().join("out");
    let manifest = run(Source::Dir(dir.path().join("text")), &out);
    assert_eq!(manifest.source.split_by, "passage");
    assert_eq!(manifest.corpus.bytes, text.len() as u64);
    let mut passages = HashSet::new();
    for split in Split::ALL {
        for passage in documents(&out, split) {
            assert!(text.contains(&passage));
            assert!(passages.insert(passage), "a passage is in two splits");
        }
    }
}

#[test]
fn too_little_text_is_an_error_and_leaves_no_data() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("text/a.txt"), "too little\n");
    let out = dir.path().join("out");
    let error = prepare(&options(Source::Dir(dir.path().join("text")), &out), &mut |_| {}).unwrap_err();
    assert!(matches!(error, DataError::TooLittle { .. }), "{error}");
    assert!(matches!(Prepared::open(&out), Err(DataError::NotPrepared(_))));
}

#[test]
fn of_two_preparations_into_one_folder_the_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let source = packages(dir.path(), &PACKAGES);
    let mut second = None;
    let manifest = prepare(&options(source.clone(), &out), &mut |_| {
        second.get_or_insert_with(|| prepare(&options(source.clone(), &out), &mut |_| {}));
    });
    let error = second.unwrap().unwrap_err();
    assert!(matches!(&error, DataError::Busy(folder) if *folder == out), "{error}");
    assert!(error.hint().unwrap().contains("--out"));
    assert_eq!(run(source, &out), manifest.unwrap(), "the first left the folder locked, or half written");
}

#[test]
fn parquet_rows_are_split_by_their_text_and_copies_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..400).map(|row| prose(row % 390, 40)).collect();
    let path = dir.path().join("a.parquet");
    fs::write(&path, shards::tests::parquet(&rows)).unwrap();
    let out = dir.path().join("out");
    let manifest = run(Source::Parquet(path), &out);
    assert_eq!(manifest.corpus.documents, 390);
    assert_eq!(manifest.corpus.dropped["exact_copy"].documents, 10);
    let mut texts = HashSet::new();
    for split in Split::ALL {
        assert!(documents(&out, split).into_iter().all(|text| texts.insert(text)));
    }
}

#[test]
fn max_bytes_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..400).map(|row| prose(row, 40)).collect();
    let path = dir.path().join("a.parquet");
    fs::write(&path, shards::tests::parquet(&rows)).unwrap();
    for (number, source) in [Source::Parquet(path), packages(dir.path(), &PACKAGES)].into_iter().enumerate() {
        let options = PrepareOptions {
            max_bytes: Some(12_000),
            ..options(source, &dir.path().join(number.to_string()))
        };
        let manifest = prepare(&options, &mut |_| {}).unwrap();
        assert!((6_000..=12_000).contains(&manifest.corpus.bytes), "{}", manifest.corpus.bytes);
        assert!(manifest.corpus.dropped["over_limit"].documents > 0);
    }
}

#[test]
fn progress_names_each_stage_and_ends_complete() {
    let dir = tempfile::tempdir().unwrap();
    let source = packages(dir.path(), &PACKAGES);
    let mut last: Vec<PrepareProgress> = vec![];
    prepare(&options(source, &dir.path().join("out")), &mut |progress| {
        last.retain(|other| other.stage != progress.stage);
        last.push(progress);
    })
    .unwrap();
    let stages: Vec<Stage> = last.iter().map(|progress| progress.stage).collect();
    assert_eq!(stages, [Stage::Clean, Stage::Tokenizer, Stage::Encode]);
    assert!(last.iter().all(|progress| progress.done == progress.total && progress.total > 0), "{last:?}");
}

/// An attempt that fails must not leave the manifest of an earlier one beside files of another.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_the_old_data_stays() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    run(packages(dir.path(), &PACKAGES), &out);
    let before = fs::read(out.join("train.bin")).unwrap();
    std::os::unix::fs::symlink("/dev/full", partial_path(&out.join("train.bin"))).unwrap();
    let source = packages(dir.path(), &PACKAGES[..5]);
    let error = prepare(&options(source, &out), &mut |_| {}).unwrap_err();
    assert!(
        matches!(&error, DataError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    );
    assert!(error.hint().unwrap().contains("--out"));
    assert_eq!(fs::read(out.join("train.bin")).unwrap(), before);
    Prepared::open(&out).unwrap().verify().unwrap();
    assert!(
        !fs::read_dir(&out).unwrap().any(|entry| entry
            .unwrap()
            .path()
            .extension()
            .is_some_and(|end| end == "partial"))
    );
}

/// The same source, some of its packages being linked by candidates.
fn linking(source: Source, names: &[String]) -> Source {
    let Source::Cargo { metadata_json, .. } = source else { unreachable!("only packages are linked") };
    Source::Cargo { metadata_json, linked: names.iter().cloned().collect() }
}

#[test]
fn what_cargo_tree_prints_is_read_with_its_remarks() {
    let printed =
        "gpt v0.1.0 (/task)\nburn-core v0.22.1\nserde_derive v1.0.0 (proc-macro)\nburn-core v0.22.1 (*)\n\n";
    let expected = [("burn-core", "0.22.1"), ("gpt", "0.1.0"), ("serde_derive", "1.0.0")];
    let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
    assert_eq!(cargo_tree_packages(printed), expected.into());
}

#[test]
fn of_copies_the_one_that_candidates_can_read_stays() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..24).map(|number| format!("package-{number:02}")).collect();
    let list: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1.0.0")).collect();
    let source = linking(packages(dir.path(), &list), &names[12..]);
    // Each of the first half holds the same file as one of the second, which candidates link.
    let copies: Vec<String> = (0..12).map(|number| prose(1000 + number, 200)).collect();
    for (name, text) in names.iter().zip(copies.iter().cycle()) {
        write(&dir.path().join(format!("{name}-1.0.0/src/copied.rs")), text);
    }
    let out = dir.path().join("out");
    assert_eq!(run(source, &out).corpus.dropped["exact_copy"].documents, 12);
    for split in [Split::Val, Split::Holdout] {
        assert!(documents(&out, split).iter().all(|text| !copies.contains(text)), "{split} can be read");
    }
}

#[test]
fn what_candidates_link_is_never_scored_on() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..24).map(|number| format!("package-{number}")).collect();
    let list: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1.0.0")).collect();
    let source = linking(packages(dir.path(), &list), &names[..18]);
    let manifest = prepare(&options(source, &dir.path().join("out")), &mut |_| {}).unwrap();
    let scored: Vec<&str> = manifest
        .source
        .parts
        .iter()
        .filter(|part| part.split != Some(Split::Train))
        .map(|part| part.name.as_str())
        .collect();
    assert!(scored.len() >= 2, "{scored:?}");
    assert!(scored.iter().all(|name| !names[..18].iter().any(|linked| linked == name)), "{scored:?}");
}

#[test]
fn the_corpus_manifest_has_no_development_dependencies() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = dir.path().join("workspace");
    write(
        &workspace.join("Cargo.toml"),
        "[workspace]\nmembers = [\"crates/*\"]\n[workspace.dependencies]\ntrain = { path = \"crates/train\" }\n[profile.release]\ndebug = 1\n",
    );
    write(&workspace.join("Cargo.lock"), "version = 4\n");
    write(
        &workspace.join("crates/sprag/Cargo.toml"),
        "[package]\nname = \"sprag\"\ndefault-run = \"sprag\"\n[dependencies]\ntrain.workspace = true\n[dev-dependencies]\nonly-tests = \"1\"\n[target.'cfg(unix)'.dev-dependencies]\nonly-unix-tests = \"1\"\n",
    );
    write(
        &workspace.join("templates/gpt/Cargo.toml"),
        "[package]\nname = \"gpt\"\n[dependencies]\ntrain = { path = \"../../crates/train\" }\n",
    );
    let path = cargo_corpus_manifest(
        &workspace,
        &[CorpusRoot::Program, CorpusRoot::Candidate],
        &dir.path().join("copy"),
    )
    .unwrap();
    let root = fs::read_to_string(&path).unwrap();
    let program = fs::read_to_string(dir.path().join("copy/sprag/Cargo.toml")).unwrap();
    let template = fs::read_to_string(dir.path().join("copy/gpt/Cargo.toml")).unwrap();
    assert!(
        root.contains("\"sprag\", \"gpt\"") && !root.contains("crates/*") && !root.contains("profile"),
        "{root}"
    );
    assert!(root.contains(&*workspace.join("crates/train").to_string_lossy()), "{root}");
    assert!(
        program.contains("train") && !program.contains("only-") && !program.contains("default-run"),
        "{program}"
    );
    assert!(template.contains(&*workspace.to_string_lossy()), "{template}");
    assert_eq!(fs::read_to_string(dir.path().join("copy/Cargo.lock")).unwrap(), "version = 4\n");
}
