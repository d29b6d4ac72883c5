//! The validation cases are asked again while requests are served, and what comes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use lamplighter_engine::validation::{Case, Check};
use lamplighter_engine::{Output, TooLong};
use lamplighter_protocol::{Failure, ModelEntry, ModelState, Reason, WorkerState};
use lamplighter_worker::board::{Board, Tracker};
use lamplighter_worker::lifecycle::Event;
use lamplighter_worker::metrics::Metrics;
use lamplighter_worker::registry::{Model, Registry};
use lamplighter_worker::revalidate::until_wrong;
use lamplighter_worker::run::{Class, Order, OwnedText, Runner};
use lamplighter_worker::serve::Worker;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::parse;
use crate::support::client::Http;
use crate::support::fake::{Fake, vector};
use crate::support::{DEADLINE, POD, identity, manifest, model, serve_args};

struct Running {
    serving: SocketAddr,
    admin: SocketAddr,
    stop: CancellationToken,
    engine: Arc<Fake>,
    http: Http,
    task: JoinHandle<Result<(), Failure>>,
}

fn case(name: &str, text: &str) -> Case {
    let expected = vector(text);
    let text = text.to_owned();
    Case { name: name.to_owned(), check: Check::Vector { text, expected, min_cosine: 0.99 } }
}

/// A worker that is asked `check` and these texts, in rounds that only the test starts.
async fn start(texts: &[&str]) -> Running {
    start_every("0", texts).await
}

/// As [`start`], with a round every so many seconds.
async fn start_every(seconds: &str, texts: &[&str]) -> Running {
    start_with(seconds, &["embedder:1"], texts).await
}

/// As [`start_every`], with these models, of which the last one has the cases.
async fn start_with(seconds: &str, models: &[&str], texts: &[&str]) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut line = vec!["--drain-delay-seconds", "0", "--compute-threads", "2"];
    line.extend(["--revalidation-interval-seconds", seconds]);
    let args = serve_args(dir.path(), &line);
    let worker = Worker::bind(&args, manifest(models)).await.unwrap();
    let last = models.last().map(ToString::to_string);
    let (serving, admin) = (worker.serving_address(), worker.admin_address());
    let stop = CancellationToken::new();
    let engine = Arc::new(Fake::new());
    let mut cases = vec![case("first", "check")];
    cases.extend(texts.iter().map(|text| case(text, text)));
    let served = Arc::clone(&engine);
    let load = move |entry: ModelEntry, _: Tracker| {
        let has_cases = Some(entry.key().to_string()) == last;
        let cases = if has_cases { cases.clone() } else { Vec::new() };
        let engine = Arc::clone(&served);
        async move { Ok(Model { cases, ..model(&entry, engine) }) }
    };
    let task = tokio::spawn(worker.run(load, stop.clone()));
    let http = Http::one();
    http.ready_is(admin, StatusCode::OK).await;
    Running { serving, admin, stop, engine, http, task }
}

impl Running {
    async fn validate(&self) {
        let told = self.http.command(self.admin, "/validate", Some(POD)).await.unwrap();
        assert_eq!(told.status, StatusCode::ACCEPTED, "{}", told.text);
    }

    /// A round from begin to end; returns (rounds, wrong, inconclusive) since the start.
    async fn round(&self) -> (u64, u64, u64) {
        let before = self.http.status_when(self.admin, |_| true).await;
        let rounds = before.revalidation.unwrap().rounds;
        self.validate().await;
        let ended = |report: &lamplighter_protocol::Report| {
            report.revalidation.is_some_and(|counts| counts.rounds > rounds)
        };
        let counts = self.http.status_when(self.admin, ended).await.revalidation.unwrap();
        (counts.rounds, counts.wrong, counts.inconclusive)
    }

    async fn validated_seconds_ago(&self) -> Option<f64> {
        self.http.status_when(self.admin, |_| true).await.validated_seconds_ago
    }

    async fn ends(self) -> Result<(), Failure> {
        tokio::time::timeout(DEADLINE, self.task).await.expect("the worker ends").unwrap()
    }
}

/// Guarantees: gates-16.
#[tokio::test]
async fn rounds_are_counted_and_one_wrong_answer_alone_changes_nothing() {
    let running = start(&["a lamp"]).await;
    assert_eq!(running.validated_seconds_ago().await, None, "this load asked nothing");
    assert_eq!(running.round().await, (1, 0, 0));
    assert_eq!(running.engine.times_answered("check"), 1);
    let ago = running.validated_seconds_ago().await.unwrap();
    assert!(ago < DEADLINE.as_secs_f64(), "{ago}");

    running.engine.turn_wrong(1);
    assert_eq!(running.round().await, (2, 1, 0));
    assert_eq!(running.engine.times_answered("check"), 3, "asked again at once");
    assert!(running.validated_seconds_ago().await.unwrap() < ago + DEADLINE.as_secs_f64());
    running.engine.turn_wrong(1);
    assert_eq!(running.round().await, (3, 2, 0), "not twice in a row");
    let ready = running.http.get(running.admin, "/readyz").await.unwrap();
    assert_eq!(ready.status, StatusCode::OK);

    let samples = parse(&running.http.get(running.admin, "/metrics").await.unwrap().text);
    let answers = |answer: &str| {
        let labels = format!(r#"{{model="embedder:1",answer="{answer}"}}"#);
        samples.get(&format!("lamplighter_worker_revalidation_answers_total{labels}")).copied()
    };
    assert_eq!((answers("Right"), answers("Wrong")), (Some(6.0), Some(2.0)));
    assert_eq!(samples.get("lamplighter_worker_revalidation_rounds_total"), Some(&3.0));
    running.stop.cancel();
    assert_eq!(running.ends().await, Ok(()));
}

/// Guarantees: gates-09.
#[tokio::test(start_paused = true)]
async fn no_answer_in_time_is_counted_and_never_a_failure() {
    let mut registry = lamplighter_telemetry::metrics::Registry::default();
    let metrics = Metrics::new(&mut registry);
    let runner = Arc::new(Runner::new(1, 100, metrics.clone()).unwrap());
    let manifest = manifest(&["embedder:1"]);
    let board = Board::new(identity(&manifest), &manifest, metrics);
    board.happened(Event::AllPassed);
    let engine = Arc::new(Fake::new());
    let cases = vec![case("slow", "wait"), case("first", "check")];
    let model = Model { cases, ..model(&manifest.models[0], Arc::clone(&engine)) };
    let registry = Arc::new(Registry::new(vec![(manifest.models[0].clone(), model)]));
    let (_keeps, served) = watch::channel(Some(Arc::clone(&registry)));
    // The engine's thread knows nothing of this clock: were it free, it might answer before the time
    // is over.
    let busy = tokio::spawn({
        let (runner, model) = (Arc::clone(&runner), Arc::clone(&registry.models()[0]));
        async move { runner.embed_giving_way(&model, vec!["wait".to_owned()]).await }
    });
    engine.waits().await;
    let rounds = async {
        // Each question takes all of its time: nothing else moves this clock.
        for rounds in 1..=4 {
            board.revalidation_trigger().pull();
            while board.report().revalidation.unwrap().rounds < rounds {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        board.report()
    };
    let report = tokio::select! {
        failure = until_wrong(&served, &runner, &board, None) => panic!("{failure}"),
        report = rounds => report,
    };
    let counts = report.revalidation.unwrap();
    assert_eq!((counts.wrong, counts.inconclusive), (0, 8));
    assert_eq!(report.validated_seconds_ago, None, "not all cases passed");
    engine.release();
    assert_eq!(busy.await.unwrap().unwrap(), [vector("wait")]);
}

#[tokio::test]
async fn an_engine_that_fails_or_gives_no_numbers_ends_the_worker() {
    for (text, words, found) in [
        ("fail", "made the engine fail three times in a row", "the index is out of range"),
        ("panic", "made the engine fail three times in a row", "told to panic"),
        ("nan", "got a wrong answer twice in a row", "not finite"),
    ] {
        let running = start(&[text]).await;
        running.validate().await;
        let failure = running.ends().await.unwrap_err();
        assert_eq!(failure.reason, Reason::RevalidationFailed);
        assert!(failure.message.contains(words), "{failure}");
        assert!(failure.found.as_ref().unwrap().contains(found), "{failure:?}");
    }
}

/// Guarantees: gates-16.
#[tokio::test]
async fn a_confirmed_wrong_answer_ends_the_worker_after_what_is_in_flight() {
    let running = start(&[]).await;
    let (http, serving) = (Http::one(), running.serving);
    let request = tokio::spawn(async move { http.embed(serving, "wait").await });
    running.http.status_when(running.admin, |report| report.in_flight == 1).await;

    running.engine.turn_wrong(2);
    running.validate().await;
    let unready = running.http.ready_is(running.admin, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(unready.json()["reason"], "Failed");
    let report = running.http.status_when(running.admin, |_| true).await;
    assert_eq!(report.state, WorkerState::Failed);
    assert_eq!(report.models[0].state, ModelState::Failed);
    let told = report.models[0].failure.clone().unwrap();
    assert_eq!(told.reason, Reason::RevalidationFailed);
    let refused = running.http.command(running.admin, "/validate", Some(POD)).await.unwrap();
    assert_eq!(refused.status, StatusCode::CONFLICT);

    assert!(!running.task.is_finished(), "a request is in flight");
    running.engine.release();
    let answer = request.await.unwrap().expect("the request in flight is answered");
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let failure = running.ends().await.unwrap_err();
    assert_eq!(failure, told);
    let words = failure.to_termination_message();
    assert_eq!(Failure::from_termination_message(&words), Some(told), "it is told whole");
    assert_eq!(failure.model.as_ref().unwrap().to_string(), "embedder:1");
    assert!(failure.message.contains(r#""first""#), "{failure}");
    assert_eq!(failure.expected.as_deref(), Some("cosine at least 0.99 to the recorded vector"));
    assert!(failure.found.as_deref().unwrap().starts_with("cosine -1"), "{failure:?}");
}

/// Guarantees: gates-16.
#[tokio::test]
async fn cases_are_asked_again_by_themselves_after_the_interval() {
    let running = start_every("1", &[]).await;
    let twice = |report: &lamplighter_protocol::Report| {
        report.revalidation.is_some_and(|counts| counts.rounds >= 2)
    };
    running.http.status_when(running.admin, twice).await;
    running.engine.turn_wrong(2);
    assert_eq!(running.ends().await.unwrap_err().reason, Reason::RevalidationFailed);
}

#[tokio::test]
async fn several_requests_without_a_good_answer_start_a_round_and_mark_the_model_until_it_was_right()
 {
    for (text, code) in
        [("nan", "output_not_finite"), ("fail", "internal_error"), ("panic", "internal_error")]
    {
        let running = start(&[]).await;
        for _ in 0..3 {
            let answer = running.http.embed(running.serving, text).await.unwrap();
            assert_eq!(answer.error_code(), code);
        }
        let cleared = |report: &lamplighter_protocol::Report| {
            report.revalidation.is_some_and(|counts| counts.rounds >= 1)
                && !report.models[0].suspect
        };
        running.http.status_when(running.admin, cleared).await;
        running.stop.cancel();
        assert_eq!(running.ends().await, Ok(()));
    }
}

#[tokio::test]
async fn a_model_stays_suspect_where_only_the_cases_of_another_one_were_right() {
    let running = start_with("0", &["embedder:1", "other:1"], &[]).await;
    for _ in 0..3 {
        let answer = running.http.embed_with(running.serving, "embedder:1", "nan").await.unwrap();
        assert_eq!(answer.error_code(), "output_not_finite");
    }
    let marked = |report: &lamplighter_protocol::Report| {
        report.revalidation.is_some_and(|counts| counts.rounds >= 1) && report.models[0].suspect
    };
    running.http.status_when(running.admin, marked).await;
    let samples = parse(&running.http.get(running.admin, "/metrics").await.unwrap().text);
    let suspect = r#"lamplighter_worker_suspect{model="embedder:1"}"#;
    assert_eq!(samples.get(suspect), Some(&1.0));
    running.stop.cancel();
    assert_eq!(running.ends().await, Ok(()));
}

#[tokio::test]
async fn a_round_for_another_pod_is_refused() {
    let running = start(&[]).await;
    for pod in [None, Some(""), Some("another"), Some("3f1c9a52-po")] {
        let refused = running.http.command(running.admin, "/validate", pod).await.unwrap();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(refused.text.contains(POD), "{}", refused.text);
    }
    assert_eq!(running.engine.times_answered("check"), 0);
    running.stop.cancel();
    assert_eq!(running.ends().await, Ok(()));
}

#[tokio::test]
async fn requests_go_first_and_one_batch_runs_at_a_time() {
    let mut registry = lamplighter_telemetry::metrics::Registry::default();
    let runner = Arc::new(Runner::new(1, 100, Metrics::new(&mut registry)).unwrap());
    let engine = Arc::new(Fake::new());
    let entry = manifest(&["embedder:1"]).models.remove(0);
    let model = Arc::new(model(&entry, Arc::clone(&engine)));
    let request = |text: &str| {
        let (runner, model) = (Arc::clone(&runner), Arc::clone(&model));
        let text = text.to_owned();
        tokio::spawn(async move {
            let texts = vec![OwnedText::One(text.into())];
            let tokens = runner.split(&model, texts, TooLong::Refuse).await.unwrap();
            let order = Order { output: Output::Vector, class: Class::Interactive, deadline: None };
            runner.run(&model, tokens, order).await.unwrap()
        })
    };
    let busy = request("wait");
    engine.waits().await;
    let texts: Vec<String> = (1..=9).map(|words| "check ".repeat(words)).collect();
    let background = {
        let (runner, model, texts) = (Arc::clone(&runner), Arc::clone(&model), texts.clone());
        tokio::spawn(async move { runner.embed_giving_way(&model, texts).await.unwrap() })
    };
    // It has looked for a thread by now, and found none.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let later = request("a lamp");
    tokio::time::sleep(Duration::from_millis(50)).await;
    engine.release();
    busy.await.unwrap();
    later.await.unwrap();
    let vectors = background.await.unwrap();
    let expected: Vec<Vec<f32>> = texts.iter().map(|text| vector(text)).collect();
    assert_eq!(vectors, expected, "in order, in several batches");
    let answered = engine.answered.lock().unwrap();
    assert_eq!(answered[1].len(), 2, "the later request went before: {answered:?}");
    drop(answered);
}
