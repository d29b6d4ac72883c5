//! The families, and by which names a file belongs to one.

use std::path::Path;

use super::{EncoderConfig, bert, distilbert, mpnet, roberta};
use crate::error::EngineError;
use crate::projection::Then;

/// What this crate runs, as error messages say it.
const SUPPORTED: &str = "BertModel, RobertaModel, XLMRobertaModel, CamembertModel, \
     DistilBertModel and MPNetModel, and of each the form ForSequenceClassification";
const FAMILIES: [&Family; 6] = [
    &bert::BERT,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &roberta::CAMEMBERT,
    &distilbert::DISTILBERT,
    &mpnet::MPNET,
];

/// Models whose files name things alike.
#[derive(Debug)]
pub(super) struct Family {
    /// As `config.json` names it.
    pub(super) model_type: &'static str,
    /// What its architectures begin with.
    pub(super) class: &'static str,
    /// Reads the shape of its network.
    pub(super) read: fn(&Path) -> Result<EncoderConfig, EngineError>,
    /// The layers of its head for scores, each with the function after it.
    pub(super) head: [(&'static str, Then); 2],
}

/// How the weights of a family name the tensors of a layer.
#[derive(Debug)]
pub(crate) struct Names {
    /// Checkpoints of models with a head keep the encoder below this name.
    pub(crate) prefix: &'static str,
    /// How `config.json` calls the number of layers.
    pub(crate) layers: &'static str,
    /// What stands before a layer's number.
    pub(crate) layer: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) attention: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) inner: &'static str,
    pub(crate) outer: &'static str,
    pub(crate) outer_norm: &'static str,
}

impl Family {
    /// The family of a file, and whether its model has a head.
    pub(super) fn of(
        architectures: &[String],
        model_type: &str,
    ) -> Result<(&'static Self, bool), EngineError> {
        let found = match architectures {
            [] => format!("of the type {model_type:?}"),
            [architecture] => {
                let mut of_type =
                    FAMILIES.into_iter().filter(|family| family.model_type == model_type);
                let form = of_type
                    .find_map(|family| Some((family, architecture.strip_prefix(family.class)?)));
                match form {
                    // sentence-transformers loads the network alone of either, and leaves the name of
                    // the checkpoint that it began with.
                    Some((family, "Model" | "ForMaskedLM")) => return Ok((family, false)),
                    Some((family, "ForSequenceClassification")) => return Ok((family, true)),
                    _ => format!("{architecture} of the type {model_type:?}"),
                }
            }
            several => several.join(", "),
        };
        Err(EngineError::UnsupportedArchitecture { found, supported: SUPPORTED })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(architecture: &str, model_type: &str) -> Option<(&'static str, bool)> {
        let found = Family::of(&[architecture.to_owned()], model_type);
        found.ok().map(|(family, has_head)| (family.model_type, has_head))
    }

    #[test]
    fn each_family_has_a_network_and_one_with_a_head() {
        for family in FAMILIES {
            let network = format!("{}Model", family.class);
            assert!(SUPPORTED.contains(&network), "{network}");
            assert_eq!(of(&network, family.model_type), Some((family.model_type, false)));
            let before = format!("{}ForMaskedLM", family.class);
            assert_eq!(of(&before, family.model_type), Some((family.model_type, false)));
            let with_head = format!("{}ForSequenceClassification", family.class);
            assert_eq!(of(&with_head, family.model_type), Some((family.model_type, true)));
            for other in ["ForQuestionAnswering", "ForTokenClassification", "ModelX", ""] {
                assert_eq!(of(&format!("{}{other}", family.class), family.model_type), None);
            }
        }
    }

    #[test]
    fn architecture_and_type_are_of_the_same_family() {
        for family in FAMILIES {
            for other in FAMILIES.into_iter().filter(|other| other.class != family.class) {
                let network = format!("{}Model", family.class);
                assert_eq!(of(&network, other.model_type), None, "{network}");
            }
        }
        let several = ["BertModel".to_owned(), "BertForMaskedLM".to_owned()];
        let error = Family::of(&several, "bert").unwrap_err();
        assert_eq!(error.found().unwrap(), "BertModel, BertForMaskedLM");
        assert_eq!(Family::of(&[], "bert").unwrap_err().found().unwrap(), "of the type \"bert\"");
    }
}
