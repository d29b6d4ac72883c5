//! `modules.json`: the modules of sentence-transformers, in the order in which they run.

use serde::Deserialize;

use crate::error::EngineError;

pub(crate) const MODULES: &str = "modules.json";
/// What this crate runs, as error messages say it.
const SUPPORTED: &str = "the modules Transformer, Pooling, Dense and Normalize of \
     sentence-transformers";

/// An entry of the file.
#[derive(Deserialize)]
pub(crate) struct Module {
    #[serde(rename = "type")]
    class: String,
    /// Its folder; empty for the artifact's root.
    path: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Transformer,
    Pooling,
    Dense,
    Normalize,
}

impl Module {
    /// The class without its modules, which moved between generations.
    pub(crate) fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> Result<Kind, EngineError> {
        let ours = self.class.starts_with("sentence_transformers.");
        match self.name() {
            "Transformer" if ours => Ok(Kind::Transformer),
            "Pooling" if ours => Ok(Kind::Pooling),
            "Dense" if ours => Ok(Kind::Dense),
            "Normalize" if ours => Ok(Kind::Normalize),
            // Classes of the artifact's own and further layers.
            _ => Err(EngineError::UnsupportedArchitecture {
                found: format!("with the module {}", self.class),
                supported: SUPPORTED,
            }),
        }
    }

    /// The path of one of the module's files.
    pub(crate) fn file(&self, name: &str) -> Result<String, EngineError> {
        let plain = |component: &str| !matches!(component, "" | "." | "..");
        if self.path.split('/').all(plain) {
            Ok(format!("{}/{name}", self.path))
        } else {
            let expected = "paths of folders within the artifact";
            Err(EngineError::config(MODULES, expected, &self.path))
        }
    }

    /// Whether the network is where it is looked for.
    pub(crate) fn check_root(&self) -> Result<(), EngineError> {
        if self.path.is_empty() {
            return Ok(());
        }
        let expected = "the Transformer at the artifact's root";
        Err(EngineError::config(MODULES, expected, &self.path))
    }

    /// Whether there is nothing but the network, whose own head makes the scores.
    pub(crate) fn check_alone(modules: &[Self]) -> Result<(), EngineError> {
        for module in modules {
            module.kind()?;
        }
        match modules {
            [module] if module.kind()? == Kind::Transformer => module.check_root(),
            _ => Err(Self::unordered("a Transformer alone, as its head makes scores", modules)),
        }
    }

    pub(crate) fn unordered(expected: &str, modules: &[Self]) -> EngineError {
        let found: Vec<&str> = modules.iter().map(Self::name).collect();
        EngineError::config(MODULES, expected, found.join(", "))
    }
}
