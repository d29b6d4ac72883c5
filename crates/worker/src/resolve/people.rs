//! `resolve` at a terminal: what is at an address, or what differs between two.

use std::io::Write as _;

use lamplighter_artifact::Places;
use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::strategy::{
    Compatibility, Described, Facts, Kind, ModelFacts, Refused, Trigger, Wishes, choose,
};
use lamplighter_protocol::{Failure, ModelKey, Reason, ResolveRecord};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::look::{Sought, look};
use super::{late, stopped, table};
use crate::cli::ResolveArgs;

/// `rollbackWindowSeconds` of a resource that says nothing.
const DEFAULT_WINDOW: Seconds = Seconds(600);

/// Looks at one or two addresses and prints what was found.
pub(super) async fn resolve(args: &ResolveArgs, stop: CancellationToken) -> Result<(), Failure> {
    let deadline = args.resolve_deadline_seconds;
    let mut records = Vec::new();
    for (index, uri) in args.uris.iter().enumerate() {
        let looked = tokio::select! {
            biased;
            () = stop.cancelled() => Err(stopped()),
            done = tokio::time::timeout(deadline, look(sought(args, index, uri))) => {
                done.unwrap_or_else(|_| Err(late(deadline)))
            }
        };
        // Of two, which one it is that cannot be read.
        records.push(looked.map_err(|failed| Failure {
            message: format!("{uri}: {}", failed.message),
            phase: None,
            ..failed
        })?);
    }
    let text = match records.as_slice() {
        [old, new] => {
            let strategy = strategy(old, new);
            if args.json {
                let strategy = json!({"kind": kind(&strategy), "because": reasons(&strategy)});
                line(&json!({"from": old, "to": new, "strategy": strategy}))
            } else {
                table::two(&args.uris, old, new, kind(&strategy), &reasons(&strategy))
            }
        }
        [record] if !args.json => table::one(&args.uris[0], record),
        other => other.iter().map(|record| line(&json!(record))).collect(),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| {
        Failure::new(Reason::Internal, format!("the result cannot be printed: {error}"))
    })
}

fn line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

fn sought<'a>(args: &'a ResolveArgs, index: usize, uri: &'a str) -> Sought<'a> {
    Sought {
        uri,
        key: key(args.model.as_ref().filter(|_| index + 1 == args.uris.len()), uri),
        task: None,
        expected: args.expected_digest.as_deref().filter(|_| index + 1 == args.uris.len()),
        is_kept: args.cache_dir.is_some(),
        places: Places {
            cache: args.cache_dir.clone().unwrap_or_default(),
            claims: args.claims_dir.clone(),
            credentials: args.credentials.clone(),
            ..Places::default()
        },
    }
}

/// What a model is called that nobody named: by the end of its address, which is its version if it
/// begins like one, as in `s3://models/minilm/2.1.0` and `hf://org/minilm@v2`.
fn key(named: Option<&ModelKey>, uri: &str) -> ModelKey {
    if let Some(key) = named {
        return key.clone();
    }
    let mut parts = uri.trim_end_matches('/').rsplit(['/', '@']).filter(|part| !part.is_empty());
    let last = parts.next().unwrap_or("model").replace(':', "-");
    let before =
        parts.next().filter(|part| !part.ends_with(':')).map(|part| part.replace(':', "-"));
    match before {
        Some(name) if is_version(&last) => ModelKey { name, version: last },
        _ => ModelKey { name: last, version: "unversioned".to_owned() },
    }
}

fn is_version(text: &str) -> bool {
    text.strip_prefix('v').unwrap_or(text).starts_with(|c: char| c.is_ascii_digit())
}

/// How the operator would get from one to the other, by the same decision, where the resource
/// wishes nothing.
fn strategy(old: &ResolveRecord, new: &ResolveRecord) -> Result<(Kind, Vec<Trigger>), Refused> {
    // One model that changes, whatever the two addresses call it.
    let facts = |record| Facts([("model".to_owned(), facts(record))].into());
    let wishes =
        Wishes { strategy: None, compatibility: Compatibility::Auto, bake: DEFAULT_WINDOW };
    choose(&facts(old), &facts(new), wishes, false)
}

fn facts(record: &ResolveRecord) -> ModelFacts {
    let described = Described {
        version: &record.model.version,
        task: record.task.as_str(),
        architecture: &record.architecture,
        layers: record.layers,
        hidden: record.hidden,
        vocabulary: record.vocabulary,
        output: record.dimensions,
        pooling: &record.pooling,
        tokenizer: &record.tokenizer_digest,
        bytes: record.bytes,
    };
    described.into()
}

fn kind(strategy: &Result<(Kind, Vec<Trigger>), Refused>) -> &'static str {
    match strategy {
        Ok((Kind::Initial, _)) => "Initial",
        Ok((Kind::Rolling, _)) => "Rolling",
        Ok((Kind::BlueGreen, _)) => "BlueGreen",
        Err(_) => "Refused",
    }
}

fn reasons(strategy: &Result<(Kind, Vec<Trigger>), Refused>) -> Vec<String> {
    let triggers = match strategy {
        Ok((_, triggers)) | Err(Refused(triggers)) => triggers,
    };
    triggers.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_the_end_of_its_address() {
        for (uri, expected) in [
            ("s3://models/minilm/2.1.0", "minilm:2.1.0"),
            ("s3://models/minilm/2.1.0/", "minilm:2.1.0"),
            ("hf://org/minilm@v2", "minilm:v2"),
            ("hf://org/minilm", "minilm:unversioned"),
            ("image:///models/minilm", "minilm:unversioned"),
            ("s3://models/all-MiniLM-L6-v2", "all-MiniLM-L6-v2:unversioned"),
            ("https://h:8443/1", "h-8443:1"),
        ] {
            assert_eq!(key(None, uri).to_string(), expected, "{uri}");
        }
        let named = ModelKey { name: "a".to_owned(), version: "1".to_owned() };
        assert_eq!(key(Some(&named), "s3://models/minilm/2.1.0"), named);
    }
}
