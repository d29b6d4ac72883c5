//! Every family and head against torch: tiny models as transformers and sentence-transformers save
//! them, and what those answered (`families/reference.py`).

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use lamplighter_engine::golden::{Golden, Nearness};
use lamplighter_engine::{
    Built, Device, Engine, EngineError, Gives, Output, Pooling, Scale, TensorHeader, Text, Tokens,
    TooLong, answer_texts, build, describe, prepare, read, transfer, validation,
};
use serde::Deserialize;

/// What models with vectors are called, how they pool, and whether they normalise.
const VECTORS: [(&str, Pooling, bool); 7] = [
    ("bert-mean", Pooling::Mean, true),
    ("roberta-cls", Pooling::Cls, false),
    ("xlm-roberta-mean", Pooling::Mean, true),
    ("camembert-last", Pooling::LastToken, false),
    ("distilbert-max", Pooling::Max, false),
    ("mpnet-mean", Pooling::Mean, true),
    ("bert-dense", Pooling::Cls, true),
];
const SCORES: [(&str, Scale); 7] = [
    ("bert-reranker", Scale::Sigmoid),
    ("bert-classes", Scale::Softmax),
    ("roberta-tags", Scale::Sigmoid),
    ("xlm-roberta-reranker", Scale::Raw),
    ("camembert-classes", Scale::Softmax),
    ("distilbert-classes", Scale::Softmax),
    ("mpnet-reranker", Scale::Sigmoid),
];
const HIDDEN: usize = 24;
/// Of numbers between −1 and 1; of larger ones, their share.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
    /// Of the first texts.
    token_vectors: Vec<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct Scored {
    /// Of one text or two.
    texts: Vec<Vec<String>>,
    ids: Vec<Vec<u32>>,
    scores: Vec<Vec<f32>>,
    scaled: Vec<Vec<f32>>,
    labels: Vec<String>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families").join(name)
}

fn expected<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    serde_json::from_slice(&fs::read(folder(name).join("expected.json")).unwrap()).unwrap()
}

fn weight_files(dir: &Path) -> Vec<String> {
    let modules = ["2_Dense", "3_Dense"].map(|module| format!("{module}/model.safetensors"));
    let of_modules = modules.into_iter().filter(|file| dir.join(file).exists());
    std::iter::once("model.safetensors".to_owned()).chain(of_modules).collect()
}

fn built(dir: &Path) -> Result<Built, EngineError> {
    let files = weight_files(dir);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    build(read(dir, &files, NonZeroUsize::MIN, &|_| {})?, prepare(dir)?)
}

/// Loads a model with the weights that are in its folder.
fn load(dir: &Path, device: Device) -> Result<Box<dyn Engine>, EngineError> {
    transfer(built(dir)?, device)
}

fn engine(name: &str) -> Box<dyn Engine> {
    load(&folder(name), Device::Cpu).unwrap()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let allowed = TOLERANCE * b.abs().max(1.0);
        assert!((a - b).abs() <= allowed, "{what}, number {at}: {a} instead of {b}");
    }
}

fn texts(texts: &[Vec<String>]) -> Vec<Text<'_>> {
    fn text(texts: &[String]) -> Text<'_> {
        match texts {
            [text] => Text::One(text),
            [first, second] => Text::Pair(first, second),
            other => panic!("{other:?}"),
        }
    }

    texts.iter().map(|texts| text(texts)).collect()
}

fn alone(engine: &dyn Engine, tokens: &[Tokens], output: Output) -> Vec<Vec<f32>> {
    let one = |text: &Tokens| engine.run(std::slice::from_ref(text), output).unwrap().remove(0);
    tokens.iter().map(one).collect()
}

#[test]
fn vectors_are_those_of_torch() {
    for (name, ..) in VECTORS {
        let engine = engine(name);
        let expected: Embedded = expected(name);
        let asked: Vec<&str> = expected.texts.iter().map(String::as_str).collect();
        let tokens = engine.tokenize(&asked).unwrap();
        let longest = tokens.iter().map(|text| text.ids.len()).max().unwrap();
        assert_eq!(longest, engine.facts().max_tokens, "{name}: one text is as long as can be");
        let shortest = tokens.iter().map(|text| text.ids.len()).min().unwrap();
        assert!(shortest <= 3, "{name}: one text is empty");
        for (text, ids) in tokens.iter().zip(&expected.ids) {
            assert_eq!(&text.ids, ids, "{name}");
        }
        let found = alone(engine.as_ref(), &tokens, Output::Vector);
        for ((text, found), expected) in asked.iter().zip(&found).zip(&expected.vectors) {
            assert_near(found, expected, &format!("{name} {text:?}"));
        }
        assert!(expected.token_vectors.len() > 3);
        let found = alone(engine.as_ref(), &tokens, Output::TokenVectors);
        for ((text, found), expected) in asked.iter().zip(&found).zip(&expected.token_vectors) {
            assert_eq!(expected[0].len(), HIDDEN);
            assert_near(found, &expected.concat(), &format!("{name} {text:?} by token"));
        }
    }
}

#[test]
fn scores_are_those_of_torch() {
    for (name, scale) in SCORES {
        let engine = engine(name);
        let expected: Scored = expected(name);
        let gives = Gives::Scores { labels: expected.labels.clone(), scale };
        assert_eq!(engine.facts().gives, gives, "{name}");
        let tokens = engine.split(&texts(&expected.texts), TooLong::Refuse).unwrap();
        for (text, ids) in tokens.iter().zip(&expected.ids) {
            assert_eq!(&text.ids, ids, "{name}");
        }
        for (at, mut found) in
            alone(engine.as_ref(), &tokens, Output::Scores).into_iter().enumerate()
        {
            let what = format!("{name} {:?}", expected.texts[at]);
            assert_near(&found, &expected.scores[at], &what);
            scale.apply(&mut found);
            assert_near(&found, &expected.scaled[at], &format!("{what} scaled"));
        }
    }
}

#[test]
fn a_text_or_pair_is_the_same_to_the_last_bit_alone_and_in_any_batch() {
    let bits = |outputs: &[Vec<f32>]| -> Vec<Vec<u32>> {
        let of_one = |numbers: &Vec<f32>| numbers.iter().map(|number| number.to_bits()).collect();
        outputs.iter().map(of_one).collect()
    };
    let check = |name: &str, engine: &dyn Engine, tokens: Vec<Tokens>| {
        let outputs = match engine.facts().gives {
            Gives::Vectors { .. } => vec![Output::Vector, Output::TokenVectors],
            Gives::Scores { .. } => vec![Output::Scores],
        };
        for output in outputs {
            let expected = bits(&alone(engine, &tokens, output));
            assert_eq!(bits(&engine.run(&tokens, output).unwrap()), expected, "{name} {output:?}");
            let reversed: Vec<Tokens> = tokens.iter().rev().cloned().collect();
            let mut found = bits(&engine.run(&reversed, output).unwrap());
            found.reverse();
            assert_eq!(found, expected, "{name} {output:?} in another order");
        }
    };
    for (name, ..) in VECTORS {
        let engine = engine(name);
        let expected: Embedded = expected(name);
        let asked: Vec<&str> = expected.texts.iter().map(String::as_str).collect();
        let fitting = fitting(engine.as_ref(), engine.tokenize(&asked).unwrap());
        check(name, engine.as_ref(), fitting);
    }
    for (name, _) in SCORES {
        let engine = engine(name);
        let expected: Scored = expected(name);
        let tokens = engine.split(&texts(&expected.texts), TooLong::Refuse).unwrap();
        let fitting = fitting(engine.as_ref(), tokens);
        check(name, engine.as_ref(), fitting);
    }
}

/// As many texts as are computed at once.
fn fitting(engine: &dyn Engine, mut tokens: Vec<Tokens>) -> Vec<Tokens> {
    let lengths = |tokens: &[Tokens]| tokens.iter().map(|t| t.ids.len()).collect::<Vec<_>>();
    while !engine.limits().hold(&lengths(&tokens)) {
        tokens.pop();
    }
    assert!(tokens.len() > 4);
    tokens
}

#[test]
fn models_say_what_they_give() {
    for (name, pooling, normalized) in VECTORS {
        let (dimensions, matryoshka) = match name {
            "bert-dense" => (12, vec![4, 8, 12]),
            _ => (HIDDEN, Vec::new()),
        };
        let expected = Gives::Vectors { dimensions, pooling, normalized, matryoshka };
        let engine = engine(name);
        assert_eq!(engine.facts().gives, expected, "{name}");
        let error = engine.run(&engine.tokenize(&["x"]).unwrap(), Output::Scores).unwrap_err();
        assert!(matches!(error, EngineError::NoSuchOutput { output: Output::Scores }), "{error:?}");
    }
    for (name, _) in SCORES {
        let engine = engine(name);
        for output in [Output::Vector, Output::TokenVectors] {
            let error = engine.run(&engine.tokenize(&["x"]).unwrap(), output).unwrap_err();
            assert!(matches!(error, EngineError::NoSuchOutput { .. }), "{name} {error:?}");
        }
    }
}

#[test]
fn texts_are_as_long_as_there_are_positions_for_them() {
    let lengths: Vec<usize> =
        VECTORS.iter().map(|(name, ..)| engine(name).facts().max_tokens).collect();
    // As the tokenizer has it; of MPNet and RoBERTa also two less than there are rows.
    assert_eq!(lengths, [64, 64, 64, 64, 64, 150, 64]);
}

#[test]
fn only_a_network_with_token_types_is_told_where_the_second_text_begins() {
    let second = |name: &str| {
        let pair = [Text::Pair("the lamp", "x")];
        engine(name).split(&pair, TooLong::Refuse).unwrap()[0].second
    };
    assert_eq!(second("bert-reranker"), Some(4));
    for name in ["mpnet-reranker", "xlm-roberta-reranker", "distilbert-classes"] {
        assert_eq!(second(name), None, "{name}");
    }
    let engine = engine("mpnet-reranker");
    let tokens = Tokens { second: Some(1), ..Tokens::of(vec![0, 5, 2]) };
    let error = engine.run(&[tokens], Output::Scores).unwrap_err();
    assert!(matches!(error, EngineError::Run { .. }), "{error:?}");
}

#[test]
fn the_second_text_of_a_pair_has_another_type() {
    let engine = engine("bert-reranker");
    let pair = [Text::Pair("the lamp", "river stone")];
    let mut tokens = engine.split(&pair, TooLong::Refuse).unwrap();
    let told = engine.run(&tokens, Output::Scores).unwrap()[0][0];
    tokens[0].second = None;
    let untold = engine.run(&tokens, Output::Scores).unwrap()[0][0];
    assert!((told - untold).abs() > 1e-3, "{told} {untold}");
}

#[test]
fn vectors_of_a_projected_model_are_shortened_as_declared() {
    let engine = engine("bert-dense");
    let gives = &engine.facts().gives;
    let vector = engine.embed(&engine.tokenize(&["the lamp"]).unwrap()).unwrap().remove(0);
    let short = gives.shorten(vector.clone(), 8).unwrap();
    assert_eq!(short.len(), 8);
    let length: f32 = short.iter().map(|number| number * number).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
    assert!(gives.shorten(vector, 6).is_err());
}

#[test]
fn what_is_told_before_loading_is_what_is_loaded() {
    let names = VECTORS.map(|(name, ..)| name).into_iter().chain(SCORES.map(|(name, _)| name));
    for name in names {
        let dir = folder(name);
        let headers: BTreeMap<String, TensorHeader> =
            weight_files(&dir).iter().flat_map(|file| headers(&dir, file)).collect();
        let tokenizer = fs::read(dir.join("tokenizer.json")).unwrap();
        let described = describe(&dir, &headers, &tokenizer).unwrap();
        let built = built(&dir).unwrap();
        let facts = built.facts();
        assert_eq!(described.gives, facts.gives, "{name}");
        assert_eq!(described.architecture, facts.architecture, "{name}");
        assert_eq!(described.vocabulary, facts.vocabulary, "{name}");
        assert_eq!(described.max_tokens, facts.max_tokens, "{name}");
        assert!(described.memory > built.bytes(), "{name}");
        assert_eq!([described.layers, described.hidden, described.heads], [2, HIDDEN, 3]);
        assert_eq!(described.intermediate, 40, "{name}");
        let mut fewer = headers.clone();
        let last = fewer.pop_last().unwrap().0;
        // The last by name is a part that is needed, but of BERT, whose pooler is not.
        if !last.starts_with("pooler") {
            let error = describe(&dir, &fewer, &tokenizer).unwrap_err();
            assert!(matches!(error, EngineError::TensorMissing { .. }), "{name}: {error}");
        }
    }
}

fn headers(dir: &Path, file: &str) -> Vec<(String, TensorHeader)> {
    let bytes = fs::read(dir.join(file)).unwrap();
    let module = file.strip_suffix("model.safetensors").unwrap();
    let header = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let shape = view.shape().iter().map(|&length| length as u64).collect();
        let header = TensorHeader { file: file.to_owned(), dtype: view.dtype(), shape };
        (format!("{module}{name}"), header)
    };
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensors().into_iter().map(header).collect()
}

#[test]
fn recorded_scores_pass_on_the_same_weights_and_fail_on_others() {
    let engine = engine("bert-reranker");
    let pairs = [Text::Pair("the lamp", "river"), Text::One("winter"), Text::Pair("x", "")];
    let named = pairs.map(|pair| (format!("{pair:?}"), pair));
    let nearness = Nearness { min_cosine: "0.999", tolerance: "0.0001" };
    let golden = Golden::record(engine.as_ref(), "sha256:1", &named, nearness).unwrap();
    let golden = Golden::parse(&golden.to_json().unwrap(), "sha256:1").unwrap();
    let passed = |engine: &dyn Engine| -> Vec<bool> {
        let answer = |texts: &[Text<'_>]| answer_texts(engine, texts);
        let outcomes = validation::run(&golden.cases(), &engine.facts().gives, &answer);
        outcomes.iter().map(|outcome| outcome.passed).collect()
    };
    assert_eq!(passed(engine.as_ref()), [true; 3]);
    let others = load(&folder("mpnet-reranker"), Device::Cpu).unwrap();
    assert_eq!(passed(others.as_ref()), [false; 3]);
}

#[test]
fn on_a_gpu_only_bert_runs_and_others_say_so_before_it_is_looked_for() {
    for name in VECTORS.map(|(name, ..)| name).into_iter().chain(SCORES.map(|(name, _)| name)) {
        let Err(error) = load(&folder(name), Device::Cuda) else {
            panic!("the tests run without a GPU");
        };
        if matches!(name, "bert-mean" | "bert-dense") {
            assert!(matches!(error, EngineError::DeviceUnavailable { .. }), "{name} {error:?}");
        } else {
            let unsupported = matches!(error, EngineError::UnsupportedArchitecture { .. });
            assert!(unsupported && error.to_string().contains("BertModel"), "{name} {error}");
        }
    }
}
