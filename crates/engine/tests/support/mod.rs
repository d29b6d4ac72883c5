//! A small BERT model with seeded random weights, written as an artifact.
//!
//! Each part can be changed before it is written, so that a test can break exactly one thing.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use lamplighter_engine::{
    Built, Device, Engine, EngineError, Kernel, Precision, Processor, build, prepare, read,
    transfer_to,
};
use serde_json::{Value, json};

pub(crate) const HIDDEN: usize = 8;
pub(crate) const INNER: usize = 16;
pub(crate) const LAYERS: usize = 2;
/// Special tokens, six words, and each letter at a word's begin and within it.
pub(crate) const VOCABULARY: usize = 4 + 6 + 2 * 26;
pub(crate) const POSITIONS: usize = 40;
pub(crate) const MAX_TOKENS: usize = 32;
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// How large a model is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) inner: usize,
    pub(crate) positions: usize,
    pub(crate) max_tokens: usize,
}

const TINY: Size =
    Size { hidden: HIDDEN, heads: 2, inner: INNER, positions: POSITIONS, max_tokens: MAX_TOKENS };

/// In the order of their ids.
const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// A model before it is written.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) config: Value,
    pub(crate) tokenizer: Value,
    /// The other JSON files by path.
    pub(crate) files: BTreeMap<&'static str, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Tensor {
    pub(crate) fn floats(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        Self {
            dtype: "F32",
            shape: shape.to_vec(),
            data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
        }
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32");
        let (numbers, _) = self.data.as_chunks();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

impl Tiny {
    pub(crate) fn new() -> Self {
        Self::of(TINY)
    }

    pub(crate) fn of(size: Size) -> Self {
        let vocabulary = vocabulary();
        let config = json!({
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": size.hidden,
            "intermediate_size": size.inner,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": size.positions,
            "num_attention_heads": size.heads,
            "num_hidden_layers": LAYERS,
            "pad_token_id": 0,
            "type_vocab_size": 2,
            "vocab_size": vocabulary.len(),
        });
        let tensors = tensors(vocabulary.len(), size);
        let module = |index: usize, path: &str, kind: &str| {
            let kind = format!("sentence_transformers.models.{kind}");
            json!({"idx": index, "name": index.to_string(), "path": path, "type": kind})
        };
        let files = [
            (
                "modules.json",
                json!([
                    module(0, "", "Transformer"),
                    module(1, "1_Pooling", "Pooling"),
                    module(2, "2_Normalize", "Normalize"),
                ]),
            ),
            (
                "1_Pooling/config.json",
                json!({
                    "word_embedding_dimension": size.hidden,
                    "pooling_mode_cls_token": false,
                    "pooling_mode_mean_tokens": true,
                    "pooling_mode_max_tokens": false,
                }),
            ),
            (
                "sentence_bert_config.json",
                json!({"max_seq_length": size.max_tokens, "do_lower_case": false}),
            ),
        ];
        Self {
            config,
            tokenizer: tokenizer(&vocabulary),
            files: files.into_iter().collect(),
            tensors,
        }
    }

    /// With a change to it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.get_mut(name).unwrap()
    }

    pub(crate) fn write(&self, dir: &Path) {
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        fs::write(dir.join("tokenizer.json"), self.tokenizer.to_string()).unwrap();
        for (path, value) in &self.files {
            fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
            fs::write(dir.join(path), value.to_string()).unwrap();
        }
        write_weights(&dir.join(WEIGHTS), &self.tensors);
    }

    pub(crate) fn build(&self) -> Result<Built, EngineError> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        build(read(dir.path(), &[WEIGHTS], NonZeroUsize::MIN, &|_| {})?, prepare(dir.path())?)
    }

    /// In 32-bit floats.
    pub(crate) fn engine(&self) -> Box<dyn Engine> {
        let kernel = Kernel::fastest_in(Precision::F32);
        transfer_to(self.build().unwrap(), Device::Cpu, Processor::with(kernel)).unwrap()
    }
}

pub(crate) fn write_weights(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, tensor) in tensors {
        let offsets = [data.len(), data.len() + tensor.data.len()];
        let entry = json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets,
        });
        header.insert(name.clone(), entry);
        data.extend(&tensor.data);
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn vocabulary() -> Vec<String> {
    let special = SPECIAL.iter().map(ToString::to_string);
    let words = "the lamp river stone light winter".split(' ').map(str::to_owned);
    let letters = ('a'..='z').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    special.chain(words).chain(letters).collect()
}

/// A `WordPiece` tokenizer that, left to itself, would cut texts to 5 tokens and pad them to 9.
fn tokenizer(vocabulary: &[String]) -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": {
            "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0,
        },
        "padding": {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": false,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

/// Sums are as large as those of the tiny model, however many numbers they are made of.
fn tensors(vocabulary: usize, size: Size) -> BTreeMap<String, Tensor> {
    let Size { hidden, inner, positions, .. } = size;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let scale = (HIDDEN as f32 / hidden as f32).sqrt();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![vocabulary, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![positions, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, hidden]),
        ("pooler.dense.weight".to_owned(), vec![hidden, hidden]),
    ];
    let mut norms = vec!["embeddings".to_owned()];
    for layer in 0..LAYERS {
        let layer = format!("encoder.layer.{layer}");
        for (part, rows, columns) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ] {
            shapes.push((format!("{layer}.{part}.weight"), vec![rows, columns]));
            shapes.push((format!("{layer}.{part}.bias"), vec![rows]));
        }
        norms.push(format!("{layer}.attention.output"));
        norms.push(format!("{layer}.output"));
    }
    for norm in norms {
        shapes.push((format!("{norm}.LayerNorm.weight"), vec![hidden]));
        shapes.push((format!("{norm}.LayerNorm.bias"), vec![hidden]));
    }
    let mut tensors: BTreeMap<String, Tensor> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| scale * random.next()).collect();
            (name, Tensor::floats(&shape, values))
        })
        .collect();
    // What older checkpoints carry along: not a weight, and not a float.
    let ids = (0_i64..).take(positions).flat_map(i64::to_le_bytes).collect();
    let ids = Tensor { dtype: "I64", shape: vec![1, positions], data: ids };
    tensors.insert("embeddings.position_ids".to_owned(), ids);
    tensors
}

/// Numbers between −1 and 1 (xorshift, <https://www.jstatsoft.org/article/view/v008i14>).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bits = u16::try_from(self.0 >> 48).unwrap();
        f32::from(bits) / 32768.0 - 1.0
    }
}

/// The largest difference between two vectors' numbers.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
