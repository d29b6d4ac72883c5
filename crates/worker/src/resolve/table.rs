//! Records as tables.

use std::fmt::Write as _;

use lamplighter_protocol::{ResolveRecord, bytes_in_words};

/// What stands for a commit where the store has none, and for a pooling where the model has none.
const NONE: &str = "none";

/// The properties of a record, the same for all, in the order in which people read them.
fn rows(record: &ResolveRecord) -> Vec<(&'static str, String)> {
    // A model that gives scores pools nothing.
    let pooling = if record.pooling.is_empty() { NONE } else { &record.pooling };
    vec![
        ("model", record.model.to_string()),
        ("task", record.task.to_string()),
        ("architecture", record.architecture.clone()),
        ("model type", record.model_type.clone()),
        ("layers", record.layers.to_string()),
        ("hidden size", record.hidden.to_string()),
        ("attention heads", record.heads.to_string()),
        ("intermediate size", record.intermediate.to_string()),
        ("vocabulary", record.vocabulary.to_string()),
        ("longest text", format!("{} tokens", record.max_tokens)),
        ("pooling", pooling.to_owned()),
        ("dimensions", record.dimensions.to_string()),
        ("number format", record.dtype.clone()),
        ("parameters", record.parameters.to_string()),
        ("size", size(record.bytes)),
        ("memory", format!("at least {}", bytes_in_words(record.memory))),
        ("tokenizer", record.tokenizer_digest.clone()),
        ("digest", record.digest.clone()),
        ("pin", record.pin.clone()),
        ("commit", record.commit.clone().unwrap_or_else(|| NONE.to_owned())),
    ]
}

/// What is at an address.
pub(super) fn one(uri: &str, record: &ResolveRecord) -> String {
    let mut rows = rows(record);
    rows.insert(0, ("address", uri.to_owned()));
    rows.retain(|(_, value)| value != NONE);
    let width = width(rows.iter().map(|(name, _)| *name));
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// What differs between two, and how one would replace the other.
pub(super) fn two(
    uris: &[String],
    old: &ResolveRecord,
    new: &ResolveRecord,
    strategy: &str,
    because: &[String],
) -> String {
    let mut differing = vec![("address", uris[0].clone(), uris[1].clone())];
    let pairs = rows(old).into_iter().zip(rows(new));
    let pairs = pairs.map(|((name, was), (_, is))| (name, was, is));
    differing.extend(pairs.filter(|(_, was, is)| was != is));
    let width = width(differing.iter().map(|(name, _, _)| *name));
    let mut text = String::new();
    for (name, was, is) in &differing {
        // Side by side, digests would be wider than a terminal.
        let _ = writeln!(text, "{name:width$}  {was}\n{:width$}  -> {is}", "");
    }
    let _ = writeln!(text, "\nstrategy {strategy}: {}", because.join(" and "));
    text.push_str("(as `spec.rollout` would decide it with strategy and compatibility Auto)\n");
    text
}

fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).max().unwrap_or(0)
}

/// In the unit that people use, and exactly.
fn size(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", bytes_in_words(bytes))
}

#[cfg(test)]
mod tests {
    use lamplighter_protocol::{ModelKey, Task};

    use super::*;

    fn record() -> ResolveRecord {
        ResolveRecord {
            model: ModelKey { name: "minilm".to_owned(), version: "2.1.0".to_owned() },
            task: Task::Embedding,
            architecture: "BertModel".to_owned(),
            model_type: "bert".to_owned(),
            layers: 6,
            hidden: 384,
            heads: 12,
            intermediate: 1_536,
            vocabulary: 30_522,
            max_tokens: 256,
            pooling: "mean".to_owned(),
            dimensions: 384,
            dtype: "F32".to_owned(),
            parameters: 22_713_216,
            bytes: 91_624_612,
            memory: 150_000_000,
            tokenizer_digest: format!("sha256:{}", "0".repeat(64)),
            digest: format!("sha256:{}", "1".repeat(64)),
            pin: format!("sha256:{}", "2".repeat(64)),
            commit: Some("c".repeat(40)),
        }
    }

    #[test]
    fn a_record_is_told_property_by_property() {
        insta::assert_snapshot!(one("s3://models/minilm/2.1.0", &record()));
    }

    #[test]
    fn only_what_differs_is_told_of_two() {
        let new = ResolveRecord {
            layers: 12,
            bytes: 500,
            digest: format!("sha256:{}", "3".repeat(64)),
            commit: None,
            ..record()
        };
        let uris = ["hf://org/minilm@v2".to_owned(), "s3://models/minilm/3.0.0".to_owned()];
        let because = ["the number of layers changed".to_owned(), "something else".to_owned()];
        insta::assert_snapshot!(two(&uris, &record(), &new, "BlueGreen", &because));
    }
}
