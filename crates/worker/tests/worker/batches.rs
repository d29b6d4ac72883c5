//! Requests share batches and threads, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_engine::{EngineError, Output, Tokens, TooLong};
use lamplighter_worker::metrics::Metrics;
use lamplighter_worker::registry::Model;
use lamplighter_worker::run::{Class, Order, OwnedText, RunError, Runner};
use tokio::task::JoinHandle;

use crate::metrics::parse;
use crate::support::fake::{Fake, vector};
use crate::support::{self, DEADLINE, manifest, model};

/// How long a token takes in the test that needs a slow engine.
const SLOW: Duration = Duration::from_millis(200);

type Asked = JoinHandle<Result<Vec<Vec<f32>>, RunError>>;

/// One thread, which two models share.
struct One {
    runner: Arc<Runner>,
    registry: lamplighter_telemetry::metrics::Registry,
    engines: [Arc<Fake>; 2],
    models: [Arc<Model>; 2],
}

impl One {
    fn new() -> Self {
        Self::of("embedder:1")
    }

    /// The first model has this name.
    fn of(first: &str) -> Self {
        let mut registry = lamplighter_telemetry::metrics::Registry::default();
        let runner = Arc::new(Runner::new(1, 100, Metrics::new(&mut registry)).unwrap());
        let engines = [Arc::new(Fake::new()), Arc::new(Fake::new())];
        let entries = manifest(&[first, "other:1"]).models;
        let models = [0, 1].map(|at| Arc::new(model(&entries[at], Arc::clone(&engines[at]))));
        Self { runner, registry, engines, models }
    }

    /// Asks a model, after its text became tokens.
    async fn ask(&self, model: usize, text: &str, class: Class, time: Option<Duration>) -> Asked {
        let (runner, model) = (Arc::clone(&self.runner), Arc::clone(&self.models[model]));
        let tokens = self.tokens(&model, text).await;
        let deadline = time.map(|time| tokio::time::Instant::now() + time);
        let order = Order { output: Output::Vector, class, deadline };
        let asked = tokio::spawn(async move { runner.run(&model, vec![tokens], order).await });
        // It stands in the queue when this one goes on.
        tokio::task::yield_now().await;
        asked
    }

    async fn tokens(&self, model: &Arc<Model>, text: &str) -> Tokens {
        let texts = vec![OwnedText::One(text.into())];
        self.runner.split(model, texts, TooLong::Refuse).await.unwrap().remove(0)
    }

    async fn interactive(&self, text: &str) -> Asked {
        self.ask(0, text, Class::Interactive, None).await
    }

    /// Keeps the thread busy until the second model's engine is released.
    async fn busy(&self) -> Asked {
        let busy = self.ask(1, "wait", Class::Interactive, None).await;
        self.engines[1].waits().await;
        busy
    }

    fn release(&self) {
        self.engines[1].release();
    }

    fn sample(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let samples = parse(&text);
        samples.get(&format!("lamplighter_worker_{name}")).copied().unwrap_or(0.0)
    }
}

async fn answer(asked: Asked) -> Result<Vec<Vec<f32>>, RunError> {
    tokio::time::timeout(DEADLINE, asked).await.expect("an answer").unwrap()
}

#[tokio::test]
async fn texts_of_several_requests_are_computed_together() {
    let one = One::new();
    let busy = one.busy().await;
    let texts = ["a", "a lamp", "a lamp burns"];
    let mut asked = Vec::new();
    for text in texts {
        asked.push(one.interactive(text).await);
    }
    one.release();
    for (text, asked) in texts.iter().zip(asked) {
        assert_eq!(answer(asked).await.unwrap(), [vector(text)]);
    }
    assert_eq!(answer(busy).await.unwrap(), [vector("wait")]);
    assert_eq!(*one.engines[0].largest_batch.lock().unwrap(), 3);
    let tokens = r#"batch_tokens_sum{model="embedder:1"}"#;
    assert!((one.sample(tokens) - 6.0).abs() < 1e-9);
    assert!((one.sample(r#"queued_tokens{model="embedder:1"}"#)).abs() < 1e-9);
}

#[tokio::test]
async fn a_request_whose_client_is_gone_never_reaches_the_engine() {
    let one = One::new();
    let busy = one.busy().await;
    let gone = one.interactive("a lamp").await;
    let stays = one.interactive("a").await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    one.release();
    answer(stays).await.unwrap();
    answer(busy).await.unwrap();
    assert_eq!(one.engines[0].times_answered("a lamp"), 0);
    assert!((one.sample(r#"cancelled_requests_total{model="embedder:1"}"#) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_told_so_and_never_computed() {
    let one = One::new();
    let busy = one.busy().await;
    let late = Some(Duration::from_millis(20));
    let late = one.ask(0, "a lamp", Class::Interactive, late).await;
    let over = one.ask(0, "a lamp", Class::Interactive, Some(Duration::ZERO)).await;
    assert!(matches!(answer(late).await, Err(RunError::Expired)), "while the thread is busy");
    assert!(matches!(answer(over).await, Err(RunError::Expired)));
    let stays = one.interactive("a").await;
    one.release();
    answer(stays).await.unwrap();
    answer(busy).await.unwrap();
    assert_eq!(one.engines[0].times_answered("a lamp"), 0);
    assert!((one.sample(r#"expired_requests_total{model="embedder:1"}"#) - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_request_that_would_wait_longer_than_its_time_is_refused_at_once() {
    let one = One::new();
    // Slow once, so that it is known to be.
    let slow = one.ask(0, "wait", Class::Interactive, None).await;
    one.engines[0].waits().await;
    tokio::time::sleep(SLOW).await;
    one.engines[0].release();
    answer(slow).await.unwrap();
    let busy = one.busy().await;
    let before = one.interactive(&"word ".repeat(16)).await;
    let time = Some(SLOW * 15);
    let refused = answer(one.ask(0, "a", Class::Interactive, time).await).await.unwrap_err();
    assert!(matches!(refused, RunError::QueueTooLong { .. }), "{refused}");
    let retry_after = refused.retry_after().unwrap();
    assert!(retry_after >= SLOW * 16, "{retry_after:?}");
    one.release();
    answer(before).await.unwrap();
    answer(busy).await.unwrap();
}

#[tokio::test]
async fn bulk_work_leaves_places_to_what_goes_before_it() {
    let one = One::new();
    let refused = |result: Result<_, RunError>| match result {
        Err(RunError::QueueFull { .. }) => true,
        Err(error) => panic!("{error}"),
        Ok(()) => false,
    };
    let bulk = Some(Class::Bulk);
    let first = one.runner.admit(100, None).unwrap();
    assert!(refused(one.runner.admit(1, bulk).map(drop)));
    assert!(refused(one.runner.check_room(bulk)));
    assert!(!refused(one.runner.check_room(None)));
    let second = one.runner.admit(25, None).unwrap();
    assert!(refused(one.runner.admit(1, None).map(drop)));
    assert!(refused(one.runner.check_room(None)));
    drop((first, second));
    assert!(!refused(one.runner.admit(100, bulk).map(drop)));
}

#[tokio::test]
async fn a_request_that_could_never_be_done_in_its_time_is_refused_for_good() {
    let one = One::new();
    let texts = |count: usize| vec!["word ".repeat(16); count];
    let tokens = async |texts: Vec<String>| -> Vec<Tokens> {
        let mut tokens = Vec::new();
        for text in texts {
            tokens.push(one.tokens(&one.models[0], &text).await);
        }
        tokens
    };
    let slow = one.ask(0, &format!("wait {}", "word ".repeat(15)), Class::Bulk, None).await;
    one.engines[0].waits().await;
    tokio::time::sleep(SLOW).await;
    one.engines[0].release();
    answer(slow).await.unwrap();
    let deadline = tokio::time::Instant::now() + SLOW;
    let order = Order { output: Output::Vector, class: Class::Bulk, deadline: Some(deadline) };
    let four = tokens(texts(4)).await;
    let refused = one.runner.run(&one.models[0], four, order).await.unwrap_err();
    let RunError::TooMuch { texts: 4, most: 1, .. } = refused else { panic!("{refused}") };
    let order = Order { deadline: None, ..order };
    let four = tokens(texts(4)).await;
    assert_eq!(one.runner.run(&one.models[0], four, order).await.unwrap().len(), 4);
}

#[tokio::test]
async fn who_shares_a_batch_with_a_bad_text_is_answered() {
    let one = One::new();
    let busy = one.busy().await;
    let mut asked = Vec::new();
    for text in ["a", "nan", "a lamp"] {
        asked.push(one.interactive(text).await);
    }
    let failing = one.ask(0, "fail", Class::Bulk, None).await;
    let beside = one.ask(0, "a lamp burns", Class::Bulk, None).await;
    one.release();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(answer(asked).await);
    }
    assert_eq!(answers[0].as_ref().unwrap(), &[vector("a")]);
    assert!(matches!(answers[1], Err(RunError::NonFinite)));
    assert_eq!(answers[2].as_ref().unwrap(), &[vector("a lamp")]);
    assert!(matches!(answer(failing).await, Err(RunError::Failed(_))));
    assert_eq!(answer(beside).await.unwrap(), [vector("a lamp burns")]);
    answer(busy).await.unwrap();
    assert!((one.sample(r#"non_finite_total{model="embedder:1"}"#) - 1.0).abs() < 1e-9);
    assert!((one.sample(r#"failed_batches_total{model="embedder:1"}"#) - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_panic_fails_its_batch_and_the_thread_goes_on() {
    let one = One::new();
    for _ in 0..3 {
        let lost = answer(one.interactive("panic").await).await;
        assert!(
            matches!(&lost, Err(RunError::Lost(words)) if words.contains("told to")),
            "{lost:?}"
        );
    }
    assert_eq!(answer(one.interactive("a").await).await.unwrap(), [vector("a")]);
}

#[tokio::test]
async fn a_panic_costs_its_own_batch_and_no_other_and_is_counted_and_told_with_the_models_name() {
    let log = support::log::kept();
    let one = One::of("fragile:1");
    let busy = one.busy().await;
    let batch = [one.interactive("a lamp").await, one.interactive("panic").await];
    let of_another_class = one.ask(0, "a lamp burns", Class::Bulk, None).await;
    let of_another_model = one.ask(1, "a", Class::Bulk, None).await;
    one.release();
    for asked in batch {
        assert!(matches!(answer(asked).await, Err(RunError::Lost(_))));
    }
    assert_eq!(answer(of_another_class).await.unwrap(), [vector("a lamp burns")]);
    assert_eq!(answer(of_another_model).await.unwrap(), [vector("a")]);
    assert_eq!(answer(busy).await.unwrap(), [vector("wait")]);
    for figure in ["panicked_batches_total", "failed_batches_total"] {
        let sample = format!(r#"{figure}{{model="fragile:1"}}"#);
        assert!((one.sample(&sample) - 1.0).abs() < 1e-9, "{figure}");
        let sample = format!(r#"{figure}{{model="other:1"}}"#);
        assert!(one.sample(&sample).abs() < 1e-9, "{figure}");
    }
    let told = |entry: &serde_json::Value| {
        entry["model"] == "fragile:1"
            && entry["message"] == "the engine panicked: its batch is lost"
            && entry["words"].as_str().unwrap().contains("told to panic")
    };
    assert_eq!(log.entries().iter().filter(|entry| told(entry)).count(), 1);
}

#[tokio::test]
async fn tokens_come_in_order_and_an_error_names_the_text_of_the_request() {
    let one = One::new();
    let model = &one.models[0];
    let mut texts: Vec<OwnedText> =
        (0..2_000).map(|at| OwnedText::One("word ".repeat(at % 16 + 1).into())).collect();
    let tokens = one.runner.split(model, texts.clone(), TooLong::Refuse).await.unwrap();
    let lengths = tokens.iter().map(|text| text.ids.len());
    assert!(lengths.eq((0..2_000).map(|at| at % 16 + 1)));
    texts[1_700] = OwnedText::One("".into());
    texts[1_900] = OwnedText::One("word ".repeat(17).into());
    let refused = one.runner.split(model, texts, TooLong::Refuse).await;
    let named =
        matches!(refused, Err(RunError::Engine(EngineError::Untokenizable { index: 1_700, .. })));
    assert!(named, "{refused:?}");
}
