//! Whatever is loaded, unloaded and made the default: each name means a model that is loaded.

use lamplighter_engine::{
    EngineError, Facts, Limits, Output, Piece, Runtime, Text, Tokens, TooLong,
};
use proptest::prelude::*;

use super::*;

/// A model that is only counted.
struct Nothing;

impl Engine for Nothing {
    fn facts(&self) -> &Facts {
        unreachable!("nobody asks it")
    }

    fn limits(&self) -> Limits {
        unreachable!("nobody asks it")
    }

    fn runtime(&self) -> Runtime {
        unreachable!("nobody asks it")
    }

    fn split(&self, _: &[Text<'_>], _: TooLong) -> Result<Vec<Tokens>, EngineError> {
        unreachable!("nobody asks it")
    }

    fn pieces(&self, _: &str, _: bool) -> Result<Vec<Piece>, EngineError> {
        unreachable!("nobody asks it")
    }

    fn join(&self, _: &[u32], _: bool) -> Result<String, EngineError> {
        unreachable!("nobody asks it")
    }

    fn run(&self, _: &[Tokens], _: Output) -> Result<Vec<Vec<f32>>, EngineError> {
        unreachable!("nobody asks it")
    }
}

fn key(text: &str) -> ModelKey {
    text.to_owned().try_into().unwrap()
}

fn model(key: &ModelKey) -> Arc<Model> {
    Arc::new(Model {
        key: key.clone(),
        facts: ModelFacts {
            digest: "sha256:0".to_owned(),
            architecture: "Nothing".to_owned(),
            dimensions: 1,
            max_tokens: 1,
            parameters: 1,
            bytes: 1,
        },
        engine: Arc::new(Nothing),
        cases: Vec::new(),
        memory: None,
    })
}

fn keys(registry: &Registry) -> Vec<String> {
    registry.models().iter().map(|model| model.key.to_string()).collect()
}

fn meaning(registry: &Registry, name: &str) -> Option<String> {
    registry.resolve(name).map(|model| model.key.to_string())
}

fn of(keys: &[&str]) -> Registry {
    let add = |registry: Registry, text: &&str| {
        registry.with(model(&key(text.trim_end_matches('*'))), text.ends_with('*')).unwrap()
    };
    keys.iter().fold(Registry::default(), add)
}

#[test]
fn a_name_keeps_its_meaning_until_somebody_says_otherwise() {
    let one = of(&["a:1", "b:1"]);
    assert_eq!(meaning(&one, "a").as_deref(), Some("a:1"), "the only version");
    let beside = one.with(model(&key("a:2")), false).unwrap();
    assert_eq!(meaning(&beside, "a").as_deref(), Some("a:1"));
    assert_eq!(meaning(&beside, "a:2").as_deref(), Some("a:2"));
    let taken_over = one.with(model(&key("a:2")), true).unwrap();
    assert_eq!(meaning(&taken_over, "a").as_deref(), Some("a:2"));
    let switched = beside.with_default(&key("a:2")).unwrap();
    assert_eq!(meaning(&switched, "a").as_deref(), Some("a:2"));
    let (without, gone) = switched.without(&key("a:1")).unwrap();
    assert_eq!(gone.key, key("a:1"));
    assert_eq!(keys(&without), ["b:1", "a:2"]);
    assert_eq!(meaning(&without, "a:1"), None);
    assert_eq!(meaning(&one, "a").as_deref(), Some("a:1"), "who has the old one keeps it");
}

#[test]
fn what_would_leave_requests_without_an_answer_is_refused() {
    let two = of(&["a:1*", "a:2", "b:1"]);
    let refused = |registry: &Registry, text: &str| registry.without(&key(text)).err().unwrap();
    assert_eq!(refused(&two, "a:1"), Refused::IsDefault { key: key("a:1") });
    assert!(refused(&two, "a:1").to_string().contains("/v2/repository/models/a/default"));
    assert_eq!(refused(&two, "a:3"), Refused::NotLoaded(key("a:3")));
    let (without, _) = two.without(&key("b:1")).unwrap();
    assert_eq!(meaning(&without, "b"), None, "the only version of its name, not the only model");
    let (last, _) = without.without(&key("a:2")).unwrap();
    assert_eq!(refused(&last, "a:1"), Refused::Last(key("a:1")));
    assert_eq!(two.with_default(&key("a:3")).err(), Some(Refused::NotLoaded(key("a:3"))));
    assert_eq!(two.with(model(&key("a:2")), true).err(), Some(Refused::Loaded(key("a:2"))));
}

#[derive(Clone, Debug)]
enum Step {
    Load(ModelKey, bool),
    Unload(ModelKey),
    Default(ModelKey),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || {
        let part = |name: &str, version: u8| ModelKey {
            name: name.to_owned(),
            version: version.to_string(),
        };
        (prop_oneof![Just("a"), Just("b"), Just("c")], 1..4_u8)
            .prop_map(move |(name, version)| part(name, version))
    };
    prop_oneof![
        (key(), any::<bool>()).prop_map(|(key, default)| Step::Load(key, default)),
        key().prop_map(Step::Unload),
        key().prop_map(Step::Default),
    ]
}

fn after(registry: &Registry, step: &Step) -> Result<Registry, Refused> {
    match step {
        Step::Load(key, default) => registry.with(model(key), *default),
        Step::Unload(key) => registry.without(key).map(|(next, _)| next),
        Step::Default(key) => registry.with_default(key),
    }
}

proptest! {
    #[test]
    fn every_name_means_a_loaded_model_and_the_order_is_stable(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut registry = of(&["a:1"]);
        for step in steps {
            let before = keys(&registry);
            let meant = ["a", "b", "c"].map(|name| meaning(&registry, name));
            let Ok(next) = after(&registry, &step) else {
                continue;
            };
            prop_assert_eq!(&keys(&registry), &before, "a snapshot does not change");
            prop_assert!(!next.models().is_empty());
            for (name, model) in next.names() {
                prop_assert!(next.models().iter().any(|loaded| Arc::ptr_eq(loaded, model)));
                prop_assert!(model.key.to_string() == name || model.key.name == name);
            }
            for model in next.models() {
                prop_assert_eq!(meaning(&next, &model.key.to_string()), Some(model.key.to_string()));
                let default = next.default_of(&model.key.name).map(ToString::to_string);
                prop_assert_eq!(meaning(&next, &model.key.name), default);
            }
            for (name, meant) in ["a", "b", "c"].iter().zip(meant) {
                let is_loaded = next.versions(name).next().is_some();
                let means = meaning(&next, name);
                prop_assert_eq!(means.is_some(), is_loaded, "loaded and only then named");
                if means != meant {
                    let told = match &step {
                        Step::Load(key, default) => *default || meant.is_none() && key.name == *name,
                        Step::Unload(key) => meant == Some(key.to_string()),
                        Step::Default(key) => means == Some(key.to_string()),
                    };
                    prop_assert!(told, "{:?} changed {}", step, name);
                }
            }
            let after = keys(&next);
            let kept: Vec<_> = before.iter().filter(|key| after.contains(key)).collect();
            let old: Vec<_> = after.iter().filter(|key| before.contains(key)).collect();
            prop_assert_eq!(kept, old, "what stays stays in its order");
            registry = next;
        }
    }
}
