//! A record fits into its share of what the kubelet keeps, and a cut one is told from garbage.

use lamplighter_protocol::place::RESOLVE_RECORD_LIMIT;
use lamplighter_protocol::{
    Failure, ModelKey, Reason, ResolveField, ResolveRecord, ResolveRecordError, ResolveReportError,
    Task, memory,
};
use proptest::prelude::*;

/// The kubelet's share for a container: 12 KiB of a pod, over 8 models and 2 that others add.
const SHARE: usize = 12 * 1024 / 10;

fn record() -> ResolveRecord {
    ResolveRecord {
        model: ModelKey { name: "m".repeat(63), version: "9".repeat(64) },
        task: Task::Embedding,
        architecture: "A".repeat(80),
        model_type: "a".repeat(32),
        layers: u64::MAX,
        hidden: u64::MAX,
        heads: u64::MAX,
        intermediate: u64::MAX,
        vocabulary: u64::MAX,
        max_tokens: u64::MAX,
        pooling: "p".repeat(24),
        dimensions: u64::MAX,
        dtype: "F".repeat(16),
        parameters: u64::MAX,
        bytes: u64::MAX,
        memory: u64::MAX,
        tokenizer_digest: format!("sha256:{}", "0".repeat(64)),
        digest: format!("sha256:{}", "1".repeat(64)),
        pin: format!("sha256:{}", "2".repeat(64)),
        commit: Some("c".repeat(64)),
    }
}

#[test]
fn the_longest_record_fits_into_a_containers_share() {
    let line = record().to_termination_message().unwrap();
    assert!(line.len() <= RESOLVE_RECORD_LIMIT, "{} bytes", line.len());
    const { assert!(RESOLVE_RECORD_LIMIT <= SHARE) };
    assert_eq!(ResolveRecord::from_termination_message(&line), Ok(record()));
}

#[test]
fn the_memory_of_several_models_is_that_of_each_and_the_workers_own() {
    let model = |memory: u64| ResolveRecord { memory, ..record() };
    assert_eq!(memory::at_least(&[model(450), model(240), model(0)]), memory::WORKER + 690);
    assert_eq!(memory::at_least(&[model(u64::MAX), model(u64::MAX)]), u64::MAX);
}

#[test]
fn a_text_that_is_too_long_or_that_json_would_lengthen_is_refused_by_its_field() {
    type Change = fn(&mut ResolveRecord);
    let changes: [(ResolveField, Change); 12] = [
        (ResolveField::Name, |record| record.model.name.push('m')),
        (ResolveField::Version, |record| record.model.version.push('9')),
        (ResolveField::Architecture, |record| record.architecture.push('A')),
        (ResolveField::Architecture, |record| record.architecture = "\u{1}".to_owned()),
        (ResolveField::Architecture, |record| record.architecture = "\"".to_owned()),
        (ResolveField::ModelType, |record| record.model_type.push('a')),
        (ResolveField::Pooling, |record| record.pooling.push('p')),
        (ResolveField::Commit, |record| record.commit = Some("\\".to_owned())),
        (ResolveField::Dtype, |record| record.dtype = "Fü".to_owned()),
        (ResolveField::Digest, |record| record.digest.push('1')),
        (ResolveField::Digest, |record| record.pin.push('1')),
        (ResolveField::Digest, |record| record.tokenizer_digest.push('1')),
    ];
    for (expected, change) in changes {
        let mut longer = record();
        change(&mut longer);
        let error = longer.to_termination_message().unwrap_err();
        assert!(error.to_string().starts_with(&expected.to_string()), "{error}");
        let ResolveRecordError::Field { field, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(field, expected);
    }
}

#[test]
fn a_record_that_was_cut_anywhere_is_truncated_and_not_garbage() {
    let line = record().to_termination_message().unwrap();
    for end in 1..line.len() {
        let error = ResolveRecord::from_termination_message(&line[..end]).unwrap_err();
        assert_eq!(error, ResolveReportError::Truncated { bytes: end });
        assert_eq!(error.as_str(), "ResolveReportTruncated");
    }
}

#[test]
fn what_is_no_record_is_malformed() {
    let failure = Failure::new(Reason::AuthDenied, "no").to_termination_message();
    let doubled = record().to_termination_message().unwrap().repeat(2);
    let without = record().to_termination_message().unwrap().replace("digest", "other");
    let wrong = record().to_termination_message().unwrap().replace("\"Embedding\"", "7");
    for message in
        ["", " \n", "thread 'main' panicked", "[1", "{}", &failure, &doubled, &without, &wrong]
    {
        let error = ResolveRecord::from_termination_message(message).unwrap_err();
        assert!(matches!(error, ResolveReportError::Malformed { .. }), "{message}: {error}");
        assert_eq!(error.as_str(), "ResolveReportMalformed");
    }
}

proptest! {
    /// Guarantees: operator-09.
    #[test]
    fn reading_any_text_never_panics(text in any::<String>()) {
        let _read = ResolveRecord::from_termination_message(&text);
    }

    #[test]
    fn any_record_that_is_written_fits_and_is_read_back(
        texts in prop::array::uniform4("\\PC{0,140}"),
        numbers in prop::array::uniform6(any::<u64>()),
    ) {
        let [name, version, architecture, dtype] = texts;
        let [layers, hidden, vocabulary, dimensions, parameters, bytes] = numbers;
        let model = ModelKey {
            name: format!("m{}", name.replace(':', "")),
            version: format!("1{version}"),
        };
        let written = ResolveRecord {
            model, architecture, layers, hidden, vocabulary, dimensions, dtype, parameters, bytes,
            ..record()
        };
        if let Ok(line) = written.to_termination_message() {
            prop_assert!(line.len() <= RESOLVE_RECORD_LIMIT);
            prop_assert_eq!(ResolveRecord::from_termination_message(&line), Ok(written));
        }
    }
}
