//! Models in memory: load, run, warm up, validate.
//!
//! Loading has three phases, timed apart because they wait for different things:
//!
//! ```text
//! read ─────▶ Weights ──┐
//!             floats    ├──build──▶ Built ──────transfer──▶ Box<dyn Engine>
//! prepare ──▶ Prepared ─┘           checked, complete      on its device, ready to run
//!             tokenizer, settings
//! ```
//!
//! What decides an output — layers, activation, pooling, normalisation, longest text — is read
//! from the artifact's own files and never guessed: what is missing or unknown is an
//! [`EngineError`] that names the file. The types here know nothing of the library that does
//! the arithmetic, of HTTP or of an async runtime: an [`Engine`] is called from any thread and
//! blocks it.

mod batch;
mod candle;
mod classifier;
mod config;
mod cpu;
mod cuda;
mod describe;
mod encoder;
mod error;
mod finish;
mod floats;
pub mod golden;
mod inputs;
mod layout;
mod load;
mod matryoshka;
mod memory;
mod module;
mod pooling;
mod projection;
mod recipe;
mod scale;
mod sentence;
mod tokenizer;
pub mod validation;
mod vocabulary;
pub mod warmup;
mod weights;

use std::ops::Range;

pub use batch::{answer_texts, embed_texts};
pub use cpu::WrongProduct;
pub use cpu::kernel::{Kernel, NoSuchKernel, Precision, WrongKernel};
pub use cpu::team::Cores;
pub use describe::{Description, describe};
pub use error::EngineError;
pub use layout::TensorHeader;
pub use load::{
    Built, Prepared, Processor, build, prepare, reference, transfer, transfer_judged, transfer_to,
};
pub use pooling::Pooling;
pub use weights::{Weights, read};

/// One loaded model.
pub trait Engine: Send + Sync {
    /// What the model is.
    fn facts(&self) -> &Facts;

    /// How much may be given to [`Engine::embed`] at once.
    fn limits(&self) -> Limits;

    /// What it computes with.
    fn runtime(&self) -> Runtime;

    /// How near its precision came to 32-bit floats, where it has or might have had a lower one.
    fn compared(&self) -> Option<Compared> {
        None
    }

    /// Bytes of the host's memory that its weights take; none where they are elsewhere.
    fn bytes(&self) -> u64 {
        0
    }

    /// What has to run before runs cost what they will cost.
    fn coldness(&self) -> Coldness {
        Coldness::EachShape
    }

    /// Splits each text into tokens, with the special tokens that the model expects around them.
    ///
    /// A text of more than [`Facts::max_tokens`] is cut as `too_long` says, or an
    /// [`EngineError::TooLong`] that names the first such text.
    fn split(&self, texts: &[Text<'_>], too_long: TooLong) -> Result<Vec<Tokens>, EngineError>;

    /// The tokens of a text that may be of any length, for people to look at; with the special tokens
    /// around them if `special`. A text that has none is an [`EngineError::Untokenizable`] of index 0.
    fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, EngineError>;

    /// The text that tokens stand for, with what special ones are called if `special`. An id that is
    /// none of the vocabulary stands for nothing.
    fn join(&self, ids: &[u32], special: bool) -> Result<String, EngineError>;

    /// [`Engine::split`] of single texts, of which none may be too long.
    fn tokenize(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError> {
        let texts: Vec<Text<'_>> = texts.iter().map(|text| Text::One(text)).collect();
        self.split(&texts, TooLong::Refuse)
    }

    /// The output of each text, in order. All numbers are finite.
    ///
    /// The batch must respect [`Engine::limits`]; a larger one is an
    /// [`EngineError::BatchTooLarge`]. An output that the model does not have is an
    /// [`EngineError::NoSuchOutput`]. A text's output does not depend on its company: on the
    /// processor to the last bit, on a GPU up to the noise of rounding.
    fn run(&self, batch: &[Tokens], output: Output) -> Result<Vec<Vec<f32>>, EngineError>;

    /// [`Engine::run`] for vectors of texts.
    fn embed(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>, EngineError> {
        self.run(batch, Output::Vector)
    }
}

/// What is to come out of a run, for each text.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Output {
    /// One vector of the model's dimensions, pooled and normalised as the artifact says.
    Vector,
    /// The vectors of all its tokens, one after the other: tokens times the network's width.
    TokenVectors,
    /// One number for each label, as the head gives it: no sigmoid, no softmax.
    Scores,
}

/// What a model reads: a text, or two that it looks at together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Text<'a> {
    /// A text.
    One(&'a str),
    /// A query and a passage, say.
    Pair(&'a str, &'a str),
}

/// What becomes of a text that is longer than the model reads.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TooLong {
    /// It is refused.
    Refuse,
    /// It loses its end. Of a pair, the longer one is cut.
    CutEnd,
    /// It loses its beginning. Of a pair, the longer one is cut.
    CutStart,
}

/// What a model is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The architecture as `config.json` names it.
    pub architecture: String,
    /// Rows of the embedding table: every token id is below it.
    pub vocabulary: usize,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    /// Numbers of a token's vector.
    pub width: usize,
    /// Number of weights: the elements of all floating-point tensors in the weight files, also
    /// of those that no output depends on, such as a pooler.
    pub parameters: u64,
    /// What comes out.
    pub gives: Gives,
    /// The number format in which the artifact stores its weights, whatever they run in.
    pub dtype: Dtype,
}

/// What a model makes of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Gives {
    /// [`Output::Vector`] and [`Output::TokenVectors`].
    Vectors {
        /// Length of a text's vector.
        dimensions: usize,
        /// How token vectors become one.
        pooling: Pooling,
        /// Whether a text's vector has length 1.
        normalized: bool,
        /// The shorter lengths that the artifact declares to have been trained for, rising; none
        /// where it does not declare any. See [`Gives::shorten`].
        matryoshka: Vec<usize>,
    },
    /// [`Output::Scores`].
    Scores {
        /// Names of the numbers, in order.
        labels: Vec<String>,
        /// What the artifact wants to be done with them.
        scale: Scale,
    },
}

impl Gives {
    /// How many numbers come out for a text: a vector's dimensions, or the labels.
    pub fn numbers(&self) -> usize {
        match self {
            Self::Vectors { dimensions, .. } => *dimensions,
            Self::Scores { labels, .. } => labels.len(),
        }
    }
}

/// How a head's numbers become scores.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scale {
    /// As they are.
    Raw,
    /// Each on its own, between 0 and 1.
    Sigmoid,
    /// All together, so that they sum to 1.
    Softmax,
}

/// A number format of stored weights.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with 10 bits of fraction.
    F16,
    /// 16-bit floating point with 7 bits of fraction.
    BF16,
}

/// What a model computes with.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Runtime {
    /// The code by name, for example `avx2-f32`.
    pub kernel: String,
    /// What it multiplies and sums in.
    pub precision: Precision,
}

/// What came of comparing a kernel of lower precision than 32-bit floats with one of 32-bit floats, on
/// the same weights. The model computes with it only if it was near enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The kernel of lower precision.
    pub kernel: String,
    /// Whether an answer that is right in 32-bit floats was not: see [`transfer_judged`].
    pub is_wrong: bool,
    /// The smallest cosine, of all texts of the comparison, between what the two made of a text; 0
    /// where one of them made nothing of it that is finite.
    pub cosine: f64,
}

impl Compared {
    /// The smallest cosine that is near enough.
    pub const LEAST: f64 = 0.9999;

    /// Whether the kernel of lower precision came near enough.
    pub fn is_near(&self) -> bool {
        self.cosine >= Self::LEAST
    }

    /// Whether it will do.
    pub fn will_do(&self) -> bool {
        self.is_near() && !self.is_wrong
    }
}

/// How much an engine takes at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Number of tokens of all texts, counted as [`Limits::shape`] says.
    pub max_batch_tokens: usize,
    /// Number of texts.
    pub max_batch_texts: usize,
    /// How texts lie beside each other.
    pub shape: Shape,
}

/// How the texts of a batch lie in memory, and so what they cost together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Shape {
    /// One after the other: a batch costs the sum of their tokens.
    Packed,
    /// Each as long as the longest: a batch costs the number of texts times the longest one's
    /// tokens.
    Padded,
}

/// What the first runs of an engine cost that later ones do not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Coldness {
    /// Code is chosen, compiled or tuned for each shape when it runs first.
    EachShape,
    /// One code runs every shape. What is cold is memory, of which the largest batch takes most.
    Memory,
}

/// A text as the model reads it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tokens {
    /// Indices into the model's vocabulary, special tokens included.
    pub ids: Vec<u32>,
    /// Of a pair, where the second text's tokens begin, if the model tells them apart.
    pub second: Option<usize>,
    /// Whether the text was cut.
    pub truncated: bool,
}

/// A token, for people to look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Its index into the model's vocabulary.
    pub id: u32,
    /// The part of the text that it stands for, where it holds whole characters; of a special token,
    /// its name.
    pub text: String,
    /// Which bytes of the text it stands for; none of a special token, which stands around it. Of a
    /// model that reads lower case, they are those of the text in lower case.
    pub place: Option<Range<usize>>,
}

impl Tokens {
    /// Of a single text that was not cut.
    pub fn of(ids: Vec<u32>) -> Self {
        Self { ids, second: None, truncated: false }
    }
}

/// Where a model runs. A device that is missing is an error, never a fallback.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

impl Device {
    /// Whether models can run there: a GPU runs something, which may take some seconds the first time.
    ///
    /// # Errors
    /// [`EngineError::DeviceUnavailable`], with what is missing.
    pub fn check(self) -> Result<(), EngineError> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda => cuda::first_gpu().map(drop),
        }
    }
}
