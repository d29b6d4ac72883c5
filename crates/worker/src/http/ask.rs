//! How every route asks a model: which one is meant, room in the queue, tokens, the run, and the
//! time that all of it may take. No route touches the [`crate::run::Runner`] but through this.

use std::sync::Arc;

use lamplighter_engine::{Gives, Output, Piece, TooLong};
use tokio::time::Instant;

use super::App;
use super::budget::Share;
use super::deadline::Deadline;
use super::error::ApiError;
use super::te_metrics::Took;
use super::{ids, reply};
use crate::registry::{Model, Registry};
use crate::run::{Class, Order, OwnedText, RunError};

/// The most numbers that vectors of tokens may have together: about 50 MB as JSON.
const MAX_TOKEN_NUMBERS: usize = 4 << 20;

/// What a route needs a model for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Needs {
    /// Vectors of texts or of tokens.
    Vectors,
    /// Numbers with names.
    Scores,
    /// One number for a pair of texts.
    Relevance,
    /// Whatever it gives.
    Anything,
}

/// What is asked about.
pub(super) enum Question {
    Texts(Vec<OwnedText>, TooLong),
    /// Tokens of the client's own.
    Tokens(Vec<Vec<u32>>, TooLong),
}

/// What came out.
#[derive(Debug)]
pub(super) struct Answer {
    /// One output for each text, in order.
    pub(super) outputs: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub(super) tokens: usize,
    /// Of the outputs, and of the answer that is made of them.
    pub(super) share: Share,
}

impl Answer {
    /// How many numbers there are for each token, where there are vectors of tokens.
    pub(super) fn width(&self) -> usize {
        let numbers: usize = self.outputs.iter().map(Vec::len).sum();
        (numbers / self.tokens.max(1)).max(1)
    }
}

/// A request as far as every route needs it.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) app: &'a App,
    pub(super) deadline: Deadline,
    /// Bytes of the request that come back with the answer.
    repeated: usize,
}

impl Needs {
    fn are_met_by(self, gives: &Gives) -> bool {
        match (self, gives) {
            (Self::Anything, _)
            | (Self::Vectors, Gives::Vectors { .. })
            | (Self::Scores, Gives::Scores { .. }) => true,
            (Self::Relevance, Gives::Scores { labels, .. }) => labels.len() == 1,
            (Self::Vectors, Gives::Scores { .. })
            | (Self::Scores | Self::Relevance, Gives::Vectors { .. }) => false,
        }
    }

    fn refusal(self, model: &Model) -> ApiError {
        let key = &model.key;
        let message = match (self, gives(model)) {
            (Self::Vectors, _) => format!(
                "the model {key} gives scores and no vectors; ask it by /predict or /rerank"
            ),
            (_, Gives::Vectors { .. }) => {
                format!("the model {key} gives vectors and no scores; ask it by /v1/embeddings")
            }
            (_, Gives::Scores { labels, .. }) => format!(
                "the model {key} gives {} scores for each text and so no order; ask it by /predict",
                labels.len()
            ),
        };
        ApiError::wrong_model(message)
    }
}

/// The model of this name, if it gives what is needed.
///
/// Nothing else is held than the model, so that the others can be unloaded meanwhile.
pub(super) fn named(app: &App, name: &str, needs: Needs) -> Result<Arc<Model>, ApiError> {
    let registry = app.registry()?;
    let Some(model) = registry.resolve(name) else {
        return Err(ApiError::no_model(name, &served(&registry)));
    };
    let fits = needs.are_met_by(gives(model));
    if fits { Ok(Arc::clone(model)) } else { Err(needs.refusal(model)) }
}

/// The model that a request means which may name none: then the one that alone gives what is
/// needed, in its default version.
pub(super) fn meant(app: &App, name: Option<&str>, needs: Needs) -> Result<Arc<Model>, ApiError> {
    if let Some(name) = name {
        return named(app, name, needs);
    }
    let registry = app.registry()?;
    if let [only] = registry.models() {
        // Whatever it is called, nothing else can be meant.
        return named(app, &only.key.to_string(), needs);
    }
    let plain = || registry.names().filter(|(name, model)| *name == model.key.name);
    let mut fitting = plain().filter(|(_, model)| needs.are_met_by(gives(model)));
    if let (Some((_, model)), None) = (fitting.next(), fitting.next()) {
        return Ok(Arc::clone(model));
    }
    let mut plain = plain();
    if let (Some((name, _)), None) = (plain.next(), plain.next())
        && registry.models().iter().all(|model| model.key.name == name)
    {
        return named(app, name, needs);
    }
    let message = format!(
        "several models are served: name one in the field `model` or the header \
         `{MODEL_HEADER}`; served are {}",
        served(&registry)
    );
    Err(ApiError::invalid("model", "missing_required_parameter", message))
}

fn gives(model: &Model) -> &Gives {
    &model.engine.facts().gives
}

/// Names the model where a client cannot send a field of its own.
pub(super) const MODEL_HEADER: &str = "x-model";

fn served(registry: &Registry) -> String {
    let served: Vec<&str> = registry.names().map(|(name, _)| name).collect();
    served.join(", ")
}

impl<'a> Asker<'a> {
    pub(super) fn new(app: &'a App, deadline: Deadline) -> Self {
        Self { app, deadline, repeated: 0 }
    }

    /// The same for a request of which so many bytes come back with the answer.
    pub(super) fn repeating(self, repeated: usize) -> Self {
        Self { repeated, ..self }
    }

    /// Asks about the texts in the field `field`, within the request's time. All of them are
    /// admitted, or none is.
    pub(super) async fn ask(
        self,
        model: &Arc<Model>,
        output: Output,
        question: Question,
        field: &'static str,
    ) -> Result<Answer, ApiError> {
        let ran = self.deadline.within(self.run(model, output, question, field)).await;
        ran.map_err(|over| ApiError::out_of_time(over.seconds))?
    }

    /// The tokens of the texts in the field `inputs`, within the request's time, and the bytes that were
    /// set aside for an answer of at most `most`. They have places in the queue until then as those have
    /// that are to be computed.
    pub(super) async fn pieces(
        self,
        model: &Arc<Model>,
        question: Question,
        special: bool,
        most: usize,
    ) -> Result<(Vec<Vec<Piece>>, Share), ApiError> {
        const FIELD: &str = "inputs";
        let Self { app, deadline, .. } = self;
        question.check_count(app, FIELD)?;
        question.check_bytes(model, app.limits.bytes_per_token, FIELD)?;
        let share = reply::reserve(app, most, FIELD)?;
        let failed = |error: RunError| ApiError::of_run(&error, FIELD);
        let _admitted = app.runner.admit(question.len(), deadline.class()).map_err(failed)?;
        let Question::Texts(texts, _) = question else { return Ok((Vec::new(), share)) };
        let pieces = deadline.within(app.runner.pieces(model, texts, special)).await;
        let pieces = pieces.map_err(|over| ApiError::out_of_time(over.seconds))?.map_err(failed)?;
        Ok((pieces, share))
    }

    async fn run(
        self,
        model: &Arc<Model>,
        output: Output,
        question: Question,
        field: &'static str,
    ) -> Result<Answer, ApiError> {
        let Self { app, deadline, repeated } = self;
        let texts = question.len();
        question.check_count(app, field)?;
        question.check_bytes(model, app.limits.bytes_per_token, field)?;
        let failed = |error: RunError| ApiError::of_run(&error, field);
        let _admitted = app.runner.admit(texts, deadline.class()).map_err(failed)?;
        app.te.began(output, texts);
        let begun = Instant::now();
        let tokens = match question {
            Question::Texts(texts, too_long) => {
                app.runner.split(model, texts, too_long).await.map_err(failed)?
            }
            Question::Tokens(lists, too_long) => {
                ids::fitting(app, model, lists, too_long, field).await?
            }
        };
        let tokenizing = begun.elapsed();
        let lengths: Vec<usize> = tokens.iter().map(|text| text.ids.len()).collect();
        let count = lengths.iter().sum();
        if output == Output::TokenVectors {
            check_size(count, model, field)?;
        }
        let facts = model.engine.facts();
        let most = reply::most_bytes(output, &facts.gives, facts.width, &lengths, repeated);
        let share = reply::reserve(app, most, field)?;
        let class = Class::choose(deadline.class(), texts, count);
        let order = Order { output, class, deadline: Some(deadline.at()) };
        let outputs = app.runner.run(model, tokens, order).await.map_err(failed)?;
        let took = Took { tokenizing, all: deadline.elapsed() };
        app.te.answered(output, &lengths, &took);
        Ok(Answer { outputs, tokens: count, share })
    }
}

impl Question {
    /// Single texts, of which those that are too long are treated so.
    pub(super) fn singles(texts: Vec<String>, too_long: TooLong) -> Self {
        let texts = texts.into_iter().map(|text| OwnedText::One(text.into()));
        Self::Texts(texts.collect(), too_long)
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(texts, _) => texts.len(),
            Self::Tokens(lists, _) => lists.len(),
        }
    }

    /// Refuses more texts than ever have a place.
    fn check_count(&self, app: &App, field: &'static str) -> Result<(), ApiError> {
        let (texts, limit) = (self.len(), app.runner.limit());
        if texts <= limit {
            return Ok(());
        }
        let message = format!("{field} has {texts} texts, at most {limit} are taken");
        Err(ApiError::invalid(field, "invalid_input", message))
    }

    /// Refuses a text that would be split as a whole only to be refused then.
    ///
    /// How many tokens a text has at least cannot be said from its length: blanks are none, and a word
    /// that is too long for the vocabulary is one, however long it is. So this is a limit of its own.
    fn check_bytes(
        &self,
        model: &Model,
        bytes_per_token: usize,
        field: &'static str,
    ) -> Result<(), ApiError> {
        let Self::Texts(texts, TooLong::Refuse) = self else { return Ok(()) };
        let tokens = model.engine.facts().max_tokens;
        let limit = tokens.saturating_mul(bytes_per_token);
        match texts.iter().position(|text| text.bytes() > limit) {
            None => Ok(()),
            Some(index) => Err(ApiError::text_too_large(field, index, texts[index].bytes(), limit)),
        }
    }
}

/// Vectors of tokens are many more numbers than what was sent.
fn check_size(tokens: usize, model: &Model, field: &'static str) -> Result<(), ApiError> {
    let numbers = tokens.saturating_mul(model.engine.facts().width);
    if numbers <= MAX_TOKEN_NUMBERS {
        return Ok(());
    }
    let message = format!(
        "{field} has {tokens} tokens, whose vectors are {numbers} numbers; an answer has at most \
         {MAX_TOKEN_NUMBERS}: send fewer texts at once"
    );
    Err(ApiError::invalid(field, "invalid_input", message))
}
