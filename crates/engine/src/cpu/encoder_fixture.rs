//! Encoders with weights by lot, for tests.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde_json::json;

use super::encoder::Encoder;
use super::kernel::Kernel;
use crate::config::EncoderConfig;
use crate::layout::{Network, Weight, needed};
use crate::{Dtype, Tokens};

pub(crate) const VOCABULARY: u32 = 50;
pub(crate) const POSITIONS: usize = 110;
/// Hidden size, heads and intermediate size of an encoder that computes a text of [`POSITIONS`] tokens in
/// several parts: its heads some at a time, its feed-forward layers some rows at a time.
pub(crate) const LARGE: (usize, usize, usize) = (320, 10, 4096);

/// An encoder with weights by lot, and the same one as candle runs it.
pub(crate) fn both(
    hidden: usize,
    heads: usize,
    inner: usize,
    act: &str,
    kernel: Kernel,
) -> (Encoder, crate::encoder::Encoder) {
    of(&config(hidden, heads, inner, act), kernel)
}

/// One that adds to scores for how far apart tokens are.
pub(crate) fn relative(kernel: Kernel) -> Encoder {
    of(&EncoderConfig { buckets: Some(32), ..config(64, 4, 96, "gelu") }, kernel).0
}

fn config(hidden: usize, heads: usize, inner: usize, act: &str) -> EncoderConfig {
    crate::config::of_bert(&json!({
        "vocab_size": VOCABULARY, "hidden_size": hidden, "num_hidden_layers": 2,
        "num_attention_heads": heads, "intermediate_size": inner, "hidden_act": act,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    }))
}

fn of(config: &EncoderConfig, kernel: Kernel) -> (Encoder, crate::encoder::Encoder) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f32::from(u16::try_from(state >> 48).unwrap()) / 65_536.0 - 0.5
    };
    let tensors: Vec<Weight> = needed(config)
        .map(|(name, shape)| {
            let values = (0..shape.iter().product::<usize>()).map(|_| number()).collect();
            Weight { name, shape, values }
        })
        .collect();
    let of_candle: HashMap<String, Tensor> = tensors
        .iter()
        .map(|weight| {
            let (values, shape) = (weight.values.clone(), weight.shape.clone());
            (weight.name.clone(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect();
    let of_candle = VarBuilder::from_tensors(of_candle, DType::F32, &Device::Cpu);
    let candle = crate::encoder::Encoder::load(&of_candle, config, config.activation).unwrap();
    let own = Encoder::load(Network { tensors, dtype: Dtype::F32 }, config, kernel, None).unwrap();
    (own, candle)
}

pub(crate) fn text(length: usize, seed: u32) -> Tokens {
    let ids = (0..u32::try_from(length).unwrap()).map(|at| (at * 7 + seed * 13) % VOCABULARY);
    Tokens::of(ids.collect())
}

/// The encoder alone.
pub(crate) fn encoder(hidden: usize, heads: usize, inner: usize, kernel: Kernel) -> Encoder {
    both(hidden, heads, inner, "gelu", kernel).0
}
