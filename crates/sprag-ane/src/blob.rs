//! Weight files: Core ML's blob storage, version 2. A file is a header of 64 bytes, then for each tensor a descriptor of 64
//! bytes and its data, each beginning at a multiple of 64. Programs name a tensor by the place of its descriptor.
//!
//! Source: MILBlob in apple/coremltools (storage format and reader). All numbers are little endian.

use std::fmt;

/// Where headers, descriptors and data begin: multiples of this.
pub const ALIGNMENT: usize = 64;
/// The version that is written and read.
pub const VERSION: u32 = 2;
/// First word of a descriptor.
const SENTINEL: u32 = 0xDEAD_BEEF;

/// What a tensor's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobType {
    /// Half precision.
    Fp16,
    /// Single precision.
    Fp32,
    /// Bytes without a sign.
    Uint8,
    /// Bytes with a sign.
    Int8,
}

impl BlobType {
    fn code(self) -> u32 {
        match self {
            BlobType::Fp16 => 1,
            BlobType::Fp32 => 2,
            BlobType::Uint8 => 3,
            BlobType::Int8 => 4,
        }
    }

    fn of(code: u32) -> Option<BlobType> {
        [BlobType::Fp16, BlobType::Fp32, BlobType::Uint8, BlobType::Int8]
            .into_iter()
            .find(|own| own.code() == code)
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            BlobType::Fp16 => 2,
            BlobType::Fp32 => 4,
            BlobType::Uint8 | BlobType::Int8 => 1,
        }
    }
}

/// Collects tensors, and gives the file.
///
/// ```
/// use sprag_ane::blob::{BlobType, BlobWriter, read_blob};
/// let mut writer = BlobWriter::new();
/// let first = writer.add(BlobType::Fp16, &[0x00, 0x3C]).unwrap();
/// let second = writer.add(BlobType::Int8, &[1, 2, 3]).unwrap();
/// let file = writer.finish();
/// // The first descriptor stands behind the file's header, the next behind data and padding.
/// assert_eq!((first, second), (64, 192));
/// assert_eq!(read_blob(&file, second).unwrap().data, [1, 2, 3]);
/// ```
#[derive(Clone, Debug)]
pub struct BlobWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for BlobWriter {
    fn default() -> BlobWriter {
        BlobWriter::new()
    }
}

impl BlobWriter {
    /// An empty file.
    pub fn new() -> BlobWriter {
        BlobWriter { bytes: vec![0; ALIGNMENT], count: 0 }
    }

    /// Adds a tensor's numbers, row by row, and gives the place of its descriptor: what a program names.
    ///
    /// # Errors
    /// When the bytes are no whole numbers of that type.
    pub fn add(&mut self, kind: BlobType, data: &[u8]) -> Result<u64, BlobError> {
        if !data.len().is_multiple_of(kind.bytes()) {
            return Err(BlobError::Size { kind, bytes: data.len() as u64 });
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let place = self.bytes.len() as u64;
        self.bytes.extend(SENTINEL.to_le_bytes());
        self.bytes.extend(kind.code().to_le_bytes());
        self.bytes.extend((data.len() as u64).to_le_bytes());
        self.bytes.extend((place + ALIGNMENT as u64).to_le_bytes());
        self.bytes.resize(place as usize + ALIGNMENT, 0);
        self.bytes.extend(data);
        self.count += 1;
        Ok(place)
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[..4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        self.bytes
    }
}

/// A tensor in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Blob<'a> {
    /// What its numbers are.
    pub kind: BlobType,
    /// The numbers, row by row.
    pub data: &'a [u8],
}

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}, {} bytes", self.kind, self.data.len())
    }
}

/// Why a tensor cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The file has no header of this version.
    #[error("it is no weight file of version {VERSION}: it says version {0}")]
    Version(u32),
    /// It ends before.
    #[error("it ends before byte {0}")]
    Short(u64),
    /// There is no descriptor at that place.
    #[error(
        "there is no descriptor at byte {0}; a program names the place of a descriptor, not of the data behind it"
    )]
    Descriptor(u64),
    /// A type that is not known here.
    #[error("the tensor at byte {place} has the unknown type {code}")]
    Type {
        /// Of its descriptor.
        place: u64,
        /// As it says.
        code: u32,
    },
    /// Its data cannot be where it says.
    #[error("the tensor at byte {0} says that its data begin where they cannot")]
    Data(u64),
    /// The bytes are no whole numbers.
    #[error("{bytes} bytes are no whole numbers of {kind:?}")]
    Size {
        /// The type.
        kind: BlobType,
        /// The bytes.
        bytes: u64,
    },
}

fn part(file: &[u8], from: u64, count: usize) -> Option<&[u8]> {
    let from = usize::try_from(from).ok()?;
    file.get(from..from.checked_add(count)?)
}

fn u32_at(file: &[u8], at: u64) -> Result<u32, BlobError> {
    let bytes = part(file, at, 4).and_then(|bytes| bytes.try_into().ok()).ok_or(BlobError::Short(at + 4))?;
    Ok(u32::from_le_bytes(bytes))
}

fn u64_at(file: &[u8], at: u64) -> Result<u64, BlobError> {
    let bytes = part(file, at, 8).and_then(|bytes| bytes.try_into().ok()).ok_or(BlobError::Short(at + 8))?;
    Ok(u64::from_le_bytes(bytes))
}

/// The tensor whose descriptor stands at a place, as a program names it.
///
/// # Errors
/// See [`BlobError`]; any bytes are a tensor or an error.
pub fn read_blob(file: &[u8], place: u64) -> Result<Blob<'_>, BlobError> {
    let version = u32_at(file, 4)?;
    if version != VERSION {
        return Err(BlobError::Version(version));
    }
    // Descriptors stand behind the header at multiples of 64; far places would overflow below.
    let sound = place >= ALIGNMENT as u64 && place.is_multiple_of(ALIGNMENT as u64) && place < 1 << 62;
    if !sound || u32_at(file, place)? != SENTINEL {
        return Err(BlobError::Descriptor(place));
    }
    let code = u32_at(file, place + 4)?;
    let kind = BlobType::of(code).ok_or(BlobError::Type { place, code })?;
    let (bytes, begin) = (u64_at(file, place + 8)?, u64_at(file, place + 16)?);
    if !begin.is_multiple_of(ALIGNMENT as u64) || begin < place + ALIGNMENT as u64 {
        return Err(BlobError::Data(place));
    }
    let size = usize::try_from(bytes).map_err(|_| BlobError::Data(place))?;
    if !size.is_multiple_of(kind.bytes()) {
        return Err(BlobError::Size { kind, bytes });
    }
    let data = part(file, begin, size).ok_or(BlobError::Short(begin.saturating_add(bytes)))?;
    Ok(Blob { kind, data })
}

/// How many tensors the file says that it holds.
///
/// # Errors
/// When it has no header of this version.
pub fn blob_count(file: &[u8]) -> Result<u32, BlobError> {
    match u32_at(file, 4)? {
        VERSION => u32_at(file, 0),
        version => Err(BlobError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the layout that coremltools writes: one half-precision tensor of two numbers.
    #[test]
    fn one_tensor_is_laid_out_to_the_byte() {
        let mut writer = BlobWriter::new();
        assert_eq!(writer.add(BlobType::Fp16, &[1, 2, 3, 4]), Ok(64));
        let mut expected = vec![0; 128];
        expected[0] = 1;
        expected[4] = 2;
        expected[64..72].copy_from_slice(&[0xEF, 0xBE, 0xAD, 0xDE, 1, 0, 0, 0]);
        expected[72] = 4;
        expected[80] = 128;
        expected.extend([1, 2, 3, 4]);
        assert_eq!(writer.finish(), expected);
    }

    #[test]
    fn several_tensors_are_read_back_and_begin_at_multiples_of_64() {
        let mut writer = BlobWriter::new();
        let tensors = [
            (BlobType::Fp16, vec![7; 130]),
            (BlobType::Fp32, vec![1; 64]),
            (BlobType::Uint8, Vec::new()),
            (BlobType::Int8, vec![9; 1]),
        ];
        let places: Vec<u64> = tensors.iter().map(|(kind, data)| writer.add(*kind, data).unwrap()).collect();
        let file = writer.finish();
        assert_eq!(blob_count(&file), Ok(4));
        for ((kind, data), place) in tensors.iter().zip(places) {
            assert!(place.is_multiple_of(64));
            assert_eq!(read_blob(&file, place), Ok(Blob { kind: *kind, data }));
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_never_a_panic() {
        let mut writer = BlobWriter::new();
        assert_eq!(
            writer.add(BlobType::Fp32, &[1, 2]),
            Err(BlobError::Size { kind: BlobType::Fp32, bytes: 2 })
        );
        let place = writer.add(BlobType::Fp16, &[1, 2, 3, 4]).unwrap();
        let file = writer.finish();
        assert_eq!(read_blob(&file, 128), Err(BlobError::Short(132)).or(Err(BlobError::Descriptor(128))));
        for wrong in [0, 1, 63, 65, u64::MAX, u64::MAX - 63] {
            assert_eq!(read_blob(&file, wrong), Err(BlobError::Descriptor(wrong)), "{wrong}");
        }
        for end in 0..file.len() {
            assert!(read_blob(&file[..end], place).is_err(), "cut at {end}");
        }
        let with = |at: usize, value: u8| {
            let mut file = file.clone();
            file[at] = value;
            read_blob(&file, place).map(|blob| blob.data.len())
        };
        assert_eq!(with(4, 1), Err(BlobError::Version(1)));
        assert_eq!(with(68, 99), Err(BlobError::Type { place, code: 99 }));
        assert_eq!(with(80, 64), Err(BlobError::Data(place)));
        assert_eq!(with(80, 129), Err(BlobError::Data(place)));
        assert_eq!(with(72, 3), Err(BlobError::Size { kind: BlobType::Fp16, bytes: 3 }));
        // A size with a wrong third byte, as some tools write it: more than there is.
        assert!(matches!(with(74, 8), Err(BlobError::Short(_))));
        for at in 0..file.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let _ = with(at, value);
            }
        }
    }
}
