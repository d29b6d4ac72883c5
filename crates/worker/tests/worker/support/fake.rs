//! An engine that answers from the tokens alone, and misbehaves on demand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use lamplighter_engine::{
    Dtype, Engine, EngineError, Facts, Gives, Limits, Output, Piece, Pooling, Precision, Runtime,
    Scale, Shape, Text, Tokens, TooLong,
};

use super::DEADLINE;

pub(crate) const DIMENSIONS: usize = 3;
pub(crate) const MAX_TOKENS: usize = 16;
pub(crate) const VOCABULARY: usize = 1_000;

/// Token of a text that makes the engine answer with NaN.
const NAN: u32 = 900;
/// ... panic.
const PANIC: u32 = 901;
/// ... fail.
const FAIL: u32 = 902;
/// ... wait until [`Fake::release`].
const WAIT: u32 = 903;
/// ... answer wrongly after [`Fake::turn_wrong`].
const CHECK: u32 = 904;
/// Brackets around the words of a text that is looked at.
pub(crate) const OPEN: u32 = 905;
pub(crate) const CLOSE: u32 = 906;

pub(crate) struct Fake {
    facts: Facts,
    precision: Precision,
    released: Mutex<bool>,
    changed: Condvar,
    pub(crate) largest_batch: Mutex<usize>,
    /// The token ids of the texts that were answered, in order.
    pub(crate) answered: Mutex<Vec<Vec<u32>>>,
    /// How many texts were split.
    pub(crate) split: AtomicUsize,
    wrong: AtomicUsize,
    waits: AtomicBool,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::giving(Gives::Vectors {
            dimensions: DIMENSIONS,
            pooling: Pooling::Mean,
            normalized: false,
            matryoshka: Vec::new(),
        })
    }

    /// Gives vectors of so many numbers for tokens, which are those of [`token`] again and again.
    pub(crate) fn wide(width: usize) -> Self {
        let mut wide = Self::new();
        wide.facts.width = width;
        wide
    }

    /// Says that it computes in this precision.
    pub(crate) fn computing_in(precision: Precision) -> Self {
        Self { precision, ..Self::new() }
    }

    /// Gives scores, as [`scores`] has them.
    pub(crate) fn scoring(labels: &[&str], scale: Scale) -> Self {
        let labels = labels.iter().map(ToString::to_string).collect();
        Self::giving(Gives::Scores { labels, scale })
    }

    pub(crate) fn giving(gives: Gives) -> Self {
        Self {
            facts: Facts {
                architecture: "Fake".to_owned(),
                max_tokens: MAX_TOKENS,
                width: DIMENSIONS,
                parameters: 1,
                vocabulary: VOCABULARY,
                gives,
                dtype: Dtype::F32,
            },
            precision: Precision::F32,
            released: Mutex::new(false),
            changed: Condvar::new(),
            largest_batch: Mutex::new(0),
            answered: Mutex::default(),
            split: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
        }
    }

    /// Answers wrongly to the next so many texts with `check`.
    pub(crate) fn turn_wrong(&self, times: usize) {
        self.wrong.store(times, Ordering::Relaxed);
    }

    fn is_wrong(&self) -> bool {
        let less = |times: usize| times.checked_sub(1);
        self.wrong.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// How many texts of these words were answered.
    pub(crate) fn times_answered(&self, text: &str) -> usize {
        let ids = ids(text);
        self.answered.lock().unwrap().iter().filter(|answered| **answered == ids).count()
    }

    /// Until a text `wait` is being computed: what comes later is not in one batch with it.
    pub(crate) async fn waits(&self) {
        let begun = async {
            while !self.waits.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, begun).await.expect("the engine is asked to wait");
    }

    /// Lets every text `wait` be answered, now and later.
    pub(crate) fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        self.waits.store(true, Ordering::Relaxed);
        let held = self.released.lock().unwrap();
        let (released, _) =
            self.changed.wait_timeout_while(held, DEADLINE, |released| !*released).unwrap();
        assert!(*released, "nobody released the engine");
    }
}

/// What the engine answers to a text of these words.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    answer(&ids(text))
}

/// What the engine's head gives to a text, or to the second of a pair: a tenth of the sum of its
/// words' lengths, and one less for each label.
pub(crate) fn scores(text: &str, labels: usize) -> Vec<f32> {
    heads(&ids(text), labels)
}

fn heads(ids: &[u32], labels: usize) -> Vec<f32> {
    let sum = f32::from(u16::try_from(ids.iter().sum::<u32>()).unwrap());
    (0..labels).map(|label| sum / 10.0 - f32::from(u8::try_from(label).unwrap())).collect()
}

/// What the engine gives to each of a text's tokens.
fn token(id: u32) -> [f32; DIMENSIONS] {
    let id = f32::from(u16::try_from(id).unwrap());
    [id, id / 2.0, -id]
}

fn answer(ids: &[u32]) -> Vec<f32> {
    let count = f32::from(u16::try_from(ids.len()).unwrap());
    let sum: u32 = ids.iter().sum();
    let sum = f32::from(u16::try_from(sum).unwrap());
    vec![sum, count, 0.1 + sum / 3.0]
}

/// One token for each word: its length, unless it is one of the words that misbehave.
fn ids(text: &str) -> Vec<u32> {
    let id = |word: &str| match word {
        "nan" => NAN,
        "panic" => PANIC,
        "fail" => FAIL,
        "wait" => WAIT,
        "check" => CHECK,
        word => u32::try_from(word.len()).unwrap(),
    };
    text.split_whitespace().map(id).collect()
}

impl Engine for Fake {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn limits(&self) -> Limits {
        Limits { max_batch_tokens: 24, max_batch_texts: 4, shape: Shape::Padded }
    }

    fn runtime(&self) -> Runtime {
        Runtime { kernel: "fake".to_owned(), precision: self.precision }
    }

    fn split(&self, texts: &[Text<'_>], too_long: TooLong) -> Result<Vec<Tokens>, EngineError> {
        self.split.fetch_add(texts.len(), Ordering::Relaxed);
        let tokens = texts.iter().enumerate().map(|(index, text)| {
            let (mut ids, second) = match text {
                Text::One(text) => (ids(text), None),
                Text::Pair(first, second) => {
                    let first = ids(first);
                    let begin = first.len();
                    ([first, ids(second)].concat(), Some(begin))
                }
            };
            let tokens = ids.len();
            let truncated = tokens > MAX_TOKENS;
            match too_long {
                _ if tokens == 0 => {
                    let problem = "it gives no token".to_owned();
                    return Err(EngineError::Untokenizable { index, problem });
                }
                TooLong::Refuse if truncated => {
                    return Err(EngineError::TooLong { index, tokens, limit: MAX_TOKENS });
                }
                TooLong::CutStart if truncated => drop(ids.drain(..tokens - MAX_TOKENS)),
                _ => ids.truncate(MAX_TOKENS),
            }
            Ok(Tokens { ids, second, truncated })
        });
        tokens.collect()
    }

    /// Each word, with brackets around all of them.
    fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, EngineError> {
        let bracket = |text: &str, id| Piece { id, text: text.to_owned(), place: None };
        let mut pieces = vec![bracket("[", OPEN)];
        pieces.extend(text.split_whitespace().map(|word| {
            let begin = word.as_ptr().addr() - text.as_ptr().addr();
            let place = Some(begin..begin + word.len());
            Piece { id: ids(word)[0], text: word.to_owned(), place }
        }));
        pieces.push(bracket("]", CLOSE));
        pieces.retain(|piece| special || piece.place.is_some());
        Ok(pieces)
    }

    /// A dash for each letter of a word.
    fn join(&self, ids: &[u32], special: bool) -> Result<String, EngineError> {
        let words =
            ids.iter().filter(|id| special || ![OPEN, CLOSE].contains(id)).map(|id| match *id {
                OPEN => "[".to_owned(),
                CLOSE => "]".to_owned(),
                id => "-".repeat(usize::try_from(id).unwrap()),
            });
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    fn run(&self, batch: &[Tokens], output: Output) -> Result<Vec<Vec<f32>>, EngineError> {
        let longest = batch.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let tokens = longest * batch.len();
        if tokens > 24 || batch.len() > 4 {
            return Err(EngineError::BatchTooLarge {
                texts: batch.len(),
                tokens,
                limits: self.limits(),
            });
        }
        let mut largest = self.largest_batch.lock().unwrap();
        *largest = batch.len().max(*largest);
        drop(largest);
        let vectors = batch.iter().map(|text| {
            let has = |id: u32| text.ids.contains(&id);
            assert!(!has(PANIC), "the fake engine was told to panic");
            if has(WAIT) {
                self.wait();
            }
            if has(FAIL) {
                return Err(EngineError::Run { source: "the index is out of range".into() });
            }
            self.answered.lock().unwrap().push(text.ids.clone());
            let mut vector = match (output, &self.facts.gives) {
                (Output::Vector, Gives::Vectors { .. }) => answer(&text.ids),
                (Output::TokenVectors, Gives::Vectors { .. }) => {
                    let wide = |id: &u32| token(*id).into_iter().cycle().take(self.facts.width);
                    text.ids.iter().flat_map(wide).collect()
                }
                (Output::Scores, Gives::Scores { labels, .. }) => {
                    heads(&text.ids[text.second.unwrap_or(0)..], labels.len())
                }
                _ => return Err(EngineError::NoSuchOutput { output }),
            };
            if has(CHECK) && self.is_wrong() {
                vector = vector.iter().map(|number| -number).collect();
            }
            if has(NAN) {
                vector[0] = f32::NAN;
            }
            Ok(vector)
        });
        vectors.collect()
    }
}

/// A fake that the test keeps, as an engine that a worker can drop.
pub(crate) struct Lent(pub(crate) Arc<Fake>);

impl Engine for Lent {
    fn facts(&self) -> &Facts {
        self.0.facts()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn runtime(&self) -> Runtime {
        self.0.runtime()
    }

    fn split(&self, texts: &[Text<'_>], too_long: TooLong) -> Result<Vec<Tokens>, EngineError> {
        self.0.split(texts, too_long)
    }

    fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, EngineError> {
        self.0.pieces(text, special)
    }

    fn join(&self, ids: &[u32], special: bool) -> Result<String, EngineError> {
        self.0.join(ids, special)
    }

    fn run(&self, batch: &[Tokens], output: Output) -> Result<Vec<Vec<f32>>, EngineError> {
        self.0.run(batch, output)
    }
}
