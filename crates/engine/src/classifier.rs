//! Models with a head for scores: what their numbers are called, and how they become scores.
//!
//! A function that the artifact states is what the `CrossEncoder` of sentence-transformers applies
//! (<https://github.com/huggingface/sentence-transformers/blob/v6.2.0/sentence_transformers/cross_encoder/model.py>).
//! Where it states none, one label has a sigmoid, as both have it, and several what the text
//! classification of transformers does with them
//! (<https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/pipelines/text_classification.py>).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::config::{Config, FILE, read_json, read_json_if_any};
use crate::error::EngineError;
use crate::module::{MODULES, Module};
use crate::recipe::{Recipe, SENTENCE_TRANSFORMERS, Transformer};
use crate::{Gives, Pooling, Scale};

/// Where the file does not say how many: transformers leaves it away where it is the default.
const LABELS: usize = 2;
/// More than any model has.
const MAX_LABELS: usize = 1 << 16;

/// The fields of `config.json` that are about a head.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    id2label: Option<BTreeMap<String, String>>,
    #[serde(default)]
    num_labels: Option<usize>,
    #[serde(default)]
    problem_type: Option<String>,
    /// Of sentence-transformers before 6.0.
    #[serde(default)]
    sentence_transformers: Option<Activation>,
    /// Of sentence-transformers before 4.0.
    #[serde(default)]
    sbert_ce_default_activation_function: Option<String>,
}

#[derive(Default, Deserialize)]
struct Activation {
    #[serde(default)]
    activation_fn: Option<String>,
}

pub(crate) fn read(dir: &Path, config: &Config) -> Result<Recipe, EngineError> {
    let modules: Option<Vec<Module>> = read_json_if_any(dir, MODULES)?;
    let modules = modules.unwrap_or_default();
    // Without the file there is the network alone, as transformers saves it.
    if !modules.is_empty() {
        Module::check_alone(&modules)?;
    }
    let transformer = Transformer::read(dir, "sequence-classification", "scores")?;
    let fields: Fields = read_json(dir, FILE)?;
    let of_encoder: Option<Activation> = read_json_if_any(dir, SENTENCE_TRANSFORMERS)?;
    let labels = fields.labels()?;
    let scale = fields.scale(labels.len(), &of_encoder.unwrap_or_default())?;
    Ok(Recipe {
        max_tokens: transformer.max_tokens(dir, config)?,
        lowercase: transformer.do_lower_case,
        // Every head begins with the first token's vector.
        pooling: Pooling::Cls,
        projections: config.head(labels.len()).unwrap_or_default(),
        normalize: false,
        gives: Gives::Scores { labels, scale },
    })
}

impl Fields {
    /// The names of the numbers, in the order in which they come out.
    fn labels(&self) -> Result<Vec<String>, EngineError> {
        let Some(by_id) = &self.id2label else {
            let count = self.num_labels.unwrap_or(LABELS);
            if !(1..=MAX_LABELS).contains(&count) {
                let expected = format!("num_labels between 1 and {MAX_LABELS}");
                return Err(EngineError::config(FILE, expected, count));
            }
            return Ok((0..count).map(|id| format!("LABEL_{id}")).collect());
        };
        let count = by_id.len();
        if let Some(stated) = self.num_labels
            && stated != count
        {
            let expected = format!("num_labels to be that of id2label, {count}");
            return Err(EngineError::config(FILE, expected, stated));
        }
        let labels: Option<Vec<String>> =
            (0..count).map(|id| by_id.get(&id.to_string()).cloned()).collect();
        labels.filter(|labels| !labels.is_empty()).ok_or_else(|| {
            let found: Vec<&str> = by_id.keys().map(String::as_str).collect();
            EngineError::config(FILE, "id2label to name every id from 0 on", found.join(", "))
        })
    }

    /// How `labels` numbers become scores. What is said for this very use goes first, the newest
    /// place of it before older ones.
    fn scale(&self, labels: usize, encoder: &Activation) -> Result<Scale, EngineError> {
        let of_config = self.sentence_transformers.as_ref();
        let of_config = of_config.and_then(|stated| stated.activation_fn.as_ref());
        let stated = [
            (SENTENCE_TRANSFORMERS, "activation_fn", encoder.activation_fn.as_ref()),
            (FILE, "sentence_transformers.activation_fn", of_config),
            (
                FILE,
                "sbert_ce_default_activation_function",
                self.sbert_ce_default_activation_function.as_ref(),
            ),
        ];
        for (file, field, function) in stated {
            if let Some(function) = function {
                return named(file, field, function);
            }
        }
        match self.problem_type.as_deref() {
            Some("single_label_classification") | None if labels > 1 => Ok(Scale::Softmax),
            None | Some("multi_label_classification") => Ok(Scale::Sigmoid),
            Some(other) => Err(EngineError::config(
                FILE,
                "problem_type to be multi_label_classification, single_label_classification with \
                 more than one label, or none (or say the function after the head as \
                 sentence_transformers.activation_fn)",
                other,
            )),
        }
    }
}

/// By the names of torch's classes.
fn named(file: &str, field: &str, function: &str) -> Result<Scale, EngineError> {
    match function {
        "torch.nn.modules.activation.Sigmoid" | "torch.nn.Sigmoid" => Ok(Scale::Sigmoid),
        "torch.nn.modules.linear.Identity" | "torch.nn.Identity" => Ok(Scale::Raw),
        other => {
            let expected = format!(
                "{field} to be torch.nn.modules.activation.Sigmoid or \
                 torch.nn.modules.linear.Identity"
            );
            Err(EngineError::config(file, expected, other))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(json: Value) -> Fields {
        serde_json::from_value(json).unwrap()
    }

    fn scale(json: Value, labels: usize) -> Result<Scale, EngineError> {
        fields(json).scale(labels, &Activation::default())
    }

    #[test]
    fn labels_come_in_the_order_of_their_ids() {
        let names = |json| fields(json).labels().ok();
        let twelve: Vec<String> = (0..12).map(|id| format!("l{id}")).collect();
        let by_id: BTreeMap<usize, &String> = twelve.iter().enumerate().collect();
        assert_eq!(names(json!({"id2label": by_id})).unwrap(), twelve);
        assert_eq!(names(json!({"num_labels": 1})).unwrap(), ["LABEL_0"]);
        assert_eq!(names(json!({})).unwrap(), ["LABEL_0", "LABEL_1"]);
        assert_eq!(names(json!({"id2label": {"0": "a"}, "num_labels": 1})).unwrap(), ["a"]);
        for broken in [
            json!({"id2label": {}}),
            json!({"id2label": {"1": "a"}}),
            json!({"id2label": {"0": "a", "2": "b"}}),
            json!({"id2label": {"zero": "a"}}),
            json!({"id2label": {"0": "a"}, "num_labels": 2}),
            json!({"num_labels": 0}),
            json!({"num_labels": MAX_LABELS + 1}),
        ] {
            assert_eq!(names(broken.clone()), None, "{broken}");
        }
    }

    #[test]
    fn without_a_function_the_problem_and_the_labels_decide() {
        let (single, multi) = ("single_label_classification", "multi_label_classification");
        for (problem, labels, expected) in [
            (None, 1, Some(Scale::Sigmoid)),
            (None, 3, Some(Scale::Softmax)),
            (Some(single), 3, Some(Scale::Softmax)),
            (Some(multi), 3, Some(Scale::Sigmoid)),
            (Some(multi), 1, Some(Scale::Sigmoid)),
            // sentence-transformers has a sigmoid there, transformers nothing.
            (Some("regression"), 1, None),
            (Some(single), 1, None),
            (Some("other"), 3, None),
        ] {
            let found = scale(json!({"problem_type": problem}), labels);
            assert_eq!(found.ok(), expected, "{problem:?} {labels}");
        }
    }

    #[test]
    fn the_newest_place_of_a_function_goes_first() {
        const SIGMOID: &str = "torch.nn.modules.activation.Sigmoid";
        const IDENTITY: &str = "torch.nn.modules.linear.Identity";
        let old =
            json!({"sbert_ce_default_activation_function": SIGMOID, "problem_type": "regression"});
        assert_eq!(scale(old.clone(), 3).unwrap(), Scale::Sigmoid);
        let mut newer = old;
        newer["sentence_transformers"] = json!({"activation_fn": IDENTITY, "version": "5.0.0"});
        assert_eq!(scale(newer.clone(), 3).unwrap(), Scale::Raw);
        let newest = Activation { activation_fn: Some(SIGMOID.to_owned()) };
        assert_eq!(fields(newer).scale(3, &newest).unwrap(), Scale::Sigmoid);
        let unknown = json!({"sentence_transformers": {"activation_fn": "custom.Function"}});
        let error = scale(unknown, 1).unwrap_err();
        assert_eq!(error.found().unwrap(), "custom.Function");
        assert!(error.expected().unwrap().contains("sentence_transformers.activation_fn"));
    }
}
