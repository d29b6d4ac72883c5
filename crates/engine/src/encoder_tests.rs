use std::collections::HashMap;

use candle_core::DType;
use serde_json::json;

use super::*;

/// Words of the vocabulary, by their vectors: each has the mean 0 and the variance 1, so that
/// normalising leaves it as it is. The last is no such vector and stands for padding.
const WORDS: [[f32; 4]; 4] =
    [[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [-1.0, 1.0, 1.0, -1.0], [9.0, 7.0, -8.0, 2.0]];
const A: u32 = 0;
const B: u32 = 1;
const C: u32 = 2;
const PAD: u32 = 3;
const IDENTITY: [f32; 16] =
    [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];

/// An encoder of hidden size 4 with 3 positions. All its weights are zero but the words, the
/// gains of the norms, and what a test sets: each half of a layer then adds nothing.
struct Tiny {
    layers: usize,
    heads: usize,
    inner: usize,
    padding: u32,
    set: HashMap<&'static str, Vec<f32>>,
}

impl Tiny {
    fn new(layers: usize) -> Self {
        let words = ("embeddings.word_embeddings.weight", WORDS.concat());
        Self { layers, heads: 1, inner: 2, padding: PAD, set: HashMap::from([words]) }
    }

    fn set(mut self, name: &'static str, values: &[f32]) -> Self {
        self.set.insert(name, values.to_vec());
        self
    }

    fn encoder(&self, activation: Activation) -> Encoder {
        let config = json!({
            "vocab_size": WORDS.len(), "hidden_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": self.heads, "intermediate_size": self.inner,
            "hidden_act": "gelu", "max_position_embeddings": 3, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
        });
        let Self { layers, padding, .. } = *self;
        let config = EncoderConfig { layers, padding, ..crate::config::of_bert(&config) };
        let mut missing = self.set.clone();
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let zero = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let values =
                missing.remove(name.as_str()).unwrap_or_else(|| vec![zero; shape.iter().product()]);
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        let tensors: HashMap<_, _> = crate::layout::needed(&config).map(tensor).collect();
        assert!(missing.is_empty(), "no such tensors: {missing:?}");
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Encoder::load(&tensors, &config, activation).unwrap()
    }

    /// Of each text the vectors of its own tokens.
    fn run(&self, texts: &[&[u32]]) -> Vec<Vec<[f32; 4]>> {
        let batch: Vec<Tokens> = texts.iter().map(|ids| Tokens::of(ids.to_vec())).collect();
        let outputs = self.encoder(Activation::Relu).forward(&batch).unwrap();
        let row = |row: &Vec<f32>| <[f32; 4]>::try_from(row.as_slice()).unwrap();
        let rows: Vec<Vec<Vec<f32>>> = outputs.to_vec3().unwrap();
        let own = rows.iter().zip(texts).map(|(rows, text)| &rows[..text.len()]);
        own.map(|rows| rows.iter().map(row).collect()).collect()
    }
}

/// Attention that looks at all tokens alike and takes them as they are.
fn averaging() -> Tiny {
    Tiny::new(1)
        .set("encoder.layer.0.attention.self.value.weight", &IDENTITY)
        .set("encoder.layer.0.attention.output.dense.weight", &IDENTITY)
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32]) {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
    let same = found.len() == expected.len() && found.iter().zip(expected).all(near);
    assert!(same, "{found:?} instead of {expected:?}");
}

fn times(vector: [f32; 4], factor: f32) -> [f32; 4] {
    vector.map(|value| value * factor)
}

#[test]
fn a_token_begins_as_the_norm_of_its_word_its_place_and_the_first_type() {
    let tiny = Tiny::new(0)
        .set(
            "embeddings.position_embeddings.weight",
            &[[1.0, 0.0, 0.0, 0.0], [-3.0, 1.0, 1.0, 4.0], [99.0; 4]].concat(),
        )
        .set(
            "embeddings.token_type_embeddings.weight",
            &[[1.0, -1.0, 0.0, -1.0], [0.0, 9.0, 99.0, 5.0]].concat(),
        )
        .set("embeddings.LayerNorm.weight", &[1.0, 2.0, 3.0, 4.0])
        .set("embeddings.LayerNorm.bias", &[0.0, 0.0, 0.0, 1.0]);
    // B at 0: [1 1 -1 -1] + [1 -1 0 -1] + [1 0 0 0] = [3 0 -1 -2], variance 14 / 4.
    // A at 1: [1 -1 1 -1] + [1 -1 0 -1] + [-3 1 1 4] = [-1 -1 2 2], mean 1/2, variance 9 / 4.
    let root = 3.5_f32.sqrt();
    let expected = [[3.0 / root, 0.0, -3.0 / root, 1.0 - 8.0 / root], [-1.0, -2.0, 3.0, 5.0]];
    assert_near(tiny.run(&[&[B, A]])[0].concat().as_slice(), &expected.concat());
}

#[test]
fn halves_that_add_nothing_leave_normalised_tokens_as_they_are() {
    let found = &Tiny::new(2).run(&[&[C, A]])[0];
    assert_near(&found.concat(), &[WORDS[2], WORDS[0]].concat());
}

#[test]
fn a_token_looks_at_the_tokens_of_its_own_text_and_not_at_padding() {
    let texts = averaging().run(&[&[A, B], &[A, B, C], &[C]]);
    // The mean of A and B is [1 0 0 -1]. With A that is [2 -1 1 -2], with B [2 1 -1 -2]; the
    // variance is 10 / 4.
    let root = 2.5_f32.sqrt();
    assert_near(&texts[0][0], &times([2.0, -1.0, 1.0, -2.0], 1.0 / root));
    assert_near(&texts[0][1], &times([2.0, 1.0, -1.0, -2.0], 1.0 / root));
    // The mean of all three is [1 1 1 -3] / 3. With A that is [4 -2 4 -6] / 3, of variance 2.
    assert_near(&texts[1][0], &times([4.0, -2.0, 4.0, -6.0], 1.0 / (3.0 * 2.0_f32.sqrt())));
    assert_near(&texts[2][0], &WORDS[2]);
}

#[test]
fn what_stands_in_the_padding_does_not_matter() {
    let with = |padding| {
        let tiny = Tiny { padding, ..averaging() };
        tiny.run(&[&[A, B], &[A, B, C]])[0].clone()
    };
    assert_eq!(with(PAD), with(C));
    assert_eq!(with(PAD), averaging().run(&[&[A, B]])[0]);
}

#[test]
fn scores_are_divided_by_the_root_of_a_heads_size_and_heads_stay_apart() {
    // Of the first head alone, the queries are not zero. Its halves of A and B are [1 -1] and
    // [1 1], so that A scores 2 with A and 0 with B, times the factor and by √2: A gets 3/4 of
    // its attention, B 1/4. The second head looks at both alike, its halves are [1 -1] and
    // [-1 -1].
    let factor = 3.0_f32.ln() / 2.0_f32.sqrt();
    let mut query = [0.0; 16];
    (query[0], query[5]) = (factor, factor);
    let mut tiny = averaging()
        .set("encoder.layer.0.attention.self.query.weight", &query)
        .set("encoder.layer.0.attention.self.key.weight", &IDENTITY);
    tiny.heads = 2;
    let found = &tiny.run(&[&[A, B]])[0][0];
    // 3/4 [1 -1] + 1/4 [1 1] and 1/2 [1 -1] + 1/2 [-1 -1] are [1 -1/2 0 -1]. With A that is
    // [2 -3/2 1 -2], of mean -1/8 and variance 179/64.
    let expected = [2.125, -1.375, 1.125, -1.875];
    assert_near(found, &times(expected, 1.0 / (179.0_f32 / 64.0).sqrt()));
}

#[test]
fn queries_look_for_keys_and_not_the_other_way_round() {
    // Every query is [1 0 0 0]; a key is its token's second number times ln 3, on which A and B
    // differ by 2 ln 3, divided by √4: B gets 3/4 of everybody's attention.
    let mut key = [0.0; 16];
    key[1] = 3.0_f32.ln();
    let tiny = averaging()
        .set("encoder.layer.0.attention.self.query.bias", &[1.0, 0.0, 0.0, 0.0])
        .set("encoder.layer.0.attention.self.key.weight", &key);
    // 1/4 A + 3/4 B is [1 1/2 -1/2 -1]. With A that is [2 -1/2 1/2 -2], of variance 8.5 / 4.
    let expected = times([2.0, -0.5, 0.5, -2.0], 1.0 / 2.125_f32.sqrt());
    assert_near(&tiny.run(&[&[A, B]])[0][0], &expected);
}

#[test]
fn the_feed_forward_half_is_added_to_what_it_reads() {
    let tiny = Tiny::new(1)
        .set(
            "encoder.layer.0.intermediate.dense.weight",
            &[IDENTITY[..4].to_vec(), vec![0.0, 1.0, 0.0, 0.0]].concat(),
        )
        .set("encoder.layer.0.intermediate.dense.bias", &[0.5, 0.5])
        .set("encoder.layer.0.output.dense.weight", &[2.0, 9.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0])
        .set("encoder.layer.0.output.dense.bias", &[0.0, 0.0, 0.0, 1.0]);
    // Of A, [1 -1] and the bias are [1.5 -0.5], rectified [1.5 0], and [3 0 0 1] at the end.
    // With A that is [4 -1 1 0], of mean 1 and variance 14 / 4.
    let expected = times([3.0, -2.0, 0.0, -1.0], 1.0 / 3.5_f32.sqrt());
    assert_near(&tiny.run(&[&[A]])[0][0], &expected);
}

#[test]
fn activations_are_exact() {
    // From the definitions, with the error function of Python's math module.
    let points = [-3.0_f32, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0];
    let values = Tensor::new(&points, &Device::Cpu).unwrap();
    for (activation, expected) in [
        (
            Activation::Gelu,
            [-0.004_049_7, -0.158_655_3, -0.154_268_8, 0.0, 0.345_731_2, 0.841_344_7, 1.954_499_7],
        ),
        (
            Activation::GeluTanh,
            [-0.003_637_4, -0.158_808, -0.154_286, 0.0, 0.345_714, 0.841_192, 1.954_597_7],
        ),
        (Activation::Relu, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 2.0]),
    ] {
        let found: Vec<f32> = activate(activation, &values).unwrap().to_vec1().unwrap();
        assert_near(&found, &expected);
    }
}

#[test]
fn more_tokens_than_positions_and_unknown_tokens_are_errors() {
    let encoder = Tiny::new(1).encoder(Activation::Gelu);
    for ids in [vec![A, B, C, A], vec![A, 4]] {
        assert!(encoder.forward(&[Tokens::of(ids.clone())]).is_err(), "{ids:?}");
    }
}
