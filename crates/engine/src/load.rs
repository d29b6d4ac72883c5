//! The phases of loading after the weights are in memory.

use std::path::Path;

use crate::candle::Candle;
use crate::config::Config;
use crate::cpu::Cpu;
use crate::cpu::kernel::Kernel;
use crate::cpu::team::Cores;
use crate::cuda;
use crate::error::EngineError;
use crate::finish::Finish;
use crate::layout::{BUCKETS, Network, POSITIONS, TOKEN_TYPES, VOCABULARY};
use crate::recipe::Recipe;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;
use crate::{Device, Engine, Facts, Precision};

/// What an artifact says beside its weights, read and understood.
pub struct Prepared {
    config: Config,
    recipe: Recipe,
    tokenizer: Tokenizer,
}

/// Reads the configuration and the tokenizer of the artifact in `dir`. The tokenizer of a small
/// model takes longer than its weights: this does not need them, so it may run beside [`crate::read`].
pub fn prepare(dir: &Path) -> Result<Prepared, EngineError> {
    let config = Config::read(dir)?;
    let recipe = Recipe::read(dir, &config)?;
    let tokenizer = Tokenizer::read(dir, &config.encoder, &recipe)?;
    Ok(Prepared { config, recipe, tokenizer })
}

/// A model that is complete and checked, in the host's memory.
pub struct Built {
    config: Config,
    recipe: Recipe,
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

    /// Bytes that are there beside these while it is compared in bf16 with itself in 32-bit floats: of
    /// the matrices of its layers half as many again.
    pub fn bytes_twice(&self) -> u64 {
        let tables = [VOCABULARY, POSITIONS, TOKEN_TYPES, BUCKETS];
        let matrices = self
            .network
            .tensors
            .iter()
            .filter(|weight| weight.shape.len() > 1 && !tables.contains(&weight.name.as_str()));
        let numbers: u64 = matrices.map(|weight| weight.values.len() as u64).sum();
        numbers * size_of::<f32>() as u64 / 2
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
    let network = Network::take(weights, &config.encoder, &recipe.projections)?;
    let facts = Facts {
        architecture: config.architecture.clone(),
        vocabulary: config.encoder.vocabulary,
        max_tokens: recipe.max_tokens,
        width: config.encoder.hidden,
        parameters,
        gives: recipe.gives.clone(),
        dtype: network.dtype,
    };
    Ok(Built { config, recipe, network, tokenizer, facts })
}

/// Moves a model to its device. A device that is missing, or that this build has no code for,
/// is [`EngineError::DeviceUnavailable`].
pub fn transfer(built: Built, device: Device) -> Result<Box<dyn Engine>, EngineError> {
    transfer_to(built, device, Processor { kernel: None, cores: Cores::one() })
}

/// How models use the processor.
#[derive(Clone, Debug)]
pub struct Processor {
    /// What they compute with. None: with the fastest.
    pub kernel: Option<Kernel>,
    /// The cores that they share.
    pub cores: Cores,
}

impl Processor {
    /// Whether weights are there twice for a while, as 32-bit floats and in lower precision:
    /// [`Built::bytes_twice`].
    pub fn compares(&self) -> bool {
        self.kernel.unwrap_or_else(Kernel::fastest).precision() != Precision::F32
    }

    /// One core, which computes with this kernel.
    pub fn with(kernel: Kernel) -> Self {
        Self { kernel: Some(kernel), cores: Cores::one() }
    }
}

/// As [`transfer`]; on the processor, as `processor` says.
pub fn transfer_to(
    built: Built,
    device: Device,
    processor: Processor,
) -> Result<Box<dyn Engine>, EngineError> {
    transfer_judged(built, device, processor, &|_| true)
}

/// As [`transfer_to`]. A model that would be computed in lower precision than 32-bit floats is asked
/// questions first, while it is there in both: where `is_right` says that its answers are not, it
/// falls back ([`crate::Compared::is_wrong`]).
pub fn transfer_judged(
    built: Built,
    device: Device,
    processor: Processor,
    is_right: &dyn Fn(&dyn Engine) -> bool,
) -> Result<Box<dyn Engine>, EngineError> {
    match device {
        Device::Cpu => {
            let Built { config, recipe, mut network, tokenizer, facts } = built;
            let finish = Finish::take(&mut network, &recipe)?;
            let Processor { kernel, cores } = processor;
            let kernel = kernel.unwrap_or_else(Kernel::fastest);
            let model = Cpu::new(&config.encoder, network, tokenizer, finish, facts, kernel)?;
            Ok(Box::new(model.settled(is_right)?.on(cores)))
        }
        Device::Cuda => by_candle(built, cuda::first_gpu()?),
    }
}

/// A model on the processor, with the code that runs it on a GPU: what tests compare with.
#[doc(hidden)]
pub fn reference(built: Built) -> Result<Box<dyn Engine>, EngineError> {
    by_candle(built, candle_core::Device::Cpu)
}

fn by_candle(built: Built, device: candle_core::Device) -> Result<Box<dyn Engine>, EngineError> {
    let Built { config, recipe, mut network, tokenizer, facts } = built;
    let finish = Finish::take(&mut network, &recipe)?;
    Ok(Box::new(Candle::new(&config.encoder, network, tokenizer, finish, facts, device)?))
}
