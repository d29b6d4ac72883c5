//! What is asked: texts by lot, the same in every run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

/// What encloses a text.
const BEGIN: &str = "[CLS]";
const END: &str = "[SEP]";

/// Passages of a query, and tokens of each pair of both.
const PASSAGES: usize = 50;
const PAIR: usize = 130;
const QUERIES: usize = 5;

/// Texts, and the tokens that they are.
#[derive(Default, Serialize)]
pub(crate) struct Workload {
    pub(crate) ids: Vec<Vec<u32>>,
    pub(crate) texts: Vec<String>,
}

impl Workload {
    pub(crate) fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

/// `W1`: 512 texts of mixed lengths, lognormal with a median of 62 tokens. `W2`: 256 texts of 128 tokens.
/// `W3`: 200 queries of 12 to 16 tokens.
pub(crate) fn workloads(artifact: &Path) -> Result<BTreeMap<&'static str, Workload>> {
    let words = Vocabulary::read(&artifact.join("tokenizer.json"))?;
    let mut lot = Lot(0x2545_f491_4f6c_dd1d);
    let mixed: Vec<usize> = (0..512).map(|_| lot.length()).collect();
    let queries: Vec<usize> = (0..200).map(|_| 12 + lot.below(5)).collect();
    let mut made = |lengths: &[usize]| {
        let mut workload = Workload::default();
        for length in lengths {
            let (ids, text) = words.text(*length, &mut lot);
            workload.ids.push(ids);
            workload.texts.push(text);
        }
        workload
    };
    Ok([("W1", made(&mixed)), ("W2", made(&[128; 256])), ("W3", made(&queries))].into())
}

/// A query, its passages, and the tokens that it is with each of them.
#[derive(Serialize)]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) passages: Vec<String>,
    pub(crate) ids: Vec<Vec<u32>>,
    /// Where the passage's tokens begin.
    pub(crate) second: usize,
}

/// Five queries of 8 to 16 words with 50 passages each; a pair has 130 tokens.
pub(crate) fn queries(artifact: &Path) -> Result<Vec<Query>> {
    let words = Vocabulary::read(&artifact.join("tokenizer.json"))?;
    let mut lot = Lot(0x2545_f491_4f6c_dd1d);
    let query = |_| {
        // With what encloses them: one of the two begins.
        let (first, text) = words.text(10 + lot.below(9), &mut lot);
        let mut query = Query { text, passages: Vec::new(), ids: Vec::new(), second: first.len() };
        for _ in 0..PASSAGES {
            let (ids, passage) = words.text(PAIR - first.len() + 1, &mut lot);
            query.ids.push(first.iter().chain(&ids[1..]).copied().collect());
            query.passages.push(passage);
        }
        query
    };
    Ok((0..QUERIES).map(query).collect())
}

/// The words of a vocabulary that are one token each.
struct Vocabulary {
    begin: u32,
    end: u32,
    words: Vec<(String, u32)>,
}

impl Vocabulary {
    fn read(tokenizer: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(tokenizer)
            .with_context(|| format!("cannot read {}", tokenizer.display()))?;
        let json: Value = serde_json::from_str(&text)?;
        let vocabulary = json["model"]["vocab"].as_object().context("no table of words")?;
        let id = |word: &str| {
            let id = vocabulary.get(word).and_then(Value::as_u64).context("a word is missing")?;
            Ok::<_, anyhow::Error>(u32::try_from(id)?)
        };
        let whole = |word: &&String| word.bytes().all(|byte| byte.is_ascii_lowercase());
        let words = vocabulary.keys().filter(whole).map(|word| Ok((word.clone(), id(word)?)));
        Ok(Self { begin: id(BEGIN)?, end: id(END)?, words: words.collect::<Result<_>>()? })
    }

    fn text(&self, length: usize, lot: &mut Lot) -> (Vec<u32>, String) {
        let drawn: Vec<&(String, u32)> =
            (2..length).map(|_| &self.words[lot.below(self.words.len())]).collect();
        let ids = drawn.iter().map(|(_, id)| *id);
        let ids = [self.begin].into_iter().chain(ids).chain([self.end]).collect();
        let words: Vec<&str> = drawn.iter().map(|(word, _)| word.as_str()).collect();
        (ids, words.join(" "))
    }
}

/// Numbers by lot (<https://en.wikipedia.org/wiki/Xorshift>).
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or_default() % bound
    }

    /// Between 0 and 1, neither included.
    fn share(&mut self) -> f64 {
        (f64::from(u32::try_from(self.next() >> 32).unwrap_or_default()) + 0.5) / 4_294_967_296.0
    }

    /// Tokens of a text as they come: lognormal, between 6 and 384.
    fn length(&mut self) -> usize {
        let angle = std::f64::consts::TAU * self.share();
        let normal = (-2.0 * self.share().ln()).sqrt() * angle.cos();
        let length = (62_f64.ln() + 0.732 * normal).exp().clamp(6.0, 384.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "6 to 384")]
        let length = length as usize;
        length
    }
}
