//! Numbers, bytes, answers and credentials that are not what they should be.

use std::fs;

use lamplighter_protocol::Reason::*;
use serde_json::json;

use super::{Damage, Fault, both, change_bytes, golden, loading, replace, set_first_float};
use crate::support::artifact::tiny;

pub(super) const FAULTS: &[Fault] = &[
    // Numbers.
    loading(
        "NaN weight",
        WeightsNonFinite,
        "encoder.layer.0.output.dense.weight",
        Damage::Model(|model| {
            set_first_float(model, f32::NAN);
        }),
    ),
    loading(
        "infinite weight",
        WeightsNonFinite,
        "encoder.layer.0.output.dense.weight",
        Damage::Model(|model| {
            set_first_float(model, f32::NEG_INFINITY);
        }),
    ),
    // Bytes.
    both(
        "another digest than expected",
        DigestMismatch,
        "sha256:0000000000000000",
        Damage::Entry(|entry| {
            entry["expectedDigest"] = json!(format!("sha256:{}", "0".repeat(64)));
        }),
    ),
    loading(
        "a bit flips after it was resolved",
        DigestMismatch,
        "sha256:",
        Damage::Later(|f| {
            change_bytes(f, |bytes| *bytes.last_mut().unwrap() ^= 1);
        }),
    ),
    loading(
        "one tensor scaled by 1.01 after it was resolved",
        DigestMismatch,
        "sha256:",
        Damage::Later(|f| {
            change_bytes(f, |bytes| {
                let end = bytes.len();
                for number in bytes[end - 32..].as_chunks_mut::<4>().0 {
                    *number = (f32::from_le_bytes(*number) * 1.01).to_le_bytes();
                }
            });
        }),
    ),
    Fault {
        name: "a list of sums that is wrong",
        damage: Damage::Files(|f| {
            replace(f, "SHA256SUMS", &format!("{}  config.json\n", "0".repeat(64)));
        }),
        resolve: Some(DigestMismatch),
        serve: DigestMismatch,
        names: "config.json",
    },
    both(
        "a listed file that is not there",
        ArtifactNotFound,
        "2_Dense/model.safetensors",
        Damage::Files(|f| {
            replace(f, "SHA256SUMS", &format!("{}  2_Dense/model.safetensors\n", "0".repeat(64)));
        }),
    ),
    // Answers.
    loading(
        "no case and no golden file",
        NoValidationCases,
        "golden.json",
        Damage::Files(|f| {
            fs::remove_file(f.join("golden.json")).unwrap();
        }),
    ),
    loading(
        "golden file is not JSON",
        GoldenInvalid,
        "golden.json",
        Damage::Files(|f| {
            replace(f, "golden.json", "{");
        }),
    ),
    loading(
        "golden file of another artifact",
        GoldenInvalid,
        "golden.json",
        Damage::Files(|f| {
            golden(f, |golden| {
                golden["artifactDigest"] = json!(format!("sha256:{}", "0".repeat(64)));
            });
        }),
    ),
    loading(
        "wrong golden answer",
        ValidationFailed,
        "golden-1",
        Damage::Files(|f| {
            golden(f, |golden| {
                let vector = golden["cases"][0]["vector"].as_array_mut().unwrap();
                vector.reverse();
            });
        }),
    ),
    // One scaled by 1.01 leaves these answers within 0.999999: only the digest sees that.
    loading(
        "one tensor turned around, golden file renamed",
        ValidationFailed,
        "golden-1",
        Damage::Relabelled(|model| {
            let tensor = model.tensor("encoder.layer.1.output.dense.weight");
            let values: Vec<f32> = tensor.values().iter().map(|value| -value).collect();
            *tensor = tiny::Tensor::floats(&tensor.shape.clone(), values);
        }),
    ),
    // Credentials.
    both(
        "wrong credentials",
        AuthDenied,
        "s3://models/wrong-credentials",
        Damage::Entry(|entry| {
            let right = entry["source"]["credentials"].as_str().unwrap();
            entry["source"]["credentials"] = json!(right.replace("true", "false"));
        }),
    ),
    both(
        "no credentials",
        AuthDenied,
        "none of AWS_ACCESS_KEY_ID",
        Damage::Entry(|entry| {
            entry["source"]["credentials"] = json!("/nowhere");
        }),
    ),
];
