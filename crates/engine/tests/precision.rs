//! Models in bf16: computed so where their weights allow it, and in 32-bit floats where not.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[expect(dead_code, reason = "the other tests change the model in more ways")]
mod support;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use lamplighter_engine::{
    Compared, Device, Engine, Gives, Kernel, Precision, Processor, Text, Tokens, answer_texts,
    build, embed_texts, prepare, read, transfer, transfer_judged, transfer_to,
};
use serde::Deserialize;
use support::{HIDDEN, INNER, LAYERS, Tensor, Tiny, distance};

const TEXTS: [&str; 4] =
    ["the lamp", "river stone light winter the the lamp abc", "x", "winter light on the river"];

fn with(tiny: &Tiny, kernel: Kernel) -> Box<dyn Engine> {
    transfer_to(tiny.build().unwrap(), Device::Cpu, Processor::with(kernel)).unwrap()
}

fn in_bf16() -> impl Iterator<Item = Kernel> {
    Kernel::available().into_iter().filter(|kernel| kernel.precision() == Precision::BF16)
}

/// To each weight of some layers a large number is added. What they are applied to sums to zero,
/// because it was normalised, so that it changes nothing but the digits that are left for the rest.
fn with_large_weights() -> Tiny {
    Tiny::new().with(|tiny| {
        for layer in 0..LAYERS {
            let name = format!("encoder.layer.{layer}.intermediate.dense.weight");
            let values = tiny.tensor(&name).values().into_iter().map(|weight| weight + 300.0);
            *tiny.tensor(&name) = Tensor::floats(&[INNER, HIDDEN], values);
        }
    })
}

/// Guarantees: gates-17.
#[test]
fn a_model_is_computed_in_bf16_and_says_how_near_that_is() {
    let tiny = Tiny::new();
    let floats = with(&tiny, Kernel::fastest_in(Precision::F32));
    assert_eq!(floats.compared(), None, "there is nothing to compare");
    let expected = embed_texts(floats.as_ref(), &TEXTS).unwrap();
    for kernel in in_bf16() {
        let engine = with(&tiny, kernel);
        let runtime = engine.runtime();
        assert_eq!((runtime.kernel.as_str(), runtime.precision), (kernel.name(), Precision::BF16));
        let compared = engine.compared().unwrap();
        assert_eq!(compared.kernel, kernel.name());
        assert!(compared.is_near() && compared.cosine < 1.0, "{compared:?}");
        let found = embed_texts(engine.as_ref(), &TEXTS).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            let far = distance(found, expected);
            assert!(far > 0.0 && far < 0.02, "{kernel}: {far}");
        }
    }
}

/// Guarantees: gates-17.
#[test]
fn weights_that_bf16_has_no_digits_for_are_computed_in_floats_and_the_model_says_so() {
    let tiny = with_large_weights();
    let floats = Kernel::fastest_in(Precision::F32);
    let expected = embed_texts(with(&tiny, floats).as_ref(), &TEXTS).unwrap();
    for kernel in in_bf16() {
        let engine = with(&tiny, kernel);
        let compared = engine.compared().unwrap();
        assert!(!compared.is_near(), "{compared:?}");
        assert_eq!(compared.kernel, kernel.name());
        let runtime = engine.runtime();
        assert_eq!((runtime.kernel.as_str(), runtime.precision), (floats.name(), Precision::F32));
        assert_eq!(embed_texts(engine.as_ref(), &TEXTS).unwrap(), expected);
    }
}

/// Guarantees: gates-17.
#[test]
fn answers_that_are_wrong_in_bf16_are_given_in_floats_and_the_model_says_so() {
    let floats = Kernel::fastest_in(Precision::F32);
    let tiny = Tiny::new();
    let expected = embed_texts(with(&tiny, floats).as_ref(), &TEXTS).unwrap();
    // To the last digit, which bf16 does not have.
    let is_right =
        |engine: &dyn Engine| embed_texts(engine, &TEXTS).is_ok_and(|found| found == expected);
    for kernel in in_bf16() {
        let processor = Processor::with(kernel);
        assert!(processor.compares());
        let built = tiny.build().unwrap();
        let engine = transfer_judged(built, Device::Cpu, processor, &is_right).unwrap();
        let compared = engine.compared().unwrap();
        assert!(compared.is_near() && compared.is_wrong && !compared.will_do(), "{compared:?}");
        assert_eq!(engine.runtime().precision, Precision::F32);
        assert!(is_right(engine.as_ref()));
    }
    for kernel in in_bf16() {
        let (built, processor) = (tiny.build().unwrap(), Processor::with(kernel));
        let engine = transfer_judged(built, Device::Cpu, processor, &|_| false).unwrap();
        assert_eq!(engine.runtime().precision, Precision::F32);
        assert!(!engine.compared().unwrap().is_wrong, "in floats it is no better");
    }
    let never = |_: &dyn Engine| -> bool { panic!("there is no other precision to fall back to") };
    assert!(!Processor::with(floats).compares());
    transfer_judged(tiny.build().unwrap(), Device::Cpu, Processor::with(floats), &never).unwrap();
}

#[test]
fn without_a_wish_the_fastest_kernel_of_the_machine_is_taken() {
    let engine = transfer(Tiny::new().build().unwrap(), Device::Cpu).unwrap();
    assert_eq!(engine.runtime().kernel, Kernel::fastest().name());
    assert_eq!(engine.compared().is_some(), Kernel::fastest().precision() == Precision::BF16);
}

#[test]
fn a_text_has_the_same_vector_to_the_last_bit_alone_and_in_a_batch() {
    for kernel in in_bf16() {
        let engine = with(&Tiny::new(), kernel);
        let tokens: Vec<Tokens> = engine.tokenize(&TEXTS).unwrap();
        let together = engine.embed(&tokens).unwrap();
        for (text, together) in tokens.into_iter().zip(together) {
            assert_eq!(engine.embed(&[text]).unwrap(), [together], "{kernel}");
        }
    }
}

/// What torch answered (`families/reference.py`).
#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Embedded { texts: Vec<String>, vectors: Vec<Vec<f32>> },
    Scored { texts: Vec<Vec<String>>, scaled: Vec<Vec<f32>> },
}

/// These networks are small and their weights by lot, so that what rounding does to a number is not
/// lost among many. Of these four, the worker's own texts come to a cosine between 0.9995 and 0.9999 in
/// software, so that they are computed in floats there. What is computed in bf16 keeps the bound,
/// whatever it is called.
const MAY_FALL_BACK: [&str; 4] =
    ["bert-dense", "camembert-classes", "distilbert-classes", "mpnet-reranker"];

#[test]
fn models_of_every_family_are_near_to_those_of_torch() {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
    let mut models = 0;
    for entry in fs::read_dir(families).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            in_bf16().for_each(|kernel| near_to_torch(&folder, kernel));
            models += 1;
        }
    }
    assert_eq!(models, 14);
}

fn near_to_torch(folder: &Path, kernel: Kernel) {
    let files = ["model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"];
    let files: Vec<&str> = files.into_iter().filter(|file| folder.join(file).exists()).collect();
    let weights = read(folder, &files, NonZeroUsize::MIN, &|_| {}).unwrap();
    let built = build(weights, prepare(folder).unwrap()).unwrap();
    let engine = transfer_to(built, Device::Cpu, Processor::with(kernel)).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let in_bf16 = engine.runtime().precision == Precision::BF16;
    assert!(in_bf16 || MAY_FALL_BACK.contains(&name), "{name} {:?}", engine.compared());
    let expected = fs::read(folder.join("expected.json")).unwrap();
    match (serde_json::from_slice(&expected).unwrap(), &engine.facts().gives) {
        (Expected::Embedded { texts, vectors }, _) => {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let found = embed_texts(engine.as_ref(), &texts).unwrap();
            for (found, expected) in found.iter().zip(&vectors) {
                let cosine = cosine(found, expected);
                assert!(cosine >= Compared::LEAST, "{name} {kernel}: {cosine}");
            }
        }
        (Expected::Scored { texts, scaled }, Gives::Scores { scale, .. }) => {
            let mut asked = Vec::new();
            for texts in &texts {
                match texts.as_slice() {
                    [text] => asked.push(Text::One(text)),
                    [first, second] => asked.push(Text::Pair(first, second)),
                    other => panic!("{other:?}"),
                }
            }
            let found = answer_texts(engine.as_ref(), &asked).unwrap();
            for (mut found, expected) in found.into_iter().zip(&scaled) {
                scale.apply(&mut found);
                for (a, b) in found.iter().zip(expected) {
                    assert!((a - b).abs() <= 0.01 * b.abs().max(1.0), "{name} {kernel}: {a}, {b}");
                }
            }
        }
        (_, gives) => panic!("{name} gives {gives:?}"),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}
