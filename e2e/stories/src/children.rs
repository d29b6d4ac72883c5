//! What the operator made for a deployment, listed from the apiserver.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::api::{DeleteParams, ListParams, ObjectMeta};
use kube::{Api, Resource};
use lamplighter_api::names::LABEL_DEPLOYMENT;
use serde::de::DeserializeOwned;

use crate::scene::Scene;

/// The kinds that the operator itself makes, in the order of [`Children`].
pub const KINDS: [&str; 5] =
    ["ConfigMap", "ControllerRevision", "PodDisruptionBudget", "ReplicaSet", "Service"];

/// An object, as far as it tells whether somebody touched it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
}

/// Objects by `Kind/name`.
pub type Children = BTreeMap<String, Version>;

impl Scene {
    /// The objects of [`KINDS`] that belong to a deployment.
    pub async fn children(&self, name: &str) -> anyhow::Result<Children> {
        let mut children = Children::new();
        self.list::<ConfigMap>(name, &mut children).await?;
        self.list::<ControllerRevision>(name, &mut children).await?;
        self.list::<PodDisruptionBudget>(name, &mut children).await?;
        self.list::<ReplicaSet>(name, &mut children).await?;
        self.list::<Service>(name, &mut children).await?;
        Ok(children)
    }

    /// As [`Scene::children`], and what Kubernetes made from them: pods and `EndpointSlices`.
    pub async fn descendants(&self, name: &str) -> anyhow::Result<Children> {
        let mut descendants = self.children(name).await?;
        self.list::<Pod>(name, &mut descendants).await?;
        self.list::<EndpointSlice>(name, &mut descendants).await?;
        Ok(descendants)
    }

    async fn list<K>(&self, deployment: &str, into: &mut Children) -> anyhow::Result<()>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Metadata<Ty = ObjectMeta>,
    {
        let labelled = ListParams::default().labels(&format!("{LABEL_DEPLOYMENT}={deployment}"));
        let kind = K::kind(&());
        let found = self
            .api::<K>()
            .list(&labelled)
            .await
            .with_context(|| format!("{kind}s cannot be listed"))?;
        for object in found {
            let metadata = Metadata::metadata(&object).clone();
            into.insert(
                format!("{kind}/{}", metadata.name.unwrap_or_default()),
                Version {
                    uid: metadata.uid.unwrap_or_default(),
                    resource_version: metadata.resource_version.unwrap_or_default(),
                },
            );
        }
        Ok(())
    }

    /// Deletes an object that is named as in [`Children`].
    pub async fn delete_child(&self, child: &str) -> anyhow::Result<()> {
        let (kind, name) = child.split_once('/').context("a child is Kind/name")?;
        match kind {
            "ConfigMap" => delete(self.api::<ConfigMap>(), name).await,
            "ControllerRevision" => delete(self.api::<ControllerRevision>(), name).await,
            "PodDisruptionBudget" => delete(self.api::<PodDisruptionBudget>(), name).await,
            "ReplicaSet" => delete(self.api::<ReplicaSet>(), name).await,
            "Service" => delete(self.api::<Service>(), name).await,
            other => anyhow::bail!("{other} is not a kind that the operator makes"),
        }
    }
}

async fn delete<K>(api: Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    api.delete(name, &DeleteParams::default())
        .await
        .with_context(|| format!("{name} cannot be deleted"))?;
    Ok(())
}
