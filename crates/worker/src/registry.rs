//! The models that are served, and which of them a name means.
//!
//! A registry never changes. Loading, unloading and another default each make the next one, and a
//! request keeps the one that it began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_engine::Engine;
use lamplighter_engine::validation::Case;
use lamplighter_protocol::{ModelEntry, ModelFacts, ModelKey};
use tokio::sync::watch;

use crate::memory::Reserved;

/// A model that passed every gate.
pub struct Model {
    /// `name:version`.
    pub key: ModelKey,
    /// What it is.
    pub facts: ModelFacts,
    /// What answers.
    pub engine: Arc<dyn Engine>,
    /// What it was asked before it served, to be asked again.
    pub cases: Vec<Case>,
    /// What its weights have of the worker's memory; given back after the engine is gone.
    pub memory: Option<Reserved>,
}

/// The registry of the moment, and word of the next one; none before the worker serves.
pub type Served = watch::Receiver<Option<Arc<Registry>>>;

/// Why the models that are served do not change as they were to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Nothing is served yet.
    #[error("the models of the manifest are not loaded yet; try again when the worker is ready")]
    NotServing,
    /// The same key again.
    #[error(
        "{0} is loaded, and a version never changes its bytes while it serves; unload it first, \
         or load the other files as another version"
    )]
    Loaded(ModelKey),
    /// No such model.
    #[error("{0} is not loaded")]
    NotLoaded(ModelKey),
    /// Requests for the plain name would have to go elsewhere, and nobody said where.
    #[error(
        "{key} is what the plain name {:?} means, and other versions of it are loaded; first make \
         one of them the default (POST /v2/repository/models/{}/default)",
        .key.name, .key.name
    )]
    IsDefault {
        /// The model that was to be unloaded.
        key: ModelKey,
    },
    /// A worker that serves nothing is not healthy.
    #[error("{0} is the only model that is loaded; load another one first, or end the worker")]
    Last(ModelKey),
}

/// Models by the names that requests may use.
#[derive(Clone, Default)]
pub struct Registry {
    models: Vec<Arc<Model>>,
    /// What each plain name means.
    defaults: BTreeMap<String, ModelKey>,
    names: BTreeMap<String, Arc<Model>>,
}

impl Registry {
    /// The models with the manifest entries that they were loaded for. Of one key twice, the first
    /// counts; a manifest that was checked has none.
    pub fn new(models: Vec<(ModelEntry, Model)>) -> Self {
        models.into_iter().fold(Self::default(), |registry, (entry, model)| {
            registry.with(Arc::new(model), entry.default).unwrap_or(registry)
        })
    }

    /// With one more model, which comes last. The plain name means it if it is to be the default or
    /// is the only version; otherwise the name means what it meant.
    pub fn with(&self, model: Arc<Model>, default: bool) -> Result<Self, Refused> {
        let key = model.key.clone();
        if self.get(&key).is_some() {
            return Err(Refused::Loaded(key));
        }
        let mut next = self.clone();
        next.models.push(model);
        if default || !next.defaults.contains_key(&key.name) {
            next.defaults.insert(key.name.clone(), key);
        }
        Ok(next.named())
    }

    /// Without a model, and that model. Not without one that a plain name means while there are
    /// other versions, and not without the last one.
    pub fn without(&self, key: &ModelKey) -> Result<(Self, Arc<Model>), Refused> {
        let model = self.get(key).ok_or_else(|| Refused::NotLoaded(key.clone()))?;
        if self.models.len() == 1 {
            return Err(Refused::Last(key.clone()));
        }
        let is_only = self.versions(&key.name).count() == 1;
        if self.default_of(&key.name) == Some(key) && !is_only {
            return Err(Refused::IsDefault { key: key.clone() });
        }
        let mut next = self.clone();
        next.models.retain(|other| other.key != *key);
        if is_only {
            next.defaults.remove(&key.name);
        }
        Ok((next.named(), Arc::clone(model)))
    }

    /// With this version as what its plain name means.
    pub fn with_default(&self, key: &ModelKey) -> Result<Self, Refused> {
        self.get(key).ok_or_else(|| Refused::NotLoaded(key.clone()))?;
        let mut next = self.clone();
        next.defaults.insert(key.name.clone(), key.clone());
        Ok(next.named())
    }

    /// With the names that follow from the models and the defaults.
    fn named(mut self) -> Self {
        let own = self.models.iter().map(|model| (model.key.to_string(), Arc::clone(model)));
        let mut names: BTreeMap<String, Arc<Model>> = own.collect();
        for (name, key) in &self.defaults {
            if let Some(model) = names.get(&key.to_string()).map(Arc::clone) {
                names.insert(name.clone(), model);
            }
        }
        self.names = names;
        self
    }

    /// The model that a request means by `name` (the default version, or the only one) or by
    /// `name:version`.
    pub fn resolve(&self, name: &str) -> Option<&Arc<Model>> {
        self.names.get(name)
    }

    /// The model of this key.
    pub fn get(&self, key: &ModelKey) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| model.key == *key)
    }

    /// Every version of a name, in the order of [`Registry::models`].
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter().filter(move |model| model.key.name == name)
    }

    /// What a plain name means; none if no version of it is loaded.
    pub fn default_of(&self, name: &str) -> Option<&ModelKey> {
        self.defaults.get(name)
    }

    /// Every name that a request may use, sorted, with what it means.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Arc<Model>)> {
        self.names.iter().map(|(name, model)| (name.as_str(), model))
    }

    /// Every model: those of the manifest in its order, then those that were loaded later.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
