//! Weight files against coremltools' own reader and writer, where a Python with coremltools is: `SPRAG_COREMLTOOLS_PYTHON`
//! names it, else `python3` is asked. Where there is none the test says so and compares nothing.

use std::ffi::OsString;
use std::path::Path;

use sprag_ane::blob::{BlobType, BlobWriter, blob_count, read_blob};
use sprag_measure::process;

const READ: &str = "
import sys, numpy as np
from coremltools.libmilstoragepython import _BlobStorageReader as Reader
reader = Reader(sys.argv[1])
places = [int(word) for word in sys.argv[2:]]
print(np.asarray(reader.read_fp16_data(places[0])).tolist())
print(np.asarray(reader.read_float_data(places[1])).tolist())
print(np.asarray(reader.read_int8_data(places[2])).tolist())
print(np.asarray(reader.read_uint8_data(places[3])).tolist())
";

const WRITE: &str = "
import sys, numpy as np
from coremltools.libmilstoragepython import _BlobStorageWriter as Writer
writer = Writer(sys.argv[1])
halves = np.array([1.0, -2.0, 0.5], dtype=np.float16).view(np.uint16)
print(writer.write_fp16_data(halves))
print(writer.write_float_data(np.array([1.5, -3.25], dtype=np.float32)))
print(writer.write_int8_data(np.array([-1, 2, 3], dtype=np.int8)))
print(writer.write_uint8_data(np.array([255], dtype=np.uint8)))
";

#[expect(clippy::disallowed_methods, reason = "a test is started by a person, who names the interpreter")]
fn python(script: &str, words: &[OsString]) -> Option<String> {
    let program = std::env::var_os("SPRAG_COREMLTOOLS_PYTHON").unwrap_or_else(|| "python3".into());
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let has = process::output(&program, ["-c", "import coremltools"], Path::new("/"), &environment);
    if !has.is_ok_and(|output| output.success()) {
        eprintln!("no Python with coremltools: nothing is compared");
        return None;
    }
    let arguments = [OsString::from("-c"), script.into()].into_iter().chain(words.iter().cloned());
    let output = process::output(&program, arguments, Path::new("/"), &environment).unwrap();
    assert!(output.success(), "{}", output.error_text());
    Some(output.text())
}

#[test]
fn coremltools_reads_what_is_written_here() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.bin");
    let mut writer = BlobWriter::new();
    // 1.0 and -2.0 in half precision.
    let halves = writer.add(BlobType::Fp16, &[0x00, 0x3C, 0x00, 0xC0]).unwrap();
    let singles: Vec<u8> = [1.5_f32, -3.25].iter().flat_map(|value| value.to_le_bytes()).collect();
    let singles = writer.add(BlobType::Fp32, &singles).unwrap();
    let signed = writer.add(BlobType::Int8, &[0xFF, 2]).unwrap();
    let unsigned = writer.add(BlobType::Uint8, &[255, 7]).unwrap();
    std::fs::write(&file, writer.finish()).unwrap();
    let places = [halves, singles, signed, unsigned].map(|place| OsString::from(place.to_string()));
    let words: Vec<OsString> = [OsString::from(&file)].into_iter().chain(places).collect();
    if let Some(text) = python(READ, &words) {
        let lines: Vec<&str> = text.lines().collect();
        // Halves come as their bits.
        assert_eq!(lines, ["[15360, 49152]", "[1.5, -3.25]", "[-1, 2]", "[255, 7]"]);
    }
}

#[test]
fn what_coremltools_writes_is_read_here() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.bin");
    let Some(text) = python(WRITE, &[OsString::from(&file)]) else { return };
    let places: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(blob_count(&bytes), Ok(4));
    let read = |at: usize| {
        let blob = read_blob(&bytes, places[at]).unwrap();
        (blob.kind, blob.data.to_vec())
    };
    assert_eq!(read(0), (BlobType::Fp16, vec![0x00, 0x3C, 0x00, 0xC0, 0x00, 0x38]));
    let singles = [1.5_f32, -3.25].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(read(1), (BlobType::Fp32, singles));
    assert_eq!(read(2), (BlobType::Int8, vec![0xFF, 2, 3]));
    assert_eq!(read(3), (BlobType::Uint8, vec![255]));
    // Written with the same layout, the file is the same.
    let mut writer = BlobWriter::new();
    for (at, place) in places.iter().enumerate() {
        let (kind, data) = read(at);
        assert_eq!(writer.add(kind, &data), Ok(*place));
    }
    assert_eq!(writer.finish()[..bytes.len()], bytes[..]);
}
