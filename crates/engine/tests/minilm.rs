//! The real model all-MiniLM-L6-v2 against vectors made with sentence-transformers
//! (`golden/recipe.py`).

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lamplighter_engine::golden::Golden;
use lamplighter_engine::validation::{self, Check};
use lamplighter_engine::{
    Device, Dtype, Engine, EngineError, Facts, Gives, Kernel, Pooling, Precision, Processor, Text,
    answer_texts, build, embed_texts, prepare, read, transfer_to, warmup,
};

const GOLDEN: &str = include_str!("golden/all-minilm-l6-v2.json");

/// In 32-bit floats.
fn engine() -> &'static dyn Engine {
    static ENGINE: OnceLock<Box<dyn Engine>> = OnceLock::new();
    ENGINE.get_or_init(|| load(Kernel::fastest_in(Precision::F32))).as_ref()
}

fn load(kernel: Kernel) -> Box<dyn Engine> {
    let dir = PathBuf::from(std::env::var("LAMPLIGHTER_MINILM").unwrap());
    let weights = read(&dir, &["model.safetensors"], NonZeroUsize::MIN, &|_| {}).unwrap();
    let built = build(weights, prepare(&dir).unwrap()).unwrap();
    transfer_to(built, Device::Cpu, Processor::with(kernel)).unwrap()
}

fn golden() -> Golden {
    let json: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    Golden::parse(GOLDEN, json["artifactDigest"].as_str().unwrap()).unwrap()
}

fn texts() -> Vec<String> {
    let text = |case: validation::Case| match case.check {
        Check::Vector { text, .. } => text,
        other => panic!("{other:?}"),
    };
    golden().cases().into_iter().map(text).collect()
}

#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn the_model_says_what_it_is() {
    let expected = Facts {
        architecture: "BertModel".to_owned(),
        vocabulary: 30_522,
        max_tokens: 256,
        width: 384,
        parameters: 22_713_216,
        gives: Gives::Vectors {
            dimensions: 384,
            pooling: Pooling::Mean,
            normalized: true,
            matryoshka: Vec::new(),
        },
        dtype: Dtype::F32,
    };
    assert_eq!(engine().facts(), &expected);
}

#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn answers_are_those_of_sentence_transformers() {
    let cases = golden().cases();
    let gives = &engine().facts().gives;
    let outcomes = validation::run(&cases, gives, &|texts| answer_texts(engine(), texts));
    for (case, outcome) in cases.iter().zip(&outcomes) {
        assert!(outcome.passed, "{outcome:?}");
        let Check::Vector { text, expected, min_cosine } = &case.check else {
            panic!("{case:?}");
        };
        assert!(*min_cosine >= 0.99999, "the reference is checked loosely: {min_cosine}");
        let found = &embed_texts(engine(), &[text]).unwrap()[0];
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: {}, numbers differ by up to {apart:.1e}", case.name, outcome.found);
        assert!(apart <= 1e-5, "{}: {apart}", case.name);
    }
}

/// With every kernel of this machine.
#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn in_bf16_answers_are_near_to_those_of_sentence_transformers() {
    let cases = golden().cases().into_iter().map(|case| match case.check {
        Check::Vector { text, expected, .. } => {
            let check = Check::Vector { text, expected, min_cosine: 0.9999 };
            validation::Case { check, ..case }
        }
        other => panic!("{other:?}"),
    });
    let cases: Vec<_> = cases.collect();
    for kernel in Kernel::available() {
        if kernel.precision() != Precision::BF16 {
            continue;
        }
        let engine = load(kernel);
        println!("{kernel}: {:?}", engine.compared());
        assert_eq!(engine.runtime().precision, Precision::BF16, "{:?}", engine.compared());
        let gives = &engine.facts().gives;
        let ask = |texts: &[Text<'_>]| answer_texts(engine.as_ref(), texts);
        for outcome in validation::run(&cases, gives, &ask) {
            println!("{outcome:?}");
            assert!(outcome.passed, "{kernel}: {outcome:?}");
        }
    }
}

#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn a_text_has_the_same_vector_to_the_last_bit_alone_and_in_a_batch() {
    let mut texts = texts();
    // As many of different lengths as fit into a batch.
    texts.retain(|text| engine().tokenize(&[text]).unwrap()[0].ids.len() <= 60);
    let mixed: Vec<&str> = texts.iter().take(4).map(String::as_str).collect();
    assert_eq!(mixed.len(), 4);
    let together = engine().embed(&engine().tokenize(&mixed).unwrap()).unwrap();
    for (text, together) in mixed.iter().zip(&together) {
        assert_eq!(&embed_texts(engine(), &[text]).unwrap()[0], together, "{text:?}");
    }
}

#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn texts_above_256_tokens_are_refused() {
    let error = engine().tokenize(&[&"lamp ".repeat(255)]).unwrap_err();
    assert!(matches!(error, EngineError::TooLong { tokens: 257, limit: 256, .. }), "{error:?}");
    assert_eq!(engine().tokenize(&[&"lamp ".repeat(254)]).unwrap()[0].ids.len(), 256);
}

#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn the_model_warms_up_within_a_minute() {
    let begun = Instant::now();
    let warmup = warmup::warm_up(engine(), Duration::from_mins(1), &Instant::now).unwrap();
    println!("{warmup:?} in {:?}", begun.elapsed());
    assert!(warmup.steady > Duration::ZERO);
}

/// How many times faster than the code for any processor a kernel for this one is at least: loosely, as
/// a machine may have other things to do meanwhile (AVX2 is eight times as fast on a Zen 3). `cargo xtask
/// bench engine` measures.
const FASTER: f64 = 4.0;

#[test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
fn no_kernel_for_this_machine_has_become_slow() {
    let portable = load(Kernel::named("portable-f32").unwrap());
    let text = "lamp ".repeat(126);
    let batch = portable.tokenize(&[text.as_str(); 2]).unwrap();
    assert_eq!(batch[0].ids.len(), 128);
    let takes = |engine: &dyn Engine| {
        let begun = Instant::now();
        engine.embed(&batch).unwrap();
        begun.elapsed()
    };
    let of_this_machine =
        Kernel::available().into_iter().filter(|kernel| !kernel.name().starts_with("portable"));
    for kernel in of_this_machine {
        let engine = load(kernel);
        takes(engine.as_ref());
        // In turns, so that both have the same machine.
        let mut times: Vec<[Duration; 2]> =
            (0..9).map(|_| [portable.as_ref(), engine.as_ref()].map(takes)).collect();
        let [slow, fast] = [0, 1].map(|which| {
            times.sort_unstable_by_key(|times| times[which]);
            times[times.len() / 2][which]
        });
        let ratio = slow.as_secs_f64() / fast.as_secs_f64();
        println!("{kernel}: {ratio:.1} times as fast as portable-f32");
        assert!(ratio >= FASTER, "{kernel}: {ratio:.2}, {times:?}");
    }
}
