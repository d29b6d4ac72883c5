//! The messages between two images of possibly different versions, byte for byte.
//!
//! A golden file is never edited to make a test pass: what it holds was sent by a release.
//! A new optional field goes into a new file, and the old one must still be read.

use lamplighter_protocol::{
    Case, CaseResult, Check, ComparedReport, Device, Failure, Manifest, MemoryReport, ModelEntry,
    ModelFacts, ModelKey, ModelReport, ModelState, Phase, PhaseTiming, Precision, Reason, Report,
    ResolveRecord, Revalidation, RuntimeReport, Source, Task, UnaffordableReport, ValidationMode,
    ValidationPlan, ValidationReport, WarmupReport, WorkerState,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn assert_golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    value: &T,
    golden: &str,
) {
    let written = serde_json::to_string_pretty(value).map(|json| format!("{json}\n"));
    assert_eq!(written.ok().as_deref(), Some(golden));
    assert_eq!(serde_json::from_str::<T>(golden).ok().as_ref(), Some(value));
}

fn key(name: &str, version: &str) -> ModelKey {
    ModelKey { name: name.to_owned(), version: version.to_owned() }
}

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn manifest() -> Manifest {
    Manifest {
        format: 1,
        deployment: "search/scripture".to_owned(),
        revision: "7c9f0e5b21".to_owned(),
        device: Device::Cuda,
        precision: Precision::F32,
        models: vec![
            ModelEntry {
                name: "embedder".to_owned(),
                version: "2.1.0".to_owned(),
                task: Task::Embedding,
                default: true,
                source: Source {
                    uri: "s3://models/minilm/2.1.0".to_owned(),
                    image: None,
                    credentials: Some("/var/run/lamplighter/credentials/embedder-2.1.0".to_owned()),
                },
                expected_digest: Some(digest('a')),
                validation: ValidationPlan {
                    mode: ValidationMode::Required,
                    cases: vec![
                        Case {
                            name: "near".to_owned(),
                            check: Check::Similarity {
                                texts: ["a cat".to_owned(), "a kitten".to_owned()],
                                at_least: Some("0.6".to_owned()),
                                at_most: None,
                            },
                        },
                        Case {
                            name: "order".to_owned(),
                            check: Check::Ranking {
                                query: "who built the ark?".to_owned(),
                                passages: vec!["a boat".to_owned(), "Noah".to_owned()],
                                order: vec![1, 0],
                            },
                        },
                    ],
                },
            },
            ModelEntry {
                name: "embedder".to_owned(),
                version: "2.0.0".to_owned(),
                task: Task::Embedding,
                default: false,
                source: Source {
                    uri: "pvc://models/minilm/2.0.0".to_owned(),
                    image: None,
                    credentials: None,
                },
                expected_digest: None,
                validation: ValidationPlan { mode: ValidationMode::Disabled, cases: vec![] },
            },
        ],
    }
}

fn failure() -> Failure {
    Failure {
        reason: Reason::TensorShapeMismatch,
        message: "the word embeddings do not fit config.json".to_owned(),
        model: Some(key("embedder", "2.1.0")),
        phase: Some(Phase::Build),
        file: Some("model.safetensors".to_owned()),
        tensor: Some("embeddings.word_embeddings.weight".to_owned()),
        expected: Some("[30522, 384]".to_owned()),
        found: Some("[30522, 383]".to_owned()),
    }
}

fn timing(phase: Phase, seconds: f64, bytes: u64) -> PhaseTiming {
    PhaseTiming { phase, seconds, bytes, bytes_per_second: None, done: true }
}

fn report() -> Report {
    let ready = ModelReport {
        key: key("embedder", "2.0.0"),
        task: Task::Embedding,
        state: ModelState::Ready,
        phases: vec![timing(Phase::Fetch, 1.5, 90_900_000), timing(Phase::Validate, 0.25, 0)],
        facts: Some(ModelFacts {
            digest: digest('b'),
            architecture: "BertModel".to_owned(),
            dimensions: 384,
            max_tokens: 256,
            parameters: 22_713_216,
            bytes: 90_900_000,
        }),
        runtime: None,
        warmup: Some(WarmupReport {
            runs: 24,
            first_millis: 41.5,
            steady_millis: 2.25,
            settled: Some(true),
        }),
        validation: Some(ValidationReport {
            disabled: false,
            cases: vec![CaseResult {
                name: "near".to_owned(),
                passed: true,
                expected: "cosine at least 0.6".to_owned(),
                found: "0.78".to_owned(),
            }],
        }),
        failure: None,
        suspect: false,
    };
    let failed = ModelReport {
        key: key("embedder", "2.1.0"),
        task: Task::Embedding,
        state: ModelState::Failed,
        phases: vec![],
        facts: None,
        runtime: None,
        warmup: None,
        validation: None,
        failure: Some(failure()),
        suspect: false,
    };
    Report {
        pod_uid: "3f1c9a52-6f0e-4c4f-9c1e-0d8b6a1f2e77".to_owned(),
        pod_name: "scripture-green-7c9f0e5b21-x2x9k".to_owned(),
        revision: "7c9f0e5b21".to_owned(),
        worker_version: "0.1.0".to_owned(),
        device: Device::Cpu,
        state: WorkerState::Failed,
        uptime_seconds: 12.5,
        in_flight: 3,
        models: vec![ready, failed],
        validated_seconds_ago: None,
        revalidation: None,
        memory: None,
        connections_before_shed: None,
    }
}

fn record() -> ResolveRecord {
    ResolveRecord {
        model: key("embedder", "2.1.0"),
        task: Task::Embedding,
        architecture: "BertModel".to_owned(),
        model_type: "bert".to_owned(),
        layers: 6,
        hidden: 384,
        heads: 12,
        intermediate: 1_536,
        max_tokens: 256,
        pooling: "mean".to_owned(),
        vocabulary: 30_522,
        dimensions: 384,
        dtype: "F32".to_owned(),
        parameters: 22_713_216,
        bytes: 91_624_612,
        memory: 152_698_880,
        tokenizer_digest: digest('c'),
        digest: digest('a'),
        pin: digest('d'),
        commit: None,
    }
}

#[test]
fn a_manifest_reads_and_writes_as_its_golden_file() {
    assert_golden(&manifest(), include_str!("golden/manifest.json"));
    manifest().check().unwrap();
}

#[test]
fn a_report_reads_and_writes_as_its_golden_file() {
    assert_golden(&report(), include_str!("golden/report_settled.json"));
}

#[test]
fn a_report_of_a_worker_that_asks_its_cases_again_reads_and_writes_as_its_golden_file() {
    let mut later = Report {
        validated_seconds_ago: Some(7.5),
        revalidation: Some(Revalidation { rounds: 4, wrong: 1, inconclusive: 2 }),
        memory: Some(MemoryReport {
            limit_bytes: Some(536_870_912),
            used_bytes: 130_023_424,
            peak_bytes: 201_326_592,
            ready_bytes: Some(188_743_680),
        }),
        connections_before_shed: Some(3),
        ..report()
    };
    later.models[0].phases[0].bytes_per_second = Some(60_600_000);
    assert_golden(&later, include_str!("golden/report_revalidated.json"));
}

#[test]
fn a_resolve_record_reads_and_writes_as_its_golden_file() {
    let golden = include_str!("golden/resolve.json");
    assert_golden(&record(), golden);
    assert_eq!(ResolveRecord::from_termination_message(golden), Ok(record()));
    let line = record().to_termination_message().unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(ResolveRecord::from_termination_message(&line), Ok(record()));
}

#[test]
fn a_resolve_record_of_a_later_worker_with_more_fields_is_still_read() {
    let golden = include_str!("golden/resolve_later.json");
    assert_eq!(ResolveRecord::from_termination_message(golden), Ok(record()));
}

/// Such stand in annotations of records.
#[test]
fn a_resolve_record_of_an_earlier_worker_with_fewer_fields_is_still_read() {
    let earlier = ResolveRecord {
        model_type: String::new(),
        heads: 0,
        intermediate: 0,
        max_tokens: 0,
        pooling: String::new(),
        memory: 0,
        ..record()
    };
    let golden = include_str!("golden/resolve_earlier.json");
    assert_eq!(ResolveRecord::from_termination_message(golden), Ok(earlier));
}

#[test]
fn a_report_of_a_worker_that_does_not_tell_whether_it_settled_is_still_read() {
    let mut earlier = report();
    earlier.models[0].warmup.as_mut().unwrap().settled = None;
    let golden = include_str!("golden/report.json");
    assert_eq!(serde_json::from_str::<Report>(golden).unwrap(), earlier);
}

#[test]
fn a_report_that_tells_what_a_model_computes_with_reads_and_writes_as_its_golden_file() {
    let mut telling = report();
    let mut runtime = RuntimeReport {
        kernel: "avx2-f32".to_owned(),
        precision: "f32".to_owned(),
        compared: None,
        unaffordable: None,
    };
    telling.models[0].runtime = Some(runtime.clone());
    assert_golden(&telling, include_str!("golden/report_runtime.json"));
    runtime.compared = Some(ComparedReport {
        kernel: "amx-bf16".to_owned(),
        cosine: "0.99871".to_owned(),
        at_least: "0.9999".to_owned(),
        is_wrong: true,
    });
    telling.models[0].runtime = Some(runtime.clone());
    assert_golden(&telling, include_str!("golden/report_compared.json"));
    runtime.compared = None;
    runtime.unaffordable =
        Some(UnaffordableReport { kernel: "amx-bf16".to_owned(), bytes: 42_467_328 });
    telling.models[0].runtime = Some(runtime);
    assert_golden(&telling, include_str!("golden/report_unaffordable.json"));
}

#[test]
fn a_failure_reads_and_writes_as_its_golden_file() {
    let golden = include_str!("golden/failure.json");
    assert_golden(&failure(), golden);
    assert_eq!(Failure::from_termination_message(golden), Some(failure()));
}

#[test]
fn the_shortest_manifest_is_filled_with_defaults() {
    let manifest = Manifest::from_json(include_str!("golden/manifest_shortest.json")).unwrap();
    assert_eq!(manifest.precision, Precision::Auto);
    let model = &manifest.models[0];
    assert!(!model.default);
    assert_eq!(model.expected_digest, None);
    assert_eq!(model.source.credentials, None);
    assert_eq!(model.validation.mode, ValidationMode::Required);
    assert_eq!(model.validation.cases, []);
}

#[test]
fn a_report_of_a_later_worker_with_more_fields_is_still_read() {
    let mut later: serde_json::Value =
        serde_json::from_str(include_str!("golden/report_settled.json")).unwrap();
    later["models"][0]["laterField"] = "anything".into();
    later["laterField"] = 1.into();
    assert_eq!(serde_json::from_value::<Report>(later).unwrap(), report());
}

#[test]
fn a_report_of_a_later_worker_with_unknown_words_says_unknown_and_keeps_the_rest() {
    let golden = include_str!("golden/report_later.json");
    let report: Report = serde_json::from_str(golden).unwrap();
    assert_eq!(report.state, WorkerState::Unknown);
    let [on_its_way, failed] = report.models.as_slice() else {
        panic!("two models: {report:?}");
    };
    assert_eq!(on_its_way.state, ModelState::Unknown, "neither ready nor failed");
    let phases: Vec<Phase> = on_its_way.phases.iter().map(|timing| timing.phase).collect();
    assert_eq!(phases, [Phase::Unknown, Phase::Validate]);
    assert_eq!(on_its_way.facts.as_ref().unwrap().dimensions, 384);
    let failure = failed.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::Unknown);
    assert!(failure.message.starts_with("MeltedDown: the word"), "{failure}");
    assert_eq!(failure.phase, Some(Phase::Unknown));
    assert_eq!(failure.tensor.as_deref(), Some("embeddings.word_embeddings.weight"));
}

#[test]
fn a_manifest_with_an_unknown_field_is_refused_because_it_would_be_ignored() {
    let mut later: serde_json::Value =
        serde_json::from_str(include_str!("golden/manifest.json")).unwrap();
    later["models"][0]["quantisation"] = "Int4".into();
    let error = Manifest::from_json(&later.to_string()).unwrap_err();
    assert!(error.to_string().contains("quantisation"), "{error}");

    let mut later: serde_json::Value =
        serde_json::from_str(include_str!("golden/manifest.json")).unwrap();
    later["models"][0]["validation"]["cases"][1]["check"]["ranking"]["atLeast"] = "0.5".into();
    let error = Manifest::from_json(&later.to_string()).unwrap_err();
    assert!(error.to_string().contains("atLeast"), "{error}");
}
