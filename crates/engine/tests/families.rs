//! Every family and head against torch: tiny models as transformers and sentence-transformers save
//! them, and what those answered (`families/reference.py`).

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use lamplighter_engine::golden::{Golden, Nearness};
use lamplighter_engine::{
    Built, Device, Engine, EngineError, Gives, Kernel, Output, Pooling, Precision, Processor,
    Scale, TensorHeader, Text, Tokens, TooLong, answer_texts, build, describe, prepare, read,
    reference, transfer, transfer_to, validation,
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

fn names() -> impl Iterator<Item = &'static str> {
    VECTORS.into_iter().map(|(name, ..)| name).chain(SCORES.into_iter().map(|(name, _)| name))
}

/// Cargo says where this crate is; whoever runs the program elsewhere does, too.
fn folder(name: &str) -> PathBuf {
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&crate_folder).join("tests/families").join(name)
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

/// Where a model runs, and by which code.
#[derive(Clone, Copy, Debug)]
enum On {
    /// On the processor, as it serves in 32-bit floats.
    Processor,
    /// On the processor, by the code that runs on a GPU.
    Reference,
    Gpu,
}

/// What every machine has.
const HERE: [On; 2] = [On::Processor, On::Reference];

/// A model with the weights that are in its folder.
fn engine_on(on: On, name: &str) -> Box<dyn Engine> {
    let built = built(&folder(name)).unwrap();
    let floats = Processor::with(Kernel::fastest_in(Precision::F32));
    let engine = match on {
        On::Processor => transfer_to(built, Device::Cpu, floats),
        On::Reference => reference(built),
        On::Gpu => transfer_to(built, Device::Cuda, floats),
    };
    engine.unwrap()
}

fn engine(name: &str) -> Box<dyn Engine> {
    engine_on(On::Processor, name)
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
    HERE.into_iter().for_each(check_vectors);
}

fn check_vectors(on: On) {
    for (name, ..) in VECTORS {
        let engine = engine_on(on, name);
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
            assert_near(found, expected, &format!("{name} {on:?} {text:?}"));
        }
        assert!(expected.token_vectors.len() > 3);
        let found = alone(engine.as_ref(), &tokens, Output::TokenVectors);
        for ((text, found), expected) in asked.iter().zip(&found).zip(&expected.token_vectors) {
            assert_eq!(expected[0].len(), HIDDEN);
            assert_near(found, &expected.concat(), &format!("{name} {on:?} {text:?} by token"));
        }
    }
}

#[test]
fn scores_are_those_of_torch() {
    HERE.into_iter().for_each(check_scores);
}

fn check_scores(on: On) {
    for (name, scale) in SCORES {
        let engine = engine_on(on, name);
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
            let what = format!("{name} {on:?} {:?}", expected.texts[at]);
            assert_near(&found, &expected.scores[at], &what);
            scale.apply(&mut found);
            assert_near(&found, &expected.scaled[at], &format!("{what} scaled"));
        }
    }
}

#[test]
fn a_text_or_pair_is_the_same_to_the_last_bit_alone_and_in_any_batch() {
    let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
    check_company(On::Processor, |found, alone, what| {
        assert_eq!(bits(found), bits(alone), "{what}");
    });
}

#[test]
fn by_the_code_for_gpus_it_is_the_same_up_to_rounding() {
    check_company(On::Reference, assert_near);
}

/// Compares the outputs of all texts in a batch with those of each alone.
fn check_company(on: On, same: impl Fn(&[f32], &[f32], &str)) {
    let check = |name: &str, engine: &dyn Engine, tokens: Vec<Tokens>| {
        let outputs = match engine.facts().gives {
            Gives::Vectors { .. } => vec![Output::Vector, Output::TokenVectors],
            Gives::Scores { .. } => vec![Output::Scores],
        };
        let tokens = fitting(engine, tokens);
        let reversed: Vec<Tokens> = tokens.iter().rev().cloned().collect();
        for output in outputs {
            let what = format!("{name} {on:?} {output:?}");
            let expected = alone(engine, &tokens, output);
            let together = engine.run(&tokens, output).unwrap();
            let mut in_another_order = engine.run(&reversed, output).unwrap();
            for (found, expected) in together.iter().zip(&expected) {
                same(found, expected, &what);
                same(&in_another_order.pop().unwrap(), expected, &what);
            }
        }
    };
    for (name, ..) in VECTORS {
        let engine = engine_on(on, name);
        let expected: Embedded = expected(name);
        let asked: Vec<&str> = expected.texts.iter().map(String::as_str).collect();
        check(name, engine.as_ref(), engine.tokenize(&asked).unwrap());
    }
    for (name, _) in SCORES {
        let engine = engine_on(on, name);
        let expected: Scored = expected(name);
        let tokens = engine.split(&texts(&expected.texts), TooLong::Refuse).unwrap();
        check(name, engine.as_ref(), tokens);
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
    let lengths = VECTORS.map(|(name, ..)| engine(name).facts().max_tokens);
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
    let tokens = Tokens { second: Some(1), ..Tokens::of(vec![0, 5, 2]) };
    for on in HERE {
        let engine = engine_on(on, "mpnet-reranker");
        let error = engine.run(std::slice::from_ref(&tokens), Output::Scores).unwrap_err();
        assert!(matches!(error, EngineError::Run { .. }), "{on:?} {error:?}");
    }
}

#[test]
fn the_second_text_of_a_pair_has_another_type() {
    for engine in HERE.map(|on| engine_on(on, "bert-reranker")) {
        let pair = [Text::Pair("the lamp", "river stone")];
        let mut tokens = engine.split(&pair, TooLong::Refuse).unwrap();
        let told = engine.run(&tokens, Output::Scores).unwrap()[0][0];
        tokens[0].second = None;
        let untold = engine.run(&tokens, Output::Scores).unwrap()[0][0];
        assert!((told - untold).abs() > 1e-3, "{told} {untold}");
    }
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
    for name in names() {
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
        let sizes = [described.layers, described.hidden, described.heads, described.intermediate];
        assert_eq!(sizes, [2, HIDDEN, 3, 40], "{name}");
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
    let passed = |engine: Box<dyn Engine>| -> Vec<bool> {
        let answer = |texts: &[Text<'_>]| answer_texts(engine.as_ref(), texts);
        let outcomes = validation::run(&golden.cases(), &engine.facts().gives, &answer);
        outcomes.iter().map(|outcome| outcome.passed).collect()
    };
    assert_eq!(HERE.map(|on| passed(engine_on(on, "bert-reranker"))), [[true; 3]; 2]);
    assert_eq!(passed(engine_on(On::Processor, "mpnet-reranker")), [false; 3]);
}

#[test]
#[ignore = "needs a GPU: cargo xtask cuda --test builds this program for one"]
fn on_a_gpu_outputs_are_those_of_torch_alone_and_up_to_rounding_in_any_batch() {
    assert_eq!(engine_on(On::Gpu, "bert-mean").runtime().kernel, "candle-cuda-f32");
    check_vectors(On::Gpu);
    check_scores(On::Gpu);
    check_company(On::Gpu, assert_near);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_code_for_gpus_says_which_has_it() {
    for name in names() {
        let error = transfer(built(&folder(name)).unwrap(), Device::Cuda).err().unwrap();
        assert!(matches!(error, EngineError::DeviceUnavailable { .. }), "{name} {error:?}");
        assert!(error.to_string().contains("worker.cuda.image"), "{name} {error}");
    }
}
