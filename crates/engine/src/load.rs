//! The phases of loading after the weights are in memory.

use std::path::Path;

use crate::bert::Bert;
use crate::config::BertConfig;
use crate::cpu::Cpu;
use crate::error::EngineError;
use crate::layout::Network;
use crate::sentence::Recipe;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;
use crate::{Device, Engine, Facts, Gives};

/// What an artifact says beside its weights, read and understood.
pub struct Prepared {
    config: BertConfig,
    recipe: Recipe,
    tokenizer: Tokenizer,
}

/// Reads the configuration and the tokenizer of the artifact in `dir`. The tokenizer of a small
/// model takes longer than its weights: this does not need them, so it may run beside [`crate::read`].
pub fn prepare(dir: &Path) -> Result<Prepared, EngineError> {
    let config = BertConfig::read(dir)?;
    let recipe = Recipe::read(dir, &config)?;
    let tokenizer = Tokenizer::read(dir, config.vocab_size, recipe.lowercase, recipe.max_tokens)?;
    Ok(Prepared { config, recipe, tokenizer })
}

/// A model that is complete and checked, in the host's memory.
pub struct Built {
    config: BertConfig,
    network: Network,
    tokenizer: Tokenizer,
    facts: Facts,
}

impl Built {
    /// Bytes of its weights in memory; what it does not need of the files is gone.
    pub fn bytes(&self) -> u64 {
        let numbers = self.network.tensors.iter().map(|weight| weight.values.len() as u64);
        numbers.sum::<u64>() * size_of::<f32>() as u64
    }

    /// What the model is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Puts a model together, if its weights are of the shape that the configuration says and finite.
pub fn build(weights: Weights, prepared: Prepared) -> Result<Built, EngineError> {
    let Prepared { config, recipe, tokenizer } = prepared;
    let parameters = weights.parameters();
    let network = Network::take(weights, &config)?;
    let facts = Facts {
        architecture: config.architecture().to_owned(),
        vocabulary: config.vocab_size,
        max_tokens: recipe.max_tokens,
        parameters,
        gives: Gives::Vectors {
            dimensions: config.hidden_size,
            pooling: recipe.pooling,
            normalized: recipe.normalize,
            matryoshka: config.matryoshka(),
        },
        dtype: network.dtype,
    };
    Ok(Built { config, network, tokenizer, facts })
}

/// Moves a model to its device. A device that is missing, or that this build has no code for,
/// is [`EngineError::DeviceUnavailable`].
pub fn transfer(built: Built, device: Device) -> Result<Box<dyn Engine>, EngineError> {
    let Built { config, network, tokenizer, facts } = built;
    match device {
        Device::Cpu => Ok(Box::new(Cpu::new(&config, network, tokenizer, facts)?)),
        Device::Cuda => {
            let cuda = candle_core::Device::new_cuda(0).map_err(|error| {
                let source = error.into();
                EngineError::DeviceUnavailable { device, source }
            })?;
            Ok(Box::new(Bert::new(&config, network, tokenizer, facts, cuda)?))
        }
    }
}
