//! What is written is read, and nothing else is.

use super::*;
use std::fs;

fn written(vocab_size: u32, documents: &[&[u32]]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.bin");
    let mut writer = TokenFileWriter::create(&path, vocab_size, 1).unwrap();
    documents.iter().for_each(|document| writer.document(document).unwrap());
    writer.finish().unwrap();
    (dir, path)
}

#[test]
fn tokens_and_documents_come_back_in_both_widths() {
    for (vocab_size, width) in [(65_536, 2), (65_537, 4)] {
        let last = vocab_size - 1;
        let (_dir, path) = written(vocab_size, &[&[5, 6, 7], &[], &[last]]);
        let file = TokenFile::open(&path).unwrap();
        assert_eq!((file.vocab_size(), file.bos()), (vocab_size, 1));
        assert_eq!((file.token_count(), file.document_count()), (6, 2), "an empty document is left out");
        assert_eq!(file.tokens().iter().collect::<Vec<_>>(), [1, 5, 6, 7, 1, last]);
        assert_eq!(file.document(0).iter().collect::<Vec<_>>(), [1, 5, 6, 7]);
        assert_eq!(file.document(1).iter().collect::<Vec<_>>(), [1, last]);
        assert!(file.document(2).is_empty() && file.document(u64::MAX).is_empty());
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 + 6 * width + 2 * 8);
    }
}

#[test]
fn views_are_bounded() {
    let (_dir, path) = written(10, &[&[2, 3, 4, 5]]);
    let file = TokenFile::open(&path).unwrap();
    let tokens = file.tokens();
    assert_eq!((tokens.len(), tokens.get(4), tokens.get(5)), (5, Some(5), None));
    let mut ids = vec![];
    tokens.slice(3, 99).extend(&mut ids);
    assert_eq!(ids, [4, 5]);
    assert!(tokens.slice(4, 2).is_empty() && tokens.slice(u64::MAX, u64::MAX).is_empty());
}

#[test]
fn the_hash_is_that_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("val.bin");
    let mut writer = TokenFileWriter::create(&path, 10, 0).unwrap();
    writer.document(&[3, 4]).unwrap();
    let sha256 = writer.finish().unwrap();
    assert_eq!(sha256, hexadecimal(&Sha256::digest(fs::read(&path).unwrap())));
}

#[test]
fn an_unfinished_file_has_no_name_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TokenFileWriter::create(&dir.path().join("train.bin"), 10, 0).unwrap();
    writer.document(&[3]).unwrap();
    assert!(matches!(writer.document(&[10]), Err(DataError::Tokenizer(_))), "10 is outside the vocabulary");
    drop(writer);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A valid file, changed in one place, is refused with words that say why.
fn check_refused(change: impl Fn(&mut Vec<u8>), expected: &str) {
    let (_dir, path) = written(100, &[&[5, 6, 7], &[8, 9]]);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let error = TokenFile::open(&path).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn damaged_files_are_refused() {
    check_refused(|bytes| bytes[0] = b'X', "SPRAGTOK");
    check_refused(|bytes| bytes[8] = 2, "version is 2");
    check_refused(|bytes| bytes[12] = 3, "3 bytes");
    check_refused(|bytes| bytes[20] = 200, "BOS 200");
    check_refused(|bytes| bytes[24] += 1, "header promises");
    check_refused(|bytes| bytes[24..32].fill(0xff), "more than any file");
    check_refused(|bytes| bytes[32..40].fill(0xff), "more than any file");
    check_refused(|bytes| bytes.truncate(40), "inside the header");
    check_refused(|bytes| bytes.truncate(70), "header promises");
    check_refused(|bytes| bytes.push(0), "header promises");
    // 64 of header, 7 ids of 2 bytes, then the starts 0 and 4.
    check_refused(|bytes| bytes[78] = 1, "document 0 cannot start");
    check_refused(|bytes| bytes[86] = 1, "document 1 cannot start");
    check_refused(|bytes| bytes[86] = 7, "document 1 cannot start");
    check_refused(|bytes| bytes[86] = 6, "last document is empty");
    let no_document = |bytes: &mut Vec<u8>| {
        bytes[32] = 0;
        bytes.truncate(78);
    };
    check_refused(no_document, "no document");
}
