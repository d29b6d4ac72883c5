//! The faults: what is broken, and which reason it must have where.

mod contents;
mod files;
mod settings;

use std::fs;
use std::path::Path;

use lamplighter_protocol::Reason;
use serde_json::Value;

use crate::support::artifact::{Tiny, WEIGHTS};

/// One way in which something is broken.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) damage: Damage,
    /// What `resolve` says; none where it cannot see it.
    pub(crate) resolve: Option<Reason>,
    /// What `serve` says.
    pub(crate) serve: Reason,
    /// A word that the failure must have: the file, the tensor, or what is wrong.
    pub(crate) names: &'static str,
}

/// What is done.
#[derive(Clone, Copy)]
pub(crate) enum Damage {
    /// To the model, before it is written.
    Model(fn(&mut Tiny)),
    /// To the files in the store.
    Files(fn(&Path)),
    /// To the files in the store, after they were resolved.
    Later(fn(&Path)),
    /// To the model's entry in the manifest.
    Entry(fn(&mut Value)),
    /// To the weights, with a golden file that names the digest of the damaged files.
    Relabelled(fn(&mut Tiny)),
}

const fn both(name: &'static str, reason: Reason, names: &'static str, damage: Damage) -> Fault {
    Fault { name, damage, resolve: Some(reason), serve: reason, names }
}

const fn loading(name: &'static str, reason: Reason, names: &'static str, damage: Damage) -> Fault {
    Fault { name, damage, resolve: None, serve: reason, names }
}

fn cut(folder: &Path, length: impl FnOnce(usize, usize) -> usize) {
    let path = folder.join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..length(header_end(&bytes), bytes.len())]).unwrap();
}

/// Where the data begins.
fn header_end(bytes: &[u8]) -> usize {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    8 + usize::try_from(length).unwrap()
}

fn change_bytes(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join(WEIGHTS);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

/// Another header for the same data.
fn change_header(folder: &Path, change: impl FnOnce(String) -> String) {
    change_bytes(folder, |bytes| {
        let end = header_end(bytes);
        let header = change(String::from_utf8(bytes[8..end].to_vec()).unwrap());
        let mut new = (header.len() as u64).to_le_bytes().to_vec();
        new.extend(header.as_bytes());
        new.extend(&bytes[end..]);
        *bytes = new;
    });
}

/// The entry of one tensor in the header, changed.
fn change_tensor(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    change_header(folder, |header| {
        let mut header: Value = serde_json::from_str(&header).unwrap();
        change(&mut header[name]);
        header.to_string()
    });
}

fn replace(folder: &Path, file: &str, content: &str) {
    fs::write(folder.join(file), content).unwrap();
}

fn shards(folder: &Path, index: &Value) {
    fs::rename(folder.join(WEIGHTS), folder.join("one.safetensors")).unwrap();
    replace(folder, "model.safetensors.index.json", &index.to_string());
}

fn golden(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("golden.json");
    let mut golden: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut golden);
    fs::write(path, golden.to_string()).unwrap();
}

fn set_first_float(model: &mut Tiny, value: f32) {
    let tensor = model.tensor("encoder.layer.0.output.dense.weight");
    tensor.data[..4].copy_from_slice(&value.to_le_bytes());
}

const NORM: &str = "embeddings.LayerNorm.bias";

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Fault> {
    files::FAULTS.iter().chain(settings::FAULTS).chain(contents::FAULTS)
}
