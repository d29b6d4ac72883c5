//! What the engine's example made to be computed by all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;

use crate::model;
use crate::workspace::Workspace;

/// The longest text of W1, in tokens: more than the model's own setting.
const LONGEST: usize = 384;

/// Texts, and the tokens that they are.
#[derive(Debug, Deserialize)]
pub(crate) struct Workload {
    pub(crate) ids: Vec<Vec<u32>>,
    pub(crate) texts: Vec<String>,
}

impl Workload {
    /// Tokens, and floating-point operations of the network for them all.
    pub(crate) fn size(&self) -> (f64, f64) {
        size(&self.ids)
    }
}

/// All of a file, by name.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Workload>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is of another form", path.display()))
}

/// A copy of the model that takes texts as long as W1 has them.
pub(crate) fn copy_model(workspace: &Workspace, to: &Path) -> Result<()> {
    model::copy_tree(&model::minilm(workspace)?, to)?;
    let longest = json!({"max_seq_length": LONGEST, "do_lower_case": false});
    let path = to.join("sentence_bert_config.json");
    fs::write(&path, longest.to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Tokens of texts, and the floating-point operations of six layers of 384 dimensions: a
/// multiplication and an addition for each weight of a layer, and for each pair of tokens and dimension
/// two of both.
pub(crate) fn size(texts: &[Vec<u32>]) -> (f64, f64) {
    const WEIGHTS: f64 = 6.0 * (4.0 * 384.0 * 384.0 + 2.0 * 384.0 * 1536.0);
    const PAIRS: f64 = 6.0 * 2.0 * 384.0;
    let lengths = texts.iter().map(|ids| ids.len() as f64);
    let flops = |length: f64| 2.0 * (WEIGHTS * length + PAIRS * length * length);
    (lengths.clone().sum(), lengths.map(flops).sum())
}

/// 32-bit numbers, as programs leave them in a file.
pub(crate) fn floats(path: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_tokens_count_beside_the_weights() {
        let one = 2.0 * f64::from(6 * (4 * 384 * 384 + 2 * 384 * 1536));
        let pair = 2.0 * f64::from(6 * 2 * 384);
        assert_eq!(size(&[]), (0.0, 0.0));
        assert_eq!(size(&[vec![7]]), (1.0, one + pair));
        assert_eq!(size(&[vec![7], vec![7, 7, 7]]), (4.0, 4.0 * one + 10.0 * pair));
    }
}
