//! Files that end too early, are no weights, or are not there.

use std::fs;

use lamplighter_protocol::Reason::*;
use serde_json::json;

use super::{
    Damage, Fault, NORM, both, change_bytes, change_header, change_tensor, cut, replace, shards,
};
use crate::support::artifact::WEIGHTS;

pub(super) const FAULTS: &[Fault] = &[
    // Where a file can end too early.
    both("empty weights", ArtifactTruncated, WEIGHTS, Damage::Files(|f| cut(f, |_, _| 0))),
    both("cut in the length", ArtifactTruncated, WEIGHTS, Damage::Files(|f| cut(f, |_, _| 4))),
    both("cut in the header", ArtifactTruncated, WEIGHTS, Damage::Files(|f| cut(f, |h, _| h / 2))),
    both("cut at the data", ArtifactTruncated, WEIGHTS, Damage::Files(|f| cut(f, |h, _| h))),
    both("cut in a tensor", ArtifactTruncated, WEIGHTS, Damage::Files(|f| cut(f, usize::midpoint))),
    both("last byte missing", ArtifactTruncated, WEIGHTS, Damage::Files(|f| cut(f, |_, n| n - 1))),
    // The header.
    both(
        "huge header length",
        HeaderInvalid,
        WEIGHTS,
        Damage::Files(|f| {
            change_bytes(f, |bytes| bytes[6] = 1);
        }),
    ),
    both(
        "flipped header length",
        HeaderInvalid,
        WEIGHTS,
        Damage::Files(|f| {
            change_bytes(f, |bytes| bytes[0] ^= 1);
        }),
    ),
    both(
        "header is no object",
        HeaderInvalid,
        WEIGHTS,
        Damage::Files(|f| {
            change_bytes(f, |bytes| bytes[8] = b'[');
        }),
    ),
    both(
        "flipped header JSON",
        HeaderInvalid,
        WEIGHTS,
        Damage::Files(|f| {
            change_header(f, |header| header.replacen(':', ";", 1));
        }),
    ),
    both(
        "bytes after the data",
        HeaderInvalid,
        WEIGHTS,
        Damage::Files(|f| {
            change_bytes(f, |bytes| bytes.extend(b"more"));
        }),
    ),
    both(
        "overlapping tensors",
        HeaderInvalid,
        "LayerNorm",
        Damage::Files(|f| {
            change_tensor(f, "embeddings.LayerNorm.weight", |tensor| {
                tensor["data_offsets"] = json!([0, 32]);
            });
        }),
    ),
    both(
        "a tensor's bytes do not fit its shape",
        HeaderInvalid,
        NORM,
        Damage::Files(|f| {
            change_tensor(f, NORM, |tensor| tensor["shape"] = json!([9]));
        }),
    ),
    both(
        "unknown number format",
        HeaderInvalid,
        NORM,
        Damage::Files(|f| {
            change_tensor(f, NORM, |tensor| tensor["dtype"] = json!("F33"));
        }),
    ),
    both(
        "a tensor twice",
        HeaderInvalid,
        "pooler",
        Damage::Files(|f| {
            change_header(f, |header| {
                let entry =
                    r#"{"pooler.dense.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"#;
                format!("{entry}{}", &header[1..])
            });
        }),
    ),
    both(
        "pointer of Git LFS",
        HeaderInvalid,
        "Git LFS",
        Damage::Files(|f| {
            replace(
                f,
                WEIGHTS,
                "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            );
        }),
    ),
    both(
        "a web page for weights",
        HeaderInvalid,
        WEIGHTS,
        Damage::Files(|f| {
            replace(f, WEIGHTS, "<!DOCTYPE html><html><body>Sign in</body></html>");
        }),
    ),
    // Shards.
    both(
        "missing shard",
        IndexMissingShard,
        "two.safetensors",
        Damage::Files(|f| {
            shards(f, &json!({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}));
        }),
    ),
    both(
        "shard without its tensor",
        TensorMissing,
        "elsewhere",
        Damage::Files(|f| {
            shards(f, &json!({"weight_map": {"elsewhere": "one.safetensors"}}));
        }),
    ),
    both(
        "index is not JSON",
        ConfigInvalid,
        "index",
        Damage::Files(|f| {
            shards(f, &json!("nothing"));
        }),
    ),
    both(
        "pickle only",
        UnsafeFormat,
        "pytorch_model.bin",
        Damage::Files(|f| {
            fs::rename(f.join(WEIGHTS), f.join("pytorch_model.bin")).unwrap();
        }),
    ),
    // Files that are not there.
    both(
        "no weights",
        ArtifactNotFound,
        WEIGHTS,
        Damage::Files(|f| {
            fs::remove_file(f.join(WEIGHTS)).unwrap();
        }),
    ),
    both(
        "no config",
        ArtifactNotFound,
        "config.json",
        Damage::Files(|f| {
            fs::remove_file(f.join("config.json")).unwrap();
        }),
    ),
    both(
        "no tokenizer",
        ArtifactNotFound,
        "tokenizer.json",
        Damage::Files(|f| {
            fs::remove_file(f.join("tokenizer.json")).unwrap();
        }),
    ),
    both(
        "nothing at the address",
        ArtifactNotFound,
        "nowhere",
        Damage::Entry(|entry| {
            entry["source"]["uri"] = json!("s3://models/nowhere");
        }),
    ),
    both(
        "no such bucket",
        ArtifactNotFound,
        "no bucket nobodys",
        Damage::Entry(|entry| {
            entry["source"]["uri"] = json!("s3://nobodys/minilm");
        }),
    ),
    both(
        "no such scheme",
        ManifestInvalid,
        "ftp",
        Damage::Entry(|entry| {
            entry["source"]["uri"] = json!("ftp://models/minilm");
        }),
    ),
];
