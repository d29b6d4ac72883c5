use super::*;
use crate::Precision;
use crate::cpu::bf16::Instructions;
use crate::cpu::encoder_fixture::{LARGE, POSITIONS, VOCABULARY, both, relative, text};
use crate::cpu::kernel::Vectors;
use crate::validation::cosine;

fn run(encoder: &Encoder, batch: &[Tokens]) -> Vec<f32> {
    let mut scratch = Scratch::default();
    run_for(encoder, batch, Wanted::Every, &mut scratch).unwrap();
    scratch.tokens().to_vec()
}

fn run_for(
    encoder: &Encoder,
    batch: &[Tokens],
    wanted: Wanted,
    scratch: &mut Scratch,
) -> Option<()> {
    encoder.forward(batch, wanted, scratch, &Share::whole())
}

/// Those of this machine, and tiles in software.
fn kernels(precision: Precision) -> Vec<Kernel> {
    let mut all = Kernel::available();
    all.push(Kernel::of(Vectors::widest(), Some(Instructions::EmulatedTiles)));
    all.retain(|kernel| kernel.precision() == precision);
    all
}

#[test]
fn token_vectors_are_those_of_candle() {
    for kernel in kernels(Precision::F32) {
        compare_with_candle(kernel, |found, expected| {
            let far = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{kernel}: {far:e}");
        });
    }
}

/// The weights are as unlike those of a trained network as can be: each vector of a token is off by
/// what rounding 8 bits of hundreds of large numbers makes of it.
#[test]
fn in_bf16_token_vectors_are_near_to_those_of_candle() {
    for kernel in kernels(Precision::BF16) {
        compare_with_candle(kernel, |found, expected| {
            let cosine = cosine(found, expected);
            assert!(cosine > 0.9995, "{kernel}: {cosine}");
        });
    }
}

fn compare_with_candle(kernel: Kernel, compare: impl Fn(&[f32], &[f32])) {
    for (hidden, heads, inner, act) in [
        (32, 2, 64, "gelu"),
        (48, 3, 100, "gelu_new"),
        (8, 2, 16, "relu"),
        (36, 6, 20, "gelu"),
        (130, 5, 33, "gelu_pytorch_tanh"),
        (LARGE.0, LARGE.1, LARGE.2, "gelu"),
    ] {
        let (own, candle) = both(hidden, heads, inner, act, kernel);
        // Of attention, 48 queries are looked at together.
        let lengths = [1, 2, 6, 7, 17, 40, 48, 49, 97, POSITIONS];
        for length in lengths.into_iter().filter(|length| hidden < LARGE.0 || *length > 50) {
            let text = text(length, 3);
            let found = run(&own, std::slice::from_ref(&text));
            let expected = candle.forward(&[text]).unwrap().flatten_all().unwrap();
            let expected: Vec<f32> = expected.to_vec1().unwrap();
            assert_eq!(found.len(), expected.len());
            compare(&found, &expected);
        }
    }
}

#[test]
fn a_text_is_the_same_to_the_last_bit_alone_and_in_any_batch() {
    for kernel in kernels(Precision::F32).into_iter().chain(kernels(Precision::BF16)) {
        alone_and_in_batches(kernel);
    }
}

fn alone_and_in_batches(kernel: Kernel) {
    for (hidden, heads, inner) in [(48, 3, 100), LARGE] {
        alone_and_in_batches_of(&both(hidden, heads, inner, "gelu", kernel).0);
    }
}

fn alone_and_in_batches_of(own: &Encoder) {
    let texts: Vec<Tokens> =
        [5, 1, POSITIONS, 17, 8].into_iter().zip(0..).map(|(l, s)| text(l, s)).collect();
    let alone: Vec<Vec<f32>> =
        texts.iter().map(|text| run(own, std::slice::from_ref(text))).collect();
    for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
        let batch: Vec<Tokens> = order.iter().map(|&at| texts[at].clone()).collect();
        let mut rest = run(own, &batch);
        for at in order {
            let after = rest.split_off(alone[at].len());
            assert_eq!(bits(&rest), bits(&alone[at]), "text {at} in {order:?}");
            rest = after;
        }
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn tokens_that_are_wanted_alone_are_the_same_to_the_last_bit_as_among_all() {
    for kernel in kernels(Precision::F32).into_iter().chain(kernels(Precision::BF16)) {
        let of = |hidden, heads, inner| both(hidden, heads, inner, "gelu", kernel).0;
        let encoders = [of(48, 3, 100), of(36, 6, 20), of(LARGE.0, LARGE.1, LARGE.2)];
        for encoder in encoders.into_iter().chain([relative(kernel)]) {
            wanted_alone_and_among_all(&encoder);
        }
    }
}

fn wanted_alone_and_among_all(encoder: &Encoder) {
    let lengths = [5, 1, POSITIONS, 17, 70, 8];
    let batch: Vec<Tokens> =
        lengths.into_iter().zip(0..).map(|(length, seed)| text(length, seed)).collect();
    let every = run(encoder, &batch);
    let rows: Vec<&[f32]> = every.chunks_exact(encoder.hidden).collect();
    // One memory for all runs: a run leaves nothing behind that the next could take for its own.
    let mut scratch = Scratch::default();
    for wanted in [Wanted::First, Wanted::Last, Wanted::Every, Wanted::First] {
        run_for(encoder, &batch, wanted, &mut scratch).unwrap();
        let mut first = 0;
        let of_text = lengths.map(|length| {
            first += length;
            wanted.of(length).map(move |at| first - length + at)
        });
        let expected: Vec<f32> =
            of_text.into_iter().flatten().flat_map(|at| rows[at]).copied().collect();
        assert_eq!(bits(scratch.tokens()), bits(&expected), "{} {wanted:?}", encoder.kernel());
    }
}

#[test]
fn memory_is_used_again_and_what_was_in_it_does_not_matter() {
    for kernel in [Precision::F32, Precision::BF16].map(Kernel::fastest_in) {
        let (own, _) = both(48, 3, 100, "gelu", kernel);
        let mut scratch = Scratch::default();
        run_for(&own, &[text(40, 1), text(40, 2)], Wanted::Every, &mut scratch).unwrap();
        run_for(&own, &[text(9, 4)], Wanted::Every, &mut scratch).unwrap();
        assert_eq!(scratch.tokens(), run(&own, &[text(9, 4)]), "{kernel}");
    }
}

#[test]
fn an_id_or_a_position_that_is_not_there_is_no_answer() {
    let (own, _) = both(8, 2, 16, "relu", Kernel::fastest());
    let strange = Tokens::of(vec![1, VOCABULARY]);
    for batch in [strange, text(POSITIONS + 1, 1)] {
        assert_eq!(run_for(&own, &[batch], Wanted::Every, &mut Scratch::default()), None);
    }
}
