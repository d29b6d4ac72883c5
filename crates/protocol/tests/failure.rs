//! Reasons keep their names, and the last words of a worker fit where the kubelet keeps them.

use std::collections::BTreeSet;

use lamplighter_protocol::place::{RESOLVE_RECORD_LIMIT, TERMINATION_LOG_LIMIT};
use lamplighter_protocol::{Class, Failure, ModelKey, Phase, Reason};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

#[test]
fn every_reason_is_distinct_and_has_one_name_everywhere() {
    let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(reason.to_string(), reason.as_str());
        assert_eq!(serde_json::to_value(reason).unwrap(), serde_json::Value::from(reason.as_str()));
        assert_eq!(format!("{reason:?}"), reason.as_str());
        assert_eq!(Reason::named(reason.as_str()), reason);
    }
}

#[test]
fn all_holds_every_reason_in_the_order_of_the_enum() {
    assert!(Reason::ALL.is_sorted());
    // The numbers of a field-less enum are dense, so the last one counts them.
    assert_eq!(Reason::ALL.len(), Reason::Internal as usize + 1);
}

#[test]
fn every_phase_has_one_name_everywhere() {
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), serde_json::Value::from(phase.as_str()));
    }
    assert!(Phase::ALL.is_sorted());
}

#[test]
fn an_unknown_reason_of_a_later_worker_is_read_as_such_and_keeps_its_name() {
    let message = r#"{"reason":"MeltedDown","message":"too hot","phase":"Cool","core":7}"#;
    let read = Failure::from_termination_message(message).unwrap();
    assert_eq!(read.reason, Reason::Unknown);
    assert_eq!(read.message, "MeltedDown: too hot");
    assert_eq!(read.phase, Some(Phase::Unknown));
    assert_eq!(read.reason.class(), Class::Transient, "trying again does less harm");
    let again = Failure::from_termination_message(&read.to_termination_message());
    assert_eq!(again, Some(read));
}

#[test]
fn what_has_no_reason_at_all_is_no_failure() {
    for message in [r#"{"message":"a"}"#, r#"{"reason":7,"message":"a"}"#, "thread panicked"] {
        assert_eq!(Failure::from_termination_message(message), None, "{message}");
    }
}

#[test]
fn a_failure_prints_model_reason_and_sentence() {
    let failure = Failure::new(Reason::DiskFull, "no room in /var/cache/lamplighter");
    assert_eq!(failure.to_string(), "DiskFull: no room in /var/cache/lamplighter");
    let key = ModelKey::try_from("embedder:2.1.0".to_owned()).unwrap();
    assert_eq!(
        failure.with_model(key).to_string(),
        "embedder:2.1.0: DiskFull: no room in /var/cache/lamplighter"
    );
}

#[test]
fn a_short_failure_is_written_whole() {
    let failure = Failure {
        file: Some("model.safetensors".to_owned()),
        ..Failure::new(Reason::ArtifactTruncated, "the file ends early").with_phase(Phase::Verify)
    };
    let message = failure.to_termination_message();
    assert!(!message.contains('\n'));
    assert_eq!(Failure::from_termination_message(&message), Some(failure));
}

#[test]
fn what_does_not_fit_is_shortened_longest_first() {
    let failure = Failure {
        found: Some("short".to_owned()),
        ..Failure::new(Reason::Internal, "long ".repeat(10_000))
    };
    let read = Failure::from_termination_message(&failure.to_termination_message()).unwrap();
    assert_eq!(read.reason, Reason::Internal);
    assert_eq!(read.found.as_deref(), Some("short"));
    assert!(read.message.starts_with("long long"), "{}", read.message);
    assert!(read.message.ends_with('…'), "{}", read.message);
}

/// Texts from nothing to far above the limit, of one- to four-byte characters and of those that
/// JSON escapes to six bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        (any::<char>(), 0..6_000_usize).prop_map(|(c, n)| c.to_string().repeat(n)),
        (select(vec!['\0', '"', '\\', 'ü', '…', '😀']), 0..6_000_usize)
            .prop_map(|(c, n)| c.to_string().repeat(n)),
    ]
}

fn key_part() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        let part = text.replace(':', "");
        if part.is_empty() { "m".to_owned() } else { part }
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    (
        select(Reason::ALL.to_vec()),
        text(),
        option::of((key_part(), key_part())),
        option::of(select(Phase::ALL.to_vec())),
        [option::of(text()), option::of(text()), option::of(text()), option::of(text())],
    )
        .prop_map(|(reason, message, model, phase, [file, tensor, expected, found])| Failure {
            reason,
            message,
            model: model.map(|(name, version)| ModelKey { name, version }),
            phase,
            file,
            tensor,
            expected,
            found,
        })
}

proptest! {
    #[test]
    fn any_failure_fits_the_kubelets_limit_and_is_read_back(failure in failure()) {
        let message = failure.to_termination_message();
        prop_assert!(message.len() <= TERMINATION_LOG_LIMIT, "{} bytes", message.len());
        let share = failure.to_message_within(RESOLVE_RECORD_LIMIT);
        prop_assert!(share.len() <= RESOLVE_RECORD_LIMIT, "{} bytes", share.len());
        let short = Failure::from_termination_message(&share);
        prop_assert_eq!(short.map(|read| read.reason), Some(failure.reason));
        let read = Failure::from_termination_message(&message);
        prop_assert!(read.is_some(), "unreadable: {message}");
        let Some(read) = read else { unreachable!("asserted above") };
        prop_assert_eq!(read.reason, failure.reason);
        prop_assert_eq!(read.phase, failure.phase);
        prop_assert_eq!(read.model.is_some(), failure.model.is_some());
        prop_assert_eq!(read.file.is_some(), failure.file.is_some());
        if serde_json::to_string(&failure).unwrap().len() <= TERMINATION_LOG_LIMIT {
            prop_assert_eq!(read, failure);
        }
    }

    /// Guarantees: operator-09.
    #[test]
    fn reading_any_text_never_panics(text in any::<String>()) {
        let _read = Failure::from_termination_message(&text);
    }

    /// Guarantees: operator-09.
    #[test]
    fn reading_a_message_that_was_cut_anywhere_never_panics(
        failure in failure(),
        cut in any::<prop::sample::Index>(),
    ) {
        let message = failure.to_termination_message();
        let mut end = cut.index(message.len());
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        prop_assert_eq!(Failure::from_termination_message(&message[..end]), None);
    }
}
