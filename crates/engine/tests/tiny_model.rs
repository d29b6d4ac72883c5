//! A small model, loaded and asked.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lamplighter_engine::golden::{Golden, Nearness};
use lamplighter_engine::{
    Device, Dtype, Engine, EngineError, Facts, Gives, Kernel, Pooling, Precision, Processor, Text,
    Tokens, TooLong, answer_texts, build, embed_texts, prepare, read, transfer, transfer_to,
    validation, warmup,
};
use serde_json::json;
use support::{
    HIDDEN, INNER, LAYERS, MAX_TOKENS, POSITIONS, Tensor, Tiny, VOCABULARY, WEIGHTS, distance,
    write_weights,
};

const TEXTS: [&str; 5] = [
    "the lamp",
    "river stone light winter the the lamp abc",
    "x",
    "",
    "winter light on the river, and a stone",
];

fn vectors(tiny: &Tiny) -> Vec<Vec<f32>> {
    embed_texts(tiny.engine().as_ref(), &TEXTS).unwrap()
}

/// Texts of one batch, all at once.
fn embed(engine: &dyn Engine, texts: &[&str]) -> Vec<Vec<f32>> {
    engine.embed(&engine.tokenize(texts).unwrap()).unwrap()
}

#[test]
fn a_model_says_what_it_is() {
    let built = Tiny::new().build().unwrap();
    let (hidden, inner) = (HIDDEN as u64, INNER as u64);
    let rows = (VOCABULARY + POSITIONS + 2) as u64;
    let embeddings = rows * hidden + 2 * hidden;
    let attention = 4 * (hidden * hidden + hidden) + 2 * hidden;
    let feed_forward = 2 * hidden * inner + inner + hidden + 2 * hidden;
    let layer = attention + feed_forward;
    // The pooler's tensor is a weight that is not used, the table of positions is none.
    let pooler = hidden * hidden;
    let expected = Facts {
        architecture: "BertModel".to_owned(),
        vocabulary: VOCABULARY,
        max_tokens: MAX_TOKENS,
        width: HIDDEN,
        parameters: embeddings + LAYERS as u64 * layer + pooler,
        gives: Gives::Vectors {
            dimensions: HIDDEN,
            pooling: Pooling::Mean,
            normalized: true,
            matryoshka: Vec::new(),
        },
        dtype: Dtype::F32,
    };
    assert_eq!(built.facts(), &expected);
    assert_eq!(transfer(built, Device::Cpu).unwrap().facts(), &expected);
}

#[test]
fn floating_point_tensors_count_as_parameters_and_integers_do_not() {
    let parameters = |dtype, size: usize| {
        let tiny = Tiny::new().with(|tiny| {
            let data = vec![0; 6 * size];
            tiny.tensors.insert("extra".to_owned(), Tensor { dtype, shape: vec![2, 3], data });
        });
        tiny.build().unwrap().facts().parameters
    };
    let without = Tiny::new().build().unwrap().facts().parameters;
    for (dtype, size) in [("F64", 8), ("F32", 4), ("BF16", 2), ("F16", 2), ("F8_E4M3", 1)] {
        assert_eq!(parameters(dtype, size), without + 6, "{dtype}");
    }
    for (dtype, size) in [("I64", 8), ("U32", 4), ("I16", 2), ("U8", 1), ("BOOL", 1)] {
        assert_eq!(parameters(dtype, size), without, "{dtype}");
    }
}

#[test]
fn a_text_has_the_same_vector_alone_and_in_any_company() {
    let engine = Tiny::new().engine();
    let long = "a ".repeat(MAX_TOKENS - 2);
    let together = embed(engine.as_ref(), &[&TEXTS[..], &[&long]].concat());
    let reversed: Vec<&str> = TEXTS.iter().rev().copied().collect();
    let reversed = embed(engine.as_ref(), &reversed);
    for (index, text) in TEXTS.iter().enumerate() {
        let alone = &embed(engine.as_ref(), &[text])[0];
        assert!(distance(alone, &together[index]) < 1e-6, "{text:?} with a long text");
        assert!(distance(alone, &reversed[TEXTS.len() - 1 - index]) < 1e-6, "{text:?}");
        for other in &together[index + 1..] {
            assert!(distance(&together[index], other) > 1e-3, "{text:?} is like another text");
        }
    }
}

#[test]
fn vectors_have_length_one_only_if_the_artifact_says_so() {
    let lengths = |tiny: &Tiny| -> Vec<f32> {
        let length = |vector: &Vec<f32>| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vectors(tiny).iter().map(length).collect()
    };
    for length in lengths(&Tiny::new()) {
        assert!((length - 1.0).abs() < 1e-6, "{length}");
    }
    let plain = Tiny::new().with(|tiny| {
        tiny.files.get_mut("modules.json").unwrap().as_array_mut().unwrap().pop();
    });
    let gives = plain.build().unwrap().facts().gives.clone();
    assert!(matches!(gives, Gives::Vectors { normalized: false, .. }), "{gives:?}");
    for length in lengths(&plain) {
        assert!((length - 1.0).abs() > 1e-3, "{length}");
    }
}

#[test]
fn both_generations_of_configuration_mean_the_same() {
    let pooled = |pooling: serde_json::Value| {
        Tiny::new().with(|tiny| {
            tiny.files.insert("1_Pooling/config.json", pooling);
        })
    };
    let mut answers = Vec::new();
    for (old, new, pooling) in [
        ("cls_token", "cls", Pooling::Cls),
        ("mean_tokens", "mean", Pooling::Mean),
        ("max_tokens", "max", Pooling::Max),
        ("lasttoken", "lasttoken", Pooling::LastToken),
    ] {
        let old = format!("pooling_mode_{old}");
        let old = pooled(json!({"word_embedding_dimension": HIDDEN, old: true}));
        let new = pooled(json!({"embedding_dimension": HIDDEN, "pooling_mode": new}));
        let new = new.with(|tiny| {
            let part = |module: &str| format!("sentence_transformers.base.modules.{module}");
            let modules = json!([
                {"idx": 0, "name": "0", "path": "", "type": part("transformer.Transformer")},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": part("pooling.Pooling")},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": part("normalize.Normalize")},
            ]);
            let normalize = json!({"module_input_name": "sentence_embedding"});
            tiny.files.insert("modules.json", modules);
            tiny.files.insert("2_Normalize/config.json", normalize);
            tiny.files.remove("sentence_bert_config.json");
            let tokenizer = json!({"model_max_length": MAX_TOKENS});
            tiny.files.insert("tokenizer_config.json", tokenizer);
        });
        let gives = old.build().unwrap().facts().gives.clone();
        let Gives::Vectors { pooling: found, .. } = gives else { panic!("{gives:?}") };
        assert_eq!(found, pooling);
        assert_eq!(old.build().unwrap().facts(), new.build().unwrap().facts());
        assert_eq!(vectors(&old), vectors(&new));
        answers.push(vectors(&old));
    }
    for (index, answer) in answers.iter().enumerate() {
        for other in &answers[index + 1..] {
            assert!(distance(&answer[1], &other[1]) > 1e-3, "two poolings answer the same");
        }
    }
}

#[test]
fn lengths_that_vectors_were_trained_for_are_read_rising_and_without_repetition() {
    let lengths = |declared| {
        let tiny = Tiny::new().with(|tiny| tiny.config["matryoshka_dimensions"] = declared);
        let gives = tiny.build().unwrap().facts().gives.clone();
        let Gives::Vectors { matryoshka, .. } = gives else { panic!("{gives:?}") };
        matryoshka
    };
    assert_eq!(lengths(json!([8, 2, 4, 2])), [2, 4, 8]);
    assert!(lengths(json!(null)).is_empty());
    let broken =
        Tiny::new().with(|tiny| tiny.config["matryoshka_dimensions"] = json!([HIDDEN + 1]));
    let Err(error) = broken.build() else { panic!("no vector is that long") };
    assert_eq!(error.file().as_deref(), Some("config.json"), "{error}");
}

#[test]
fn without_a_configured_limit_the_positions_are_the_longest_text() {
    for limit in [json!({}), json!({"model_max_length": 1e30}), json!({"model_max_length": null})] {
        let tiny = Tiny::new().with(|tiny| {
            tiny.files.insert("sentence_bert_config.json", json!({}));
            tiny.files.insert("tokenizer_config.json", limit);
        });
        assert_eq!(tiny.build().unwrap().facts().max_tokens, POSITIONS);
    }
}

#[test]
fn the_tokenizers_own_truncation_and_padding_are_off() {
    let engine = Tiny::new().engine();
    let tokens = engine.tokenize(&["the lamp river stone light winter", "x"]).unwrap();
    assert_eq!(tokens[0].ids, [2, 4, 5, 6, 7, 8, 9, 3]);
    assert_eq!(tokens[1].ids.len(), 3);
}

#[test]
fn a_text_can_be_looked_at_as_its_tokens_and_be_made_of_them_again() {
    let engine = Tiny::new().engine();
    let text = "the  lamp river ".repeat(MAX_TOKENS);
    let pieces = engine.pieces(&text, true).unwrap();
    assert_eq!(pieces.len(), 3 * MAX_TOKENS + 2, "it may be longer than the model reads");
    let ids: Vec<u32> = pieces.iter().map(|piece| piece.id).collect();
    assert_eq!(ids[..4], engine.tokenize(&["the lamp river"]).unwrap()[0].ids[..4]);
    for piece in &pieces[1..pieces.len() - 1] {
        assert_eq!(piece.text, text[piece.place.clone().unwrap()]);
    }
    assert_eq!(pieces[2].place, Some(5..9));
    let around = [&pieces[0], &pieces[pieces.len() - 1]];
    assert_eq!(around.map(|piece| piece.text.as_str()), ["[CLS]", "[SEP]"]);
    assert_eq!(around.map(|piece| piece.place.clone()), [None, None]);
    assert_eq!(engine.pieces(&text, false).unwrap(), pieces[1..pieces.len() - 1]);

    let ids = [&ids[..4], &ids[ids.len() - 1..]].concat();
    assert_eq!(engine.join(&ids, false).unwrap(), "the lamp river");
    assert_eq!(engine.join(&ids, true).unwrap(), "[CLS] the lamp river [SEP]");
}

#[test]
fn too_long_a_text_is_refused_by_its_index_or_cut_on_request() {
    let engine = Tiny::new().engine();
    let longest = "the ".repeat(MAX_TOKENS - 2);
    let too_long = format!("{longest} lamp");
    assert_eq!(engine.tokenize(&[&longest]).unwrap()[0].ids.len(), MAX_TOKENS);
    let error = engine.tokenize(&["x", &longest, &too_long]).unwrap_err();
    let EngineError::TooLong { index: 2, tokens, limit: MAX_TOKENS } = error else {
        panic!("{error:?}");
    };
    assert_eq!(tokens, MAX_TOKENS + 1);

    let texts = ["x", &longest, &too_long].map(Text::One);
    let whole = engine.tokenize(&["x", &longest]).unwrap();
    let end = engine.split(&texts, TooLong::CutEnd).unwrap();
    assert_eq!(end[..2], whole);
    assert_eq!(end[2], Tokens { truncated: true, ..whole[1].clone() });
    let beginning = engine.split(&texts, TooLong::CutStart).unwrap();
    let lamp = engine.tokenize(&["lamp"]).unwrap()[0].ids[1];
    assert_eq!(beginning[2].ids[MAX_TOKENS - 2], lamp, "its beginning is gone, its end is there");
    assert_eq!(beginning[2].ids.len(), MAX_TOKENS);
}

/// Of a text that is cut, only what can be in its tokens is looked at, and a pair of long texts takes
/// no more than a pair of short ones.
#[test]
fn very_long_texts_are_cut_like_long_ones() {
    let engine = Tiny::new().engine();
    let (long, longest) = ("the lamp ".repeat(100), "the lamp ".repeat(200_000));
    for too_long in [TooLong::CutEnd, TooLong::CutStart] {
        let split = |text| engine.split(&[text], too_long).unwrap().remove(0);
        assert_eq!(split(Text::One(&longest)), split(Text::One(&long)));
        assert_eq!(split(Text::Pair(&longest, &longest)), split(Text::Pair(&long, &long)));
        let umlauts = "\u{e4}".repeat(100_001);
        assert!(split(Text::One(&umlauts)).truncated, "a letter of two bytes is not split");
    }
}

#[test]
fn lower_case_is_a_setting_of_the_artifact() {
    let lower = Tiny::new().with(|tiny| {
        let config = json!({"max_seq_length": MAX_TOKENS, "do_lower_case": true});
        tiny.files.insert("sentence_bert_config.json", config);
    });
    let ids = |tiny: &Tiny, text: &str| tiny.engine().tokenize(&[text]).unwrap()[0].ids.clone();
    assert_eq!(ids(&lower, "The LAMP"), ids(&lower, "the lamp"));
    assert_ne!(ids(&Tiny::new(), "The LAMP"), ids(&Tiny::new(), "the lamp"));
}

#[test]
fn names_of_other_checkpoints_lead_to_the_same_vectors() {
    let expected = vectors(&Tiny::new());
    let prefixed = Tiny::new().with(|tiny| {
        let tensors = std::mem::take(&mut tiny.tensors).into_iter();
        let old = |name: &str| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"))
        };
        tiny.tensors = tensors.map(|(name, tensor)| (old(&name), tensor)).collect();
    });
    assert_eq!(vectors(&prefixed), expected);
}

#[test]
fn weights_in_several_files_lead_to_the_same_vectors() {
    let tiny = Tiny::new();
    let dir = tempfile::tempdir().unwrap();
    tiny.write(dir.path());
    let mut parts: [BTreeMap<String, Tensor>; 2] = Default::default();
    for (index, (name, tensor)) in tiny.tensors.iter().enumerate() {
        parts[index % 2].insert(name.clone(), tensor.clone());
    }
    for (name, part) in ["a.safetensors", "b.safetensors"].iter().zip(&parts) {
        write_weights(&dir.path().join(name), part);
    }
    let bytes = AtomicU64::new(0);
    let progress = |more| {
        bytes.fetch_add(more, Ordering::Relaxed);
    };
    let files = ["a.safetensors", "b.safetensors"];
    let weights = read(dir.path(), &files, NonZeroUsize::MIN, &progress).unwrap();
    let floats = tiny.tensors.values().filter(|tensor| tensor.dtype == "F32");
    let data: usize = floats.map(|tensor| tensor.data.len()).sum();
    let bytes = bytes.into_inner();
    assert_eq!(bytes, data as u64);
    assert!(weights.bytes() > bytes, "headers are read, too");
    let built = build(weights, prepare(dir.path()).unwrap()).unwrap();
    let floats = Kernel::fastest_in(Precision::F32);
    let engine = transfer_to(built, Device::Cpu, Processor::with(floats)).unwrap();
    assert_eq!(embed_texts(engine.as_ref(), &TEXTS).unwrap(), vectors(&tiny));
}

#[test]
fn bfloat16_weights_run_as_the_floats_that_they_are() {
    let rounded = |value: f32| f32::from_bits(value.to_bits() & 0xffff_0000);
    let floats = |tiny: &mut Tiny, as_bfloat16: bool| {
        for tensor in tiny.tensors.values_mut().filter(|tensor| tensor.dtype == "F32") {
            let values = tensor.values().into_iter().map(rounded);
            if as_bfloat16 {
                tensor.data =
                    values.flat_map(|value| value.to_le_bytes().split_off_high()).collect();
                tensor.dtype = "BF16";
            } else {
                *tensor = Tensor::floats(&tensor.shape.clone(), values);
            }
        }
    };
    let wide = Tiny::new().with(|tiny| floats(tiny, false));
    let narrow = Tiny::new().with(|tiny| floats(tiny, true));
    assert_eq!(narrow.build().unwrap().facts().dtype, Dtype::BF16);
    assert_eq!(vectors(&narrow), vectors(&wide));
}

/// The upper half of a float, which is a bfloat16.
trait SplitOffHigh {
    fn split_off_high(self) -> [u8; 2];
}

impl SplitOffHigh for [u8; 4] {
    fn split_off_high(self) -> [u8; 2] {
        [self[2], self[3]]
    }
}

#[test]
fn the_activation_decides_the_answer() {
    let with = |activation: &str| {
        vectors(&Tiny::new().with(|tiny| tiny.config["hidden_act"] = json!(activation)))
    };
    let (exact, approximate, relu) = (with("gelu"), with("gelu_new"), with("relu"));
    let apart = distance(&exact[1], &approximate[1]);
    assert!(apart > 1e-7 && apart < 1e-2, "{apart}");
    assert!(distance(&exact[1], &relu[1]) > 1e-3);
    assert_eq!(approximate, with("gelu_pytorch_tanh"));
}

#[test]
fn batches_above_the_limits_are_refused_and_empty_ones_are_empty() {
    let engine = Tiny::new().engine();
    let limits = engine.limits();
    let one = engine.tokenize(&["the lamp"]).unwrap();
    let many = vec![one[0].clone(); limits.max_batch_texts + 1];
    assert_eq!(engine.embed(&many[1..]).unwrap().len(), limits.max_batch_texts);
    let error = engine.embed(&many).unwrap_err();
    assert!(matches!(error, EngineError::BatchTooLarge { .. }), "{error:?}");
    assert!(engine.embed(&[]).unwrap().is_empty());
    let error = engine.embed(&[one[0].clone(), Tokens::default()]).unwrap_err();
    assert!(matches!(error, EngineError::Untokenizable { index: 1, .. }), "{error:?}");

    let texts = vec!["the lamp"; 3 * limits.max_batch_texts + 1];
    assert_eq!(embed_texts(engine.as_ref(), &texts).unwrap().len(), texts.len());
}

#[test]
fn a_token_outside_the_vocabulary_is_an_error() {
    let engine = Tiny::new().engine();
    let error = engine.embed(&[Tokens::of(vec![2, 9_999, 3])]).unwrap_err();
    assert!(matches!(error, EngineError::Run { .. }), "{error:?}");
}

#[test]
fn outputs_that_overflow_are_an_error() {
    let mut tiny = Tiny::new();
    for name in ["weight", "bias"] {
        let norm = tiny.tensor(&format!("encoder.layer.1.output.LayerNorm.{name}"));
        let values: Vec<f32> = norm.values().iter().map(|_| f32::MAX).collect();
        *norm = Tensor::floats(&[HIDDEN], values);
    }
    let engine = tiny.engine();
    let error = engine.embed(&engine.tokenize(&["the lamp"]).unwrap()).unwrap_err();
    assert!(matches!(error, EngineError::OutputNonFinite { index: 0, .. }), "{error:?}");
}

/// Queries and keys so large that their products are infinite: no token has a weight then, and an answer
/// from equal ones would be a wrong one.
#[test]
fn scores_that_overflow_are_an_error_with_every_kernel() {
    let mut tiny = Tiny::new();
    for name in ["query", "key"] {
        let weight = tiny.tensor(&format!("encoder.layer.0.attention.self.{name}.weight"));
        let values: Vec<f32> = weight.values().iter().map(|value| value * 1e30).collect();
        *weight = Tensor::floats(&[HIDDEN, HIDDEN], values);
    }
    for kernel in Kernel::available() {
        let built = tiny.build().unwrap();
        let engine = transfer_to(built, Device::Cpu, Processor::with(kernel)).unwrap();
        let error = engine.embed(&engine.tokenize(&["the lamp"]).unwrap()).unwrap_err();
        let named = matches!(error, EngineError::OutputNonFinite { index: 0, .. });
        assert!(named, "{kernel}: {error:?}");
    }
}

#[test]
fn a_failed_text_is_named_by_its_place_among_all_texts() {
    let mut tiny = Tiny::new();
    let row = usize::try_from(tiny.tokenizer["model"]["vocab"]["x"].as_u64().unwrap()).unwrap();
    let table = tiny.tensor("embeddings.word_embeddings.weight");
    let mut values = table.values();
    values[row * HIDDEN..][..HIDDEN].fill(f32::MAX);
    *table = Tensor::floats(&[VOCABULARY, HIDDEN], values);
    let engine = tiny.engine();
    let mut texts = vec!["the lamp"; 2 * engine.limits().max_batch_texts + 3];
    let last = texts.len() - 1;
    texts[last] = "x";
    let error = embed_texts(engine.as_ref(), &texts).unwrap_err();
    let named = matches!(error, EngineError::OutputNonFinite { index, .. } if index == last);
    assert!(named, "{error:?}");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_there_is_no_reason_to_use_another() {
    let Err(error) = transfer(Tiny::new().build().unwrap(), Device::Cuda) else {
        panic!("this build has no code for GPUs");
    };
    assert!(matches!(error, EngineError::DeviceUnavailable { device: Device::Cuda, .. }));
}

#[test]
fn a_real_model_warms_up() {
    let engine = Tiny::new().engine();
    let budget = Duration::from_secs(30);
    let warmup = warmup::warm_up(engine.as_ref(), budget, &Instant::now).unwrap();
    assert!(warmup.runs > 5 && warmup.steady > Duration::ZERO, "{warmup:?}");
}

/// Guarantees: gates-15.
#[test]
fn recorded_cases_pass_on_the_same_weights_and_fail_on_others() {
    let digest = "sha256:1";
    let texts = TEXTS.map(|text| (format!("case {text:?}"), Text::One(text)));
    let nearness = Nearness { min_cosine: "0.99999", tolerance: "0.001" };
    let tiny = Tiny::new();
    let recorded = Golden::record(tiny.engine().as_ref(), digest, &texts, nearness).unwrap();
    let json = recorded.to_json().unwrap();
    assert_eq!(json.lines().count(), TEXTS.len() + 2, "one case a line");
    let golden = Golden::parse(&json, digest).unwrap();
    assert_eq!(golden, recorded);

    let outcomes = |tiny: &Tiny| {
        let engine = tiny.engine();
        let gives = &engine.facts().gives;
        validation::run(&golden.cases(), gives, &|texts| answer_texts(engine.as_ref(), texts))
    };
    assert!(outcomes(&tiny).iter().all(|outcome| outcome.passed), "{:?}", outcomes(&tiny));
    let other = tiny.with(|tiny| {
        let query = tiny.tensor("encoder.layer.1.output.dense.weight");
        let values: Vec<f32> = query.values().iter().map(|value| value * 1.5).collect();
        *query = Tensor::floats(&query.shape.clone(), values);
    });
    assert!(outcomes(&other).iter().all(|outcome| !outcome.passed), "{:?}", outcomes(&other));
}

#[test]
fn weights_are_named_by_the_file_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let error = read(dir.path(), &[WEIGHTS], NonZeroUsize::MIN, &|_| {}).unwrap_err();
    assert!(matches!(error, EngineError::Read { .. }), "{error:?}");
    assert!(error.file().unwrap().ends_with(WEIGHTS));
}
