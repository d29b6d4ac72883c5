//! What `cargo xtask test` tells the stories through the environment.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// Where everything is that a story needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `KUBECONFIG`: an administrator's access to the cluster.
    pub kubeconfig: PathBuf,
    /// `LAMPLIGHTER_REPO`: the checkout.
    pub repo: PathBuf,
    /// `LAMPLIGHTER_KUBECTL`: the real kubectl.
    pub kubectl: PathBuf,
    /// `LAMPLIGHTER_HELM`: the real helm.
    pub helm: PathBuf,
    /// `LAMPLIGHTER_AUDIT_LOG`: the apiserver's audit log, one JSON event a line.
    pub audit_log: PathBuf,
    /// `LAMPLIGHTER_PYTHON`: a Python that has the official OpenAI client.
    pub python: PathBuf,
    /// `LAMPLIGHTER_MINILM`: the folder of the real model.
    pub minilm: PathBuf,
    /// `LAMPLIGHTER_OPERATOR_IMAGE`: reference of the operator's image.
    pub operator_image: String,
    /// `LAMPLIGHTER_WORKER_IMAGE`: reference of the worker's image.
    pub worker_image: String,
    /// `LAMPLIGHTER_WORKER_BAKED_IMAGE`: reference of a worker image with a tiny model inside.
    pub worker_baked_image: String,
    /// `LAMPLIGHTER_WORKER_FAULTS_IMAGE`: reference of the worker that breaks on purpose.
    pub worker_faults_image: String,
    /// `LAMPLIGHTER_S3_IMAGE`: reference of the store's image.
    pub store_image: String,
}

impl Settings {
    /// Reads the environment. Fails with the names of all variables that are missing.
    pub fn from_environment() -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let mut variable = |name: &'static str| match std::env::var(name) {
            Ok(value) if !value.is_empty() => value,
            _ => {
                missing.push(name);
                String::new()
            }
        };
        let settings = Self {
            kubeconfig: variable("KUBECONFIG").into(),
            repo: variable("LAMPLIGHTER_REPO").into(),
            kubectl: variable("LAMPLIGHTER_KUBECTL").into(),
            helm: variable("LAMPLIGHTER_HELM").into(),
            audit_log: variable("LAMPLIGHTER_AUDIT_LOG").into(),
            python: variable("LAMPLIGHTER_PYTHON").into(),
            minilm: variable("LAMPLIGHTER_MINILM").into(),
            operator_image: variable("LAMPLIGHTER_OPERATOR_IMAGE"),
            worker_image: variable("LAMPLIGHTER_WORKER_IMAGE"),
            worker_baked_image: variable("LAMPLIGHTER_WORKER_BAKED_IMAGE"),
            worker_faults_image: variable("LAMPLIGHTER_WORKER_FAULTS_IMAGE"),
            store_image: variable("LAMPLIGHTER_S3_IMAGE"),
        };
        if !missing.is_empty() {
            bail!(
                "{} not set; run the stories with `cargo xtask test --only stories`",
                missing.join(", ")
            );
        }
        Ok(settings)
    }

    /// The folder where what is known about a failed story is kept.
    pub fn dump_folder(&self, story: &str) -> PathBuf {
        self.repo.join(".local/log/e2e").join(story)
    }
}

/// An image reference cut into repository and tag.
pub fn repository_and_tag(reference: &str) -> anyhow::Result<(&str, &str)> {
    reference
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .with_context(|| format!("image reference {reference:?} has no tag"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_cut_at_its_tag_and_not_at_a_port() {
        assert_eq!(repository_and_tag("host:5000/a/b:1.2").unwrap(), ("host:5000/a/b", "1.2"));
        assert!(repository_and_tag("host:5000/a/b").is_err());
    }
}
