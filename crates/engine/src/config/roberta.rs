//! RoBERTa, XLM-RoBERTa and CamemBERT: BERT's network and names, with positions that begin after
//! the padding's id
//! (<https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/roberta/modeling_roberta.py>).

use std::path::Path;

use super::EncoderConfig;
use super::bert::{Fields, LAYER};
use super::family::{Family, Names};
use crate::error::EngineError;
use crate::projection::Then;

/// Where the file does not say it
/// (<https://huggingface.co/docs/transformers/model_doc/roberta#transformers.RobertaConfig>).
const PADDING: u32 = 1;

pub(super) const ROBERTA: Family = Family {
    model_type: "roberta",
    class: "Roberta",
    read,
    head: [("classifier.dense", Then::Tanh), ("classifier.out_proj", Then::Nothing)],
};

pub(super) const XLM_ROBERTA: Family =
    Family { model_type: "xlm-roberta", class: "XLMRoberta", ..ROBERTA };

pub(super) const CAMEMBERT: Family =
    Family { model_type: "camembert", class: "Camembert", ..ROBERTA };

const NAMES: Names = Names { prefix: "roberta.", ..LAYER };

fn read(dir: &Path) -> Result<EncoderConfig, EngineError> {
    let mut fields = Fields::read(dir)?;
    let padding = *fields.pad_token_id.get_or_insert(PADDING);
    fields.encoder(&NAMES, Some(padding))
}
