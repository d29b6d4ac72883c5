//! The header of a safetensors file: which tensors it holds and where.
//!
//! The format: 8 bytes with the header's length, little-endian; the header, JSON that maps
//! tensor names to `dtype`, `shape` and `data_offsets`; then the data, which the tensors cover
//! without gap or overlap (<https://github.com/huggingface/safetensors#format>).

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::error::ArtifactError;

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Where the header begins, after its length.
const HEADER_BEGIN: u64 = 8;
/// How a pointer of Git LFS begins: what a clone without LFS leaves in a large file's place.
const LFS_POINTER: &[u8; 8] = b"version ";

/// A tensor of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
}

/// Reads and checks the header of a file of `size` bytes. The data is not touched.
pub(crate) fn read(
    file: &str,
    size: u64,
    reader: &mut impl Read,
) -> Result<Vec<Tensor>, HeaderError> {
    let invalid = |expected: &str, found: String| invalid(file, None, expected, found);
    let truncated =
        |expected| ArtifactError::Truncated { file: file.to_owned(), expected, found: size };
    if size < HEADER_BEGIN {
        return Err(truncated(HEADER_BEGIN).into());
    }
    let mut length = [0; size_of::<u64>()];
    reader.read_exact(&mut length)?;
    if &length == LFS_POINTER {
        return Err(invalid("a safetensors file", "a pointer of Git LFS".to_owned()).into());
    }
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        let expected = format!("a header of at most {MAX_HEADER} bytes");
        return Err(invalid(&expected, format!("{length} bytes")).into());
    }
    let data = HEADER_BEGIN + length;
    if size < data {
        return Err(truncated(data).into());
    }
    let mut json = Vec::new();
    reader.take(length).read_to_end(&mut json)?;
    if json.first() != Some(&b'{') {
        return Err(invalid("a header that starts with {", "something else".to_owned()).into());
    }
    let Entries(entries) = serde_json::from_slice(&json)
        .map_err(|error| invalid("JSON that maps names to tensors", error.to_string()))?;
    Ok(check_layout(file, size, data, entries)?)
}

/// What is wrong with the header, or with reading it.
pub(crate) enum HeaderError {
    /// The header is wrong.
    Invalid(ArtifactError),
    /// It could not be read.
    Io(std::io::Error),
}

impl From<ArtifactError> for HeaderError {
    fn from(error: ArtifactError) -> Self {
        Self::Invalid(error)
    }
}

impl From<std::io::Error> for HeaderError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// The tensors, if they cover the data from its begin at `data` to the file's end.
fn check_layout(
    file: &str,
    size: u64,
    data: u64,
    entries: Vec<(String, Value)>,
) -> Result<Vec<Tensor>, ArtifactError> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::new();
    for (name, value) in entries {
        if !names.insert(name.clone()) {
            let found = "a second entry of that name".to_owned();
            return Err(invalid(file, Some(&name), "one entry for each tensor", found));
        }
        if name == "__metadata__" {
            continue;
        }
        let raw: RawTensor = serde_json::from_value(value).map_err(|error| {
            let expected = "a known dtype, a shape and data_offsets";
            invalid(file, Some(&name), expected, error.to_string())
        })?;
        let (begin, end) = raw.data_offsets;
        let Some(bytes) = byte_size(raw.dtype, &raw.shape) else {
            let found = format!("{:?} {:?}", raw.dtype, raw.shape);
            return Err(invalid(file, Some(&name), "a size in whole bytes", found));
        };
        if end.checked_sub(begin) != Some(bytes) {
            let expected = format!("{bytes} bytes for {:?} {:?}", raw.dtype, raw.shape);
            return Err(invalid(file, Some(&name), &expected, format!("bytes {begin} to {end}")));
        }
        tensors.push((begin, end, Tensor { name, dtype: raw.dtype, shape: raw.shape }));
    }
    tensors.sort_by_key(|(begin, end, _)| (*begin, *end));
    let mut covered = 0;
    for (begin, end, tensor) in &tensors {
        if *begin != covered {
            let expected = format!("data from byte {covered} on");
            let found = format!("data from byte {begin} on");
            return Err(invalid(file, Some(&tensor.name), &expected, found));
        }
        covered = *end;
    }
    let expected = data.saturating_add(covered);
    if size < expected {
        return Err(ArtifactError::Truncated { file: file.to_owned(), expected, found: size });
    }
    if size > expected {
        let found = format!("{} bytes more", size - expected);
        return Err(invalid(file, None, "a file that ends with its last tensor", found));
    }
    Ok(tensors.into_iter().map(|(_, _, tensor)| tensor).collect())
}

/// None when the size overflows or is no whole number of bytes.
fn byte_size(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let bits = u64::try_from(dtype.bitsize()).ok()?;
    let bits = shape.iter().try_fold(bits, |bits, length| bits.checked_mul(*length))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

fn invalid(file: &str, tensor: Option<&str>, expected: &str, found: String) -> ArtifactError {
    ArtifactError::HeaderInvalid {
        file: file.to_owned(),
        tensor: tensor.map(str::to_owned),
        expected: expected.to_owned(),
        found,
    }
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A JSON object with all its entries: a map would drop the first of two of one name.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_bytes(bytes: &[u8]) -> Result<Vec<Tensor>, ArtifactError> {
        read("model.safetensors", bytes.len() as u64, &mut &bytes[..]).map_err(
            |error| match error {
                HeaderError::Invalid(error) => error,
                HeaderError::Io(error) => panic!("a slice cannot fail to be read: {error}"),
            },
        )
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn tensors_come_in_the_order_of_their_data() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"F32","shape":[2,3],"data_offsets":[6,30]},
            "a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},
            "none":{"dtype":"F32","shape":[0,7],"data_offsets":[6,6]},
            "scalar":{"dtype":"I64","shape":[],"data_offsets":[30,38]}}   "#;
        let tensors = read_bytes(&file(header, 38)).unwrap();
        let found: Vec<_> = tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice()))
            .collect();
        let expected: [(&str, Dtype, &[u64]); 4] = [
            ("a", Dtype::BF16, &[3]),
            ("none", Dtype::F32, &[0, 7]),
            ("b", Dtype::F32, &[2, 3]),
            ("scalar", Dtype::I64, &[]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_short_file_is_truncated_wherever_it_ends() {
        let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
        let whole = file(header, 16);
        assert!(read_bytes(&whole).is_ok());
        for length in 0..whole.len() {
            let error = read_bytes(&whole[..length]).unwrap_err();
            let ArtifactError::Truncated { expected, found, .. } = error else {
                panic!("{length}: {error:?}");
            };
            assert_eq!(found, length as u64);
            assert!(expected > found && expected <= whole.len() as u64, "{length}: {expected}");
        }
    }

    #[test]
    fn a_wrong_header_is_named_by_tensor() {
        let one = |entry: &str| format!(r#"{{"a":{entry}}}"#);
        let f32_at = |shape: &str, offsets: &str| {
            one(&format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#))
        };
        let two = |b: &str| {
            format!(
                r#"{{"z":{{"dtype":"U8","shape":[8],"data_offsets":[0,8]}},
                    "a":{{"dtype":"U8","shape":[8],"data_offsets":{b}}}}}"#
            )
        };
        let huge = "[4294967296,4294967296,4294967296]";
        for (header, tensor) in [
            ("[]".to_owned(), None),
            ("not JSON".to_owned(), None),
            (r#"{"a":"#.to_owned(), None),
            ("{}{}".to_owned(), None),
            (" {}".to_owned(), None),
            (one("1"), Some("a")),
            (one(r#"{"dtype":"F33","shape":[1],"data_offsets":[0,16]}"#), Some("a")),
            (one(r#"{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}"#), Some("a")),
            (one(r#"{"dtype":"F32","shape":[4]}"#), Some("a")),
            (one(r#"{"dtype":"F4","shape":[1],"data_offsets":[0,1]}"#), Some("a")),
            (f32_at("[4]", "[16,0]"), Some("a")),
            (f32_at("[5]", "[0,16]"), Some("a")),
            (f32_at("[4]", "[1,17]"), Some("a")),
            (f32_at(huge, "[0,16]"), Some("a")),
            (two("[9,17]"), Some("a")),
            (two("[4,12]"), Some("a")),
            (two("[8,16]").replace("\"z\"", "\"a\""), Some("a")),
            ("{}".to_owned(), None),
        ] {
            let error = read_bytes(&file(&header, 16)).unwrap_err();
            assert!(matches!(error, ArtifactError::HeaderInvalid { .. }), "{header}: {error:?}");
            assert_eq!(error.tensor(), tensor, "{header}: {error}");
        }
    }

    #[test]
    fn what_is_no_safetensors_file_at_all_is_not_called_truncated() {
        let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
        for bytes in [&lfs[..], b"<!DOCTYPE html><html>", b"PK\x03\x04pickle in a zip"] {
            let error = read_bytes(bytes).unwrap_err();
            assert!(matches!(error, ArtifactError::HeaderInvalid { .. }), "{error:?}");
        }
        assert!(read_bytes(lfs).unwrap_err().to_string().contains("Git LFS"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = read_bytes(&bytes);
        }

        #[test]
        fn no_header_makes_the_reader_panic(
            name in ".{0,8}",
            dtype in prop::sample::select(vec!["F32", "BF16", "F4", "F8_E4M3", "nothing"]),
            shape in prop::collection::vec(any::<u64>(), 0..4),
            begin in any::<u64>(),
            end in any::<u64>(),
            data in 0_usize..64,
        ) {
            let entry = serde_json::json!({
                "dtype": dtype, "shape": shape, "data_offsets": [begin, end],
            });
            let header = serde_json::json!({ name: entry }).to_string();
            let _outcome = read_bytes(&file(&header, data));
        }
    }
}
