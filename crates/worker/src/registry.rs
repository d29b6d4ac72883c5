//! The models that are served. Complete before the first request, never changed after.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_engine::Engine;
use lamplighter_engine::validation::Case;
use lamplighter_protocol::{ModelEntry, ModelFacts, ModelKey};

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
}

/// Every model of the manifest, by the names that requests may use.
pub struct Registry {
    models: Vec<Arc<Model>>,
    names: BTreeMap<String, Arc<Model>>,
}

impl Registry {
    /// The models with the manifest entries that they were loaded for.
    pub fn new(models: Vec<(ModelEntry, Model)>) -> Self {
        let models: Vec<(ModelEntry, Arc<Model>)> =
            models.into_iter().map(|(entry, model)| (entry, Arc::new(model))).collect();
        let mut names = BTreeMap::new();
        for (entry, model) in &models {
            names.insert(model.key.to_string(), Arc::clone(model));
            let only = models.iter().filter(|(other, _)| other.name == entry.name).count() == 1;
            if entry.default || only {
                names.insert(entry.name.clone(), Arc::clone(model));
            }
        }
        Self { models: models.into_iter().map(|(_, model)| model).collect(), names }
    }

    /// The model that a request means by `name` (the default version, or the only one) or by
    /// `name:version`.
    pub fn resolve(&self, name: &str) -> Option<&Arc<Model>> {
        self.names.get(name)
    }

    /// Every name that a request may use, sorted, with what it means.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Arc<Model>)> {
        self.names.iter().map(|(name, model)| (name.as_str(), model))
    }

    /// Every model, in the manifest's order.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }
}
