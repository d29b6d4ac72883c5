//! Asking the validation cases again while requests are served.
//!
//! A device can begin to compute wrongly long after a start. So every case is asked again, one
//! after the other, in rounds that never overlap; each gives way to requests. What an answer means
//! is decided in `verdict`; what is confirmed to be wrong ends the worker.

mod verdict;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_engine::validation::{self, Case, Outcome};
use lamplighter_engine::{Output, Text, TooLong};
use lamplighter_protocol::{Failure, ModelKey, Reason};
use tokio::sync::Notify;

use crate::board::Board;
use crate::registry::{Model, Registry, Served};
use crate::run::{Class, Order, OwnedText, RunError, Runner, is_non_finite};
pub use verdict::{Answer, CaseId, Next, Suspects};

/// Longer than any case takes whose batches each give way to requests for as long as they may.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two questions to an engine that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a round at once. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Trigger(Arc<Notify>);

impl Trigger {
    /// A round begins now or, if one is running, right after it.
    pub fn pull(&self) {
        self.0.notify_one();
    }

    /// When the next round is due. Without an interval, only when someone asks for it.
    async fn due(&self, interval: Option<Duration>) {
        match interval {
            Some(interval) => {
                tokio::select! {
                    () = self.0.notified() => {}
                    () = tokio::time::sleep(interval) => {}
                }
            }
            None => self.0.notified().await,
        }
    }
}

/// Asks the cases in rounds until a wrong answer is confirmed; returns why the worker must end.
///
/// A round asks the models that are served when it begins. One that is unloaded meanwhile is asked
/// no further, so that its memory is not held.
pub async fn until_wrong(
    served: &Served,
    runner: &Runner,
    board: &Board,
    interval: Option<Duration>,
) -> Failure {
    let mut suspects = Suspects::default();
    loop {
        board.revalidation_trigger().due(interval).await;
        let begun = Instant::now();
        match round(served, runner, board, &mut suspects).await {
            Ok(ended) => board.round_ended(begun, &ended),
            Err(failed) => return failed,
        }
    }
}

/// What a round found that confirmed nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Round {
    /// There is a case, and every case's last answer was right.
    pub all_right: bool,
    /// The models with cases all of which were asked and answered rightly.
    pub right: BTreeSet<ModelKey>,
}

async fn round(
    served: &Served,
    runner: &Runner,
    board: &Board,
    suspects: &mut Suspects,
) -> Result<Round, Failure> {
    let models: Vec<(ModelKey, usize)> = asked(served);
    suspects.forget_all_but(|(key, _)| models.iter().any(|(asked, _)| asked == key));
    let with_cases = models.iter().filter(|(_, cases)| *cases > 0);
    let mut right: BTreeSet<ModelKey> = with_cases.map(|(key, _)| key.clone()).collect();
    let mut all_right = !right.is_empty();
    for (key, index) in
        models.iter().flat_map(|(key, cases)| (0..*cases).map(move |index| (key, index)))
    {
        let Some(model) = current(served, key) else {
            right.remove(key);
            continue;
        };
        let Some(case) = model.cases.get(index) else {
            right.remove(key);
            continue;
        };
        let id = (key.clone(), index);
        let (answer, next) = tokio::select! {
            answered = until_judged(runner, board, &model, case, suspects, &id) => answered,
            () = unloaded(served, &model) => {
                right.remove(key);
                continue;
            }
        };
        if next == Next::Confirmed {
            return Err(confirmed(&model.key, &case.name, &answer));
        }
        if answer != Answer::Right {
            all_right = false;
            right.remove(key);
        }
    }
    Ok(Round { all_right, right })
}

/// Asks a case as often as its answers ask for it: at most a few times.
async fn until_judged(
    runner: &Runner,
    board: &Board,
    model: &Arc<Model>,
    case: &Case,
    suspects: &mut Suspects,
    id: &CaseId,
) -> (Answer, Next) {
    loop {
        let answer = ask_and_tell(runner, board, model, case).await;
        match suspects.judge(id, &answer) {
            Next::AskAgain => {}
            Next::AskLater => tokio::time::sleep(PAUSE).await,
            next @ (Next::GoOn | Next::Confirmed) => return (answer, next),
        }
    }
}

/// Each model of the moment, and how many cases it has.
fn asked(served: &Served) -> Vec<(ModelKey, usize)> {
    let of = |model: &Arc<Model>| (model.key.clone(), model.cases.len());
    let registry = served.borrow();
    registry.iter().flat_map(|registry| registry.models().iter().map(of)).collect()
}

fn current(served: &Served, key: &ModelKey) -> Option<Arc<Model>> {
    served.borrow().as_ref()?.get(key).map(Arc::clone)
}

/// Waits until this very model is served no more.
async fn unloaded(served: &Served, model: &Arc<Model>) {
    let is_gone = |registry: &Option<Arc<Registry>>| {
        let now = registry.as_ref().and_then(|registry| registry.get(&model.key));
        now.is_none_or(|now| !Arc::ptr_eq(now, model))
    };
    if served.clone().wait_for(is_gone).await.is_err() {
        // Whoever could unload it is gone.
        std::future::pending::<()>().await;
    }
}

async fn ask_and_tell(runner: &Runner, board: &Board, model: &Arc<Model>, case: &Case) -> Answer {
    let answer = tokio::time::timeout(PATIENCE, ask(runner, model, case)).await;
    let answer = answer.unwrap_or_else(|_| Answer::Inconclusive {
        problem: format!("no answer within {} s", PATIENCE.as_secs()),
    });
    let (model, case) = (&model.key, &case.name);
    match &answer {
        Answer::Right => tracing::debug!(%model, case, "asked again: right"),
        Answer::Wrong { expected, found } => {
            tracing::warn!(%model, case, expected, found, "asked again: wrong");
        }
        Answer::Failed { problem } => {
            tracing::warn!(%model, case, problem, "asked again: the engine failed");
        }
        Answer::Inconclusive { problem } => {
            tracing::warn!(%model, case, problem, "asked again: no answer");
        }
    }
    board.asked_again(model, &answer);
    answer
}

/// The engine's own check of the case, on answers that were computed before: the check itself
/// waits for nothing.
async fn ask(runner: &Runner, model: &Arc<Model>, case: &Case) -> Answer {
    let gives = &model.engine.facts().gives;
    let answers = match answers(runner, model, &case.check.questions(gives)).await {
        Ok(answers) => answers,
        Err(error) => return without_answer(&error),
    };
    // What is asked now are the questions that were asked above, in the same order.
    match validation::run(std::slice::from_ref(case), gives, &|_| Ok(answers.clone())).pop() {
        Some(Outcome { passed: true, .. }) => Answer::Right,
        Some(Outcome { expected, found, .. }) => Answer::Wrong { expected, found },
        None => Answer::Inconclusive { problem: "the case was not asked".to_owned() },
    }
}

/// What an error says of a model that had answered the same question before.
fn without_answer(error: &RunError) -> Answer {
    let problem = error.to_string();
    match error {
        error if is_non_finite(error) => {
            Answer::Wrong { expected: "finite numbers".to_owned(), found: problem }
        }
        RunError::QueueFull { .. } | RunError::QueueTooLong { .. } | RunError::Expired => {
            Answer::Inconclusive { problem }
        }
        _ => Answer::Failed { problem },
    }
}

async fn answers(
    runner: &Runner,
    model: &Arc<Model>,
    questions: &[Text<'_>],
) -> Result<Vec<Vec<f32>>, RunError> {
    let output = model.engine.facts().gives.output();
    if output == Output::Vector {
        let texts = questions.iter().map(|question| match *question {
            Text::One(text) | Text::Pair(text, _) => text.to_owned(),
        });
        return runner.embed_giving_way(model, texts.collect()).await;
    }
    let texts = questions.iter().map(|question| match *question {
        Text::One(text) => OwnedText::One(text.into()),
        Text::Pair(first, second) => OwnedText::Pair(first.into(), second.into()),
    });
    let tokens = runner.split(model, texts.collect(), TooLong::Refuse).await?;
    runner.run(model, tokens, Order { output, class: Class::Idle, deadline: None }).await
}

fn confirmed(model: &ModelKey, case: &str, answer: &Answer) -> Failure {
    let (what, expected, found) = match answer {
        Answer::Wrong { expected, found } => {
            ("got a wrong answer twice in a row", Some(expected.clone()), Some(found.clone()))
        }
        Answer::Failed { problem } => {
            ("made the engine fail three times in a row", None, Some(problem.clone()))
        }
        Answer::Right | Answer::Inconclusive { .. } => ("got no answer", None, None),
    };
    let message = format!(
        "validation case {case:?} {what}, from a model that was right before; the device or its \
         memory may be faulty"
    );
    Failure { expected, found, ..Failure::new(Reason::RevalidationFailed, message) }
        .with_model(model.clone())
}
