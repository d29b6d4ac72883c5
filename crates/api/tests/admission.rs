//! What the apiserver takes and refuses, offline: the table `admission/cases.yaml` and the
//! samples, run against the schema and the rules of the definition.
//!
//! The tests of the cluster run the same table against a real apiserver, which also has the last
//! word on what the rules cost.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "admission/apiserver.rs"]
mod apiserver;
#[path = "admission/rules.rs"]
mod rules;
#[path = "admission/structure.rs"]
mod structure;
#[path = "admission/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::path::Path;

use apiserver::Apiserver;
use lamplighter_api::ModelDeployment;
use serde_json::Value;
use table::{Expectation, Layer, Table};

/// Fewer cases than this mean that somebody emptied the table.
const FEWEST_CASES: usize = 45;

/// Guarantees: strategy-02, api-03.
#[test]
fn the_table_holds() {
    let table = Table::load();
    assert!(table.cases.len() >= FEWEST_CASES, "{} cases", table.cases.len());
    let apiserver = Apiserver::new();
    let mut wrong = Vec::new();
    for case in &table.cases {
        let refusals = apiserver.admit(&case.object(&table.base));
        let as_expected = match &case.expect {
            Expectation::Accepted => refusals.is_empty(),
            Expectation::Refused { layer, message } => refusals
                .iter()
                .any(|refusal| refusal.layer == *layer && refusal.message.contains(message)),
        };
        if !as_expected {
            let found: Vec<String> = refusals
                .iter()
                .map(|refusal| format!("{:?}: {}", refusal.layer, refusal.message))
                .collect();
            wrong.push(format!("{}\n  expected {:?}\n  found {found:#?}", case.name, case.expect));
        }
        if let Some(old) = case.old(&table.base) {
            let refusals = apiserver.admit(&old);
            if !refusals.is_empty() {
                wrong.push(format!("{}: the old object is refused: {refusals:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_refuses_a_case_of_the_table() {
    let table = Table::load();
    let apiserver = Apiserver::new();
    let said: BTreeSet<String> = table
        .cases
        .iter()
        .filter(|case| !matches!(case.expect, Expectation::Accepted))
        .flat_map(|case| apiserver.admit(&case.object(&table.base)))
        .filter(|refusal| refusal.layer == Layer::Rule)
        .map(|refusal| refusal.message)
        .collect();
    let silent: Vec<String> = apiserver
        .rule_messages()
        .into_iter()
        .filter(|message| !said.iter().any(|refusal| refusal.contains(message)))
        .collect();
    assert_eq!(silent, Vec::<String>::new(), "rules without a case");
}

#[test]
fn accepted_cases_are_read_back_as_written() {
    let table = Table::load();
    let apiserver = Apiserver::new();
    for case in table.cases.iter().filter(|case| matches!(case.expect, Expectation::Accepted)) {
        let stored = apiserver.stored(&case.object(&table.base));
        let typed: ModelDeployment = serde_json::from_value(stored.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let written = serde_json::to_value(&typed).expect("a resource is JSON");
        assert_eq!(quantities_as_text(written), quantities_as_text(stored), "{}", case.name);
    }
}

#[test]
fn the_samples_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples");
    let apiserver = Apiserver::new();
    let mut samples = 0;
    for entry in std::fs::read_dir(&folder).expect("there are samples") {
        let path = entry.expect("the folder can be read").path();
        if path.file_name().is_some_and(|name| name == "kustomization.yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a sample can be read");
        let object: Value = serde_saphyr::from_str(&text).expect("a sample is YAML");
        let refusals = apiserver.admit(&object);
        assert!(refusals.is_empty(), "{}: {refusals:?}", path.display());
        samples += 1;
    }
    assert!(samples >= 3, "{samples} samples");
}

/// The typed form writes a quantity as text; `1` and `"1"` are the same quantity.
fn quantities_as_text(mut object: Value) -> Value {
    for kind in ["limits", "requests"] {
        let at = format!("/spec/worker/resources/{kind}");
        if let Some(quantities) = object.pointer_mut(&at).and_then(Value::as_object_mut) {
            for quantity in quantities.values_mut().filter(|quantity| quantity.is_number()) {
                *quantity = quantity.to_string().into();
            }
        }
    }
    object
}
