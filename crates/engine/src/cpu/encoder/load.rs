//! Putting weights into the order and the panels in which they are read.

use std::collections::HashMap;

use super::{Encoder, Layer, Linear, Norm};
use crate::config::EncoderConfig;
use crate::cpu::kernel::Kernel;
use crate::cpu::relative::Relative;
use crate::error::EngineError;
use crate::layout::{BUCKETS, Network, POSITIONS, TOKEN_TYPES, VOCABULARY, Weight};

/// Tensors by name, each to be taken once.
struct Tensors(HashMap<String, Vec<f32>>);

impl Tensors {
    fn take(&mut self, name: &str) -> Result<Vec<f32>, EngineError> {
        let missing = || EngineError::TensorMissing { tensor: name.to_owned() };
        self.0.remove(name).ok_or_else(missing)
    }

    fn norm(&mut self, name: &str) -> Result<Norm, EngineError> {
        Ok(Norm {
            gain: self.take(&format!("{name}.weight"))?,
            bias: self.take(&format!("{name}.bias"))?,
        })
    }

    /// Weight and bias.
    fn pair(&mut self, name: &str) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
        Ok((self.take(&format!("{name}.weight"))?, self.take(&format!("{name}.bias"))?))
    }
}

impl Encoder {
    /// Takes the tensors over; of each at most one is there twice at a time. It computes with the
    /// kernel, and until [`Encoder::keep`] it can with the one beside it, too.
    pub(crate) fn load(
        network: Network,
        config: &EncoderConfig,
        kernel: Kernel,
        beside: Option<Kernel>,
    ) -> Result<Self, EngineError> {
        let tensors = network.tensors.into_iter();
        let mut tensors =
            Tensors(tensors.map(|Weight { name, values, .. }| (name, values)).collect());
        let EncoderConfig { hidden, heads, positions, .. } = *config;
        let types = match config.token_types {
            Some(_) => tensors.take(TOKEN_TYPES)?,
            None => vec![0.0; hidden],
        };
        let relative = match config.buckets {
            Some(_) => Some(Relative::new(&tensors.take(BUCKETS)?, heads, positions.longest())),
            None => None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "float32 is what it is computed in")]
        let epsilon = config.epsilon as f32;
        Ok(Self {
            kernel,
            hidden,
            heads,
            activation: config.activation,
            epsilon,
            words: tensors.take(VOCABULARY)?,
            positions: tensors.take(POSITIONS)?,
            after: positions.after,
            types,
            relative,
            norm: tensors.norm("embeddings.LayerNorm")?,
            layers: (0..config.layers)
                .map(|index| Layer::load(&mut tensors, index, config, kernel, beside))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Layer {
    fn load(
        tensors: &mut Tensors,
        index: usize,
        config: &EncoderConfig,
        kernel: Kernel,
        beside: Option<Kernel>,
    ) -> Result<Self, EngineError> {
        let EncoderConfig { hidden, intermediate: inner, names, .. } = *config;
        let name = |part: &str| format!("{}{index}.{part}", names.layer);
        #[expect(clippy::cast_precision_loss, reason = "a head has fewer than 2^24 numbers")]
        let scale = 1.0 / ((hidden / config.heads) as f32).sqrt();
        let mut queries = tensors.pair(&name(names.query))?;
        for number in queries.0.iter_mut().chain(&mut queries.1) {
            *number *= scale;
        }
        let mut attended = tensors.pair(&name(names.key))?;
        let values = tensors.pair(&name(names.value))?;
        attended.0.extend(values.0);
        attended.1.extend(values.1);
        let linear = |pair: (Vec<f32>, Vec<f32>), depth| {
            let (weight, bias) = pair;
            Linear::pack(&weight, &bias, depth, kernel, beside)
        };
        Ok(Self {
            queries: linear(queries, hidden),
            attended: linear(attended, hidden),
            attention: linear(tensors.pair(&name(names.attention))?, hidden),
            attention_norm: tensors.norm(&name(names.attention_norm))?,
            inner: linear(tensors.pair(&name(names.inner))?, hidden),
            outer: linear(tensors.pair(&name(names.outer))?, inner),
            outer_norm: tensors.norm(&name(names.outer_norm))?,
        })
    }
}
