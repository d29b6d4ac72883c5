//! How a change is made, decided from what the change is.

use std::collections::BTreeMap;

use super::world::Policy;
use crate::terms::Seconds;

/// How much larger, in percent, all models together may become before a change is one of
/// environments: pods that grow that much may not fit where their predecessors did, and that is
/// to be found out beside them.
pub const GROWTH_PERCENT: u64 = 25;

/// A longer wish to be able to return than this is met by keeping the old pods.
pub const LONG_BAKE: Seconds = Seconds(900);

/// How a change is made.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// There is nothing to change from.
    Initial,
    /// Pods are replaced one at a time, in the environment that serves.
    Rolling,
    /// A second environment is made, and the Service moved to it.
    BlueGreen,
}

/// Whether two versions may answer at the same time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Compatibility {
    /// As far as what is known of the models says so.
    Auto,
    /// The user vouches for it.
    Interchangeable,
    /// They may not.
    NoMix,
}

/// What is known about the models of a revision, by name.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Facts(pub BTreeMap<String, ModelFacts>);

/// What decides whether one version can stand in for another.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ModelFacts {
    /// As the user wrote it; compared as semantic versions where both are.
    pub version: String,
    /// What it is asked to do.
    pub task: String,
    /// The architecture as the artifact names it; none where it does not.
    pub architecture: Option<String>,
    /// Layers, in numbers that the artifact gives.
    pub layers: u32,
    /// Width of the hidden states.
    pub hidden: u32,
    /// Rows of the embedding table.
    pub vocabulary: u32,
    /// Length of an output.
    pub output: u32,
    /// How token vectors become one; empty where that was not recorded.
    pub pooling: String,
    /// Digest of the tokenizer.
    pub tokenizer: String,
    /// Size of all files.
    pub bytes: u64,
}

/// A model in the words of who read it, with numbers of any size.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// As the user wrote it.
    pub version: &'a str,
    /// What it is asked to do.
    pub task: &'a str,
    /// The architecture; empty where the artifact names none.
    pub architecture: &'a str,
    /// Layers.
    pub layers: u64,
    /// Width of the hidden states.
    pub hidden: u64,
    /// Rows of the embedding table.
    pub vocabulary: u64,
    /// Length of an output.
    pub output: u64,
    /// How token vectors become one; empty where that was not recorded.
    pub pooling: &'a str,
    /// Digest of the tokenizer.
    pub tokenizer: &'a str,
    /// Size of all files.
    pub bytes: u64,
}

impl From<Described<'_>> for ModelFacts {
    fn from(model: Described<'_>) -> Self {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            version: model.version.to_owned(),
            task: model.task.to_owned(),
            architecture: Some(model.architecture.to_owned()).filter(|name| !name.is_empty()),
            layers: number(model.layers),
            hidden: number(model.hidden),
            vocabulary: number(model.vocabulary),
            output: number(model.output),
            pooling: model.pooling.to_owned(),
            tokenizer: model.tokenizer.to_owned(),
            bytes: model.bytes,
        }
    }
}

/// What the user wishes of the way in which changes are made.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// The strategy, if the user insists on one.
    pub strategy: Option<Kind>,
    /// Whether two versions may answer at the same time.
    pub compatibility: Compatibility,
    /// For how long a revision has to serve well until it is known to be good.
    pub bake: Seconds,
}

impl From<&Policy> for Wishes {
    fn from(policy: &Policy) -> Self {
        let Policy { strategy, compatibility, bake, .. } = *policy;
        Self { strategy, compatibility, bake }
    }
}

/// Why a change is made the way it is made.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Trigger {
    /// Nothing served before.
    First,
    /// The user insists.
    Asked(Kind),
    /// Two versions may not answer at the same time.
    NoMix,
    /// The time in which to return is longer than [`LONG_BAKE`].
    LongBake(Seconds),
    /// A model is new.
    Added(String),
    /// A model is gone.
    Removed(String),
    /// It is not known what a model is.
    UnknownMetadata(String),
    /// A property of a model differs.
    Differs {
        /// The model.
        model: String,
        /// Which property.
        property: Property,
        /// What it was.
        old: String,
        /// What it is.
        new: String,
    },
    /// All models together grew by more than [`GROWTH_PERCENT`].
    Grown {
        /// Bytes before.
        old: u64,
        /// Bytes after.
        new: u64,
    },
    /// The second environment found no place, and both versions may answer.
    NoPlace,
    /// What changes is nothing that a client could notice.
    Compatible,
    /// As the decision that is remembered put it.
    Recorded(String),
}

/// A property of a model.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Property {
    /// The first number of the version.
    MajorVersion,
    /// What it is asked to do.
    Task,
    /// The architecture.
    Architecture,
    /// The number of layers.
    Layers,
    /// The width of the hidden states.
    Hidden,
    /// The rows of the embedding table.
    Vocabulary,
    /// The length of an output.
    Output,
    /// How token vectors become one.
    Pooling,
    /// The tokenizer.
    Tokenizer,
}

/// Why the user's wish cannot be met.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Refused(pub Vec<Trigger>);

/// How to get from the old models to the new ones, and why. `no_place` says that a second
/// environment was tried and found no place.
///
/// # Errors
///
/// The user insists on rolling where that would mix outputs that do not go together.
pub fn choose(
    old: &Facts,
    new: &Facts,
    policy: impl Into<Wishes>,
    no_place: bool,
) -> Result<(Kind, Vec<Trigger>), Refused> {
    let wishes = policy.into();
    let incompatible = incompatible(old, new, wishes);
    match wishes.strategy {
        Some(Kind::Rolling) if !incompatible.is_empty() => Err(Refused(incompatible)),
        Some(kind) => Ok((kind, vec![Trigger::Asked(kind)])),
        None => {
            let mut triggers = incompatible.clone();
            triggers.extend(cautious(old, new, wishes));
            if triggers.is_empty() {
                Ok((Kind::Rolling, vec![Trigger::Compatible]))
            } else if no_place && incompatible.is_empty() {
                triggers.push(Trigger::NoPlace);
                Ok((Kind::Rolling, triggers))
            } else {
                Ok((Kind::BlueGreen, triggers))
            }
        }
    }
}

/// Whether two versions must not answer at the same time, and why.
fn incompatible(old: &Facts, new: &Facts, wishes: Wishes) -> Vec<Trigger> {
    match wishes.compatibility {
        Compatibility::Interchangeable => Vec::new(),
        Compatibility::NoMix => vec![Trigger::NoMix],
        Compatibility::Auto => {
            let removed = old.0.keys().filter(|name| !new.0.contains_key(*name));
            let added = new.0.keys().filter(|name| !old.0.contains_key(*name));
            let both = old.0.iter().filter_map(|(name, old)| Some((name, old, new.0.get(name)?)));
            removed
                .map(|name| Trigger::Removed(name.clone()))
                .chain(added.map(|name| Trigger::Added(name.clone())))
                .chain(both.flat_map(|(name, old, new)| differences(name, old, new)))
                .collect()
        }
    }
}

/// What speaks for a second environment though both versions may answer.
fn cautious(old: &Facts, new: &Facts, wishes: Wishes) -> Vec<Trigger> {
    let bytes =
        |facts: &Facts| facts.0.values().fold(0, |sum: u64, model| sum.saturating_add(model.bytes));
    let (old, new) = (bytes(old), bytes(new));
    let grown = u128::from(new) * 100 > u128::from(old) * u128::from(100 + GROWTH_PERCENT);
    let long = wishes.bake > LONG_BAKE;
    grown
        .then_some(Trigger::Grown { old, new })
        .into_iter()
        .chain(long.then_some(Trigger::LongBake(wishes.bake)))
        .collect()
}

fn differences(model: &str, old: &ModelFacts, new: &ModelFacts) -> Vec<Trigger> {
    if old.architecture.is_none() || new.architecture.is_none() {
        return vec![Trigger::UnknownMetadata(model.to_owned())];
    }
    let architecture = |facts: &ModelFacts| facts.architecture.clone().unwrap_or_default();
    let properties = [
        (
            Property::MajorVersion,
            major(&old.version, &new.version),
            major(&new.version, &old.version),
        ),
        (Property::Task, old.task.clone(), new.task.clone()),
        (Property::Architecture, architecture(old), architecture(new)),
        (Property::Layers, old.layers.to_string(), new.layers.to_string()),
        (Property::Hidden, old.hidden.to_string(), new.hidden.to_string()),
        (Property::Vocabulary, old.vocabulary.to_string(), new.vocabulary.to_string()),
        (Property::Output, old.output.to_string(), new.output.to_string()),
        (Property::Pooling, pooling(old, new), pooling(new, old)),
        (Property::Tokenizer, old.tokenizer.clone(), new.tokenizer.clone()),
    ];
    properties
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(property, old, new)| Trigger::Differs {
            model: model.to_owned(),
            property,
            old,
            new,
        })
        .collect()
}

/// How token vectors become one; the same for both where one was recorded without it.
fn pooling(model: &ModelFacts, other: &ModelFacts) -> String {
    if other.pooling.is_empty() { String::new() } else { model.pooling.clone() }
}

/// The first number of a version; the same for both where one of them is not a semantic version,
/// because then the models themselves have to tell.
fn major(version: &str, other: &str) -> String {
    match (semantic(version), semantic(other)) {
        (Some(major), Some(_)) => major.to_owned(),
        (None, _) | (_, None) => String::new(),
    }
}

/// The first number of `1.2.3`, `1.2.3-rc.1` or `1.2.3+build`: <https://semver.org>.
fn semantic(version: &str) -> Option<&str> {
    let core = version.split(['-', '+']).next()?;
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |text: &&str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
    };
    match numbers.as_slice() {
        [major, _, _] if numbers.iter().all(is_number) => Some(major),
        _ => None,
    }
}
