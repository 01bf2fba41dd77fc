//! Reads documents out of parquet files: one row, one document, from a column of text.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::folder::files_below;
use crate::data::{DataError, Split};

/// The column that holds the text, in the datasets known here.
const TEXT_COLUMN: &str = "text";
/// Rows decoded at once.
const ROWS: usize = 1024;

/// One parquet file.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    /// File name, for the manifest.
    pub(crate) name: String,
    path: PathBuf,
    /// Where all its documents go; none: by their text.
    pub(crate) split: Option<Split>,
    /// Bytes of the text column, before compression.
    pub(crate) text_bytes: u64,
}

/// The shards of a `parquet:` source: the file, or all `.parquet` files below the folder.
pub(crate) fn find(path: &Path) -> Result<Vec<Shard>, DataError> {
    let files = if path.is_dir() {
        let mut files = files_below(path)?;
        files.retain(|file| file.extension().is_some_and(|ending| ending == "parquet"));
        files
    } else {
        vec![path.to_owned()]
    };
    if files.is_empty() {
        return Err(DataError::Option(format!("{} holds no .parquet file", path.display())));
    }
    files.into_iter().map(|file| Shard::open(file, None)).collect()
}

impl Shard {
    /// Reads a file's footer.
    pub(crate) fn open(path: PathBuf, split: Option<Split>) -> Result<Shard, DataError> {
        let (reader, column) = open(&path)?;
        let groups = reader.metadata().row_groups();
        let text_bytes =
            groups.iter().map(|group| group.column(column).uncompressed_size().max(0) as u64).sum();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Shard { name, path, split, text_bytes })
    }

    /// Hands over all documents in order, until the receiver says `false`.
    pub(crate) fn read(
        &self,
        receive: &mut dyn FnMut(String) -> Result<bool, DataError>,
    ) -> Result<(), DataError> {
        let broken = |error: ParquetError| DataError::format(&self.path, error.to_string());
        let (reader, column) = open(&self.path)?;
        let nullable = reader.metadata().file_metadata().schema_descr().column(column).max_def_level() > 0;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(broken)?;
            let ColumnReader::ByteArrayColumnReader(mut values) =
                group.get_column_reader(column).map_err(broken)?
            else {
                return Err(DataError::format(&self.path, "its text column is not made of bytes"));
            };
            loop {
                let mut texts: Vec<ByteArray> = Vec::with_capacity(ROWS);
                let mut levels = vec![];
                let levels = nullable.then_some(&mut levels);
                let (rows, _, _) = values.read_records(ROWS, levels, None, &mut texts).map_err(broken)?;
                if rows == 0 {
                    break;
                }
                for text in texts {
                    let text = String::from_utf8(text.data().to_vec())
                        .map_err(|_| DataError::format(&self.path, "its text column is not UTF-8"))?;
                    if !receive(text)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A reader, and the number of the text column.
fn open(path: &Path) -> Result<(SerializedFileReader<File>, usize), DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let reader =
        SerializedFileReader::new(file).map_err(|error| DataError::format(path, error.to_string()))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let columns = schema.columns();
    let found = columns.iter().position(|column| {
        column.path().string() == TEXT_COLUMN
            && column.physical_type() == Type::BYTE_ARRAY
            && column.max_rep_level() == 0
    });
    let Some(column) = found else {
        let names: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
        let problem = format!("it has no text column `{TEXT_COLUMN}`, only: {}", names.join(", "));
        return Err(DataError::format(path, problem));
    };
    Ok((reader, column))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::ByteArrayType;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    /// A parquet file with these rows, one row group for each 100, and a second column.
    pub(crate) fn parquet(texts: &[String]) -> Vec<u8> {
        compressed(texts, Compression::SNAPPY, "text")
    }

    fn compressed(texts: &[String], compression: Compression, column: &str) -> Vec<u8> {
        let message = format!("message rows {{ required int64 id; optional binary {column} (UTF8); }}");
        let schema = Arc::new(parse_message_type(&message).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut bytes = vec![];
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        for rows in texts.chunks(100) {
            let mut group = writer.next_row_group().unwrap();
            let mut ids = group.next_column().unwrap().unwrap();
            let numbers: Vec<i64> = (0..rows.len() as i64).collect();
            ids.typed::<parquet::data_type::Int64Type>().write_batch(&numbers, None, None).unwrap();
            ids.close().unwrap();
            // An empty text stands for a missing one.
            let levels: Vec<i16> = rows.iter().map(|text| i16::from(!text.is_empty())).collect();
            let values: Vec<ByteArray> =
                rows.iter().filter(|text| !text.is_empty()).map(|text| text.as_str().into()).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let mut texts = vec![];
        Shard::open(path, None)?.read(&mut |text| {
            texts.push(text);
            Ok(true)
        })?;
        Ok(texts)
    }

    #[test]
    fn rows_come_back_in_order_under_every_codec() {
        let texts: Vec<String> = (0..250).map(|row| format!("text {row} é")).collect();
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::ZSTD(Default::default()),
        ] {
            assert_eq!(read(&compressed(&texts, compression, "text")).unwrap(), texts, "{compression}");
        }
    }

    #[test]
    fn missing_texts_are_skipped() {
        let texts = ["one", "", "three"].map(str::to_owned);
        assert_eq!(read(&parquet(&texts)).unwrap(), ["one", "three"]);
    }

    #[test]
    fn a_file_without_text_names_its_columns() {
        let bytes = compressed(&["a".to_owned()], Compression::UNCOMPRESSED, "content");
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains("`text`") && error.contains("id, content"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let bytes = parquet(&(0..250).map(|row| format!("text {row}")).collect::<Vec<_>>());
        assert!(read(&bytes[..bytes.len() - 9]).is_err());
        assert!(read(b"not parquet").is_err());
    }
}
