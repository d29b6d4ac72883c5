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
mod bert;
mod config;
mod cpu;
mod describe;
mod encoder;
mod error;
mod floats;
pub mod golden;
mod layout;
mod load;
mod memory;
mod pooling;
mod sentence;
mod tokenizer;
pub mod validation;
mod vocabulary;
pub mod warmup;
mod weights;

pub use batch::embed_texts;
pub use describe::{Description, describe};
pub use error::EngineError;
pub use layout::TensorHeader;
pub use load::{Built, Prepared, build, prepare, transfer};
pub use pooling::Pooling;
pub use weights::{Weights, read};

/// One loaded model.
pub trait Engine: Send + Sync {
    /// What the model is.
    fn facts(&self) -> &Facts;

    /// How much may be given to [`Engine::embed`] at once.
    fn limits(&self) -> Limits;

    /// What has to run before runs cost what they will cost.
    fn coldness(&self) -> Coldness {
        Coldness::EachShape
    }

    /// Splits each text into tokens, with the special tokens that the model expects around them.
    ///
    /// A text of more than [`Facts::max_tokens`] is an [`EngineError::TooLong`] that names the
    /// first such text.
    fn tokenize(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError>;

    /// As [`Engine::tokenize`], but longer texts lose their end and are marked. An engine that
    /// cannot do that refuses them.
    fn tokenize_truncated(&self, texts: &[&str]) -> Result<Vec<Tokens>, EngineError> {
        self.tokenize(texts)
    }

    /// One vector of [`Facts::dimensions`] for each text, in order, pooled and normalised as the
    /// artifact says. All numbers are finite.
    ///
    /// The batch must respect [`Engine::limits`]; a larger one is an
    /// [`EngineError::BatchTooLarge`]. A text's vector does not depend on its company beyond
    /// the noise of rounding.
    fn embed(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>, EngineError>;
}

/// What a model is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The architecture as `config.json` names it.
    pub architecture: String,
    /// Rows of the embedding table: every token id is below it.
    pub vocabulary: usize,
    /// Length of an output vector.
    pub dimensions: usize,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    /// Number of weights: the elements of all floating-point tensors in the weight files, also
    /// of those that no output depends on, such as a head.
    pub parameters: u64,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether output vectors have length 1.
    pub normalized: bool,
    /// The number format in which the artifact stores its weights; they run as [`Dtype::F32`].
    pub dtype: Dtype,
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

/// How much an engine takes at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Number of texts times the longest one's tokens: the batch as a rectangle.
    pub max_batch_tokens: usize,
    /// Number of texts.
    pub max_batch_texts: usize,
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
    /// Whether the text's end was cut off.
    pub truncated: bool,
}

/// Where a model runs. A device that is missing is an error, never a fallback.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}
