//! Writing one object: with our owner, with its uid and resourceVersion, and only where it differs.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use lamplighter_api::names;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::outcome::{ApplyError, Change, ObjectName};
use crate::metrics::Metrics;
use crate::reconcile::compare::is_applied;
use crate::reconcile::ownership::{Ownership, ownership};

/// Writes objects of one deployment, and keeps what it changed.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) metrics: Metrics,
    pub(super) owner: OwnerReference,
    pub(super) namespace: String,
    pub(super) changes: Vec<Change>,
}

/// Whether a step changed the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// It was so already.
    None,
    /// It did.
    Changed,
}

/// A kind of child.
pub(super) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + k8s_openapi::Resource
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + k8s_openapi::Resource
{
}

impl Writer {
    /// The object is there. What it contains was decided when it was created.
    pub(super) async fn ensure_exists<K: Child>(
        &mut self,
        rendered: &K,
        cached: Option<&ObjectMeta>,
    ) -> Result<Effect, ApplyError> {
        if cached.is_some() {
            return Ok(Effect::None);
        }
        match self.look_up(rendered).await? {
            None => self.create(rendered).await,
            Some(live) => self.relabel(rendered, &live).await,
        }
    }

    /// The object is there and is as rendered, in every field that is rendered.
    pub(super) async fn ensure_equal<K: Child>(
        &mut self,
        rendered: &K,
        cached: Option<&K>,
    ) -> Result<Effect, ApplyError> {
        let live = match cached {
            Some(live) => {
                self.check_owner(rendered, live.meta())?;
                live.clone()
            }
            None => match self.look_up(rendered).await? {
                Some(live) => live,
                None => return self.create(rendered).await,
            },
        };
        let is_unchanged = is_applied(
            &value(rendered)?,
            &value(&live)?,
            live.managed_fields(),
            names::FIELD_MANAGER,
        );
        if is_unchanged {
            return Ok(Effect::None);
        }
        let effect = self.apply(rendered, &live).await?;
        if effect == Effect::Changed {
            self.changes.push(Change::Updated(object(rendered)));
        }
        Ok(effect)
    }

    /// Applies an object over the one that was seen, and over no other.
    pub(super) async fn apply<K: Child>(
        &self,
        rendered: &K,
        seen: &K,
    ) -> Result<Effect, ApplyError> {
        self.check_owner(rendered, seen.meta())?;
        let patch = Patch::Apply(guarded(value(rendered)?, seen.meta()));
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        self.change(seen, &params, &patch).await
    }

    /// Merges a few fields into the object that was seen, and into no other.
    pub(super) async fn merge<K: Child>(
        &self,
        seen: &K,
        fields: Value,
    ) -> Result<Effect, ApplyError> {
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.change(seen, &params, &Patch::Merge(guarded(fields, seen.meta()))).await
    }

    /// The live object of the rendered one's name, if it is there and ours.
    async fn look_up<K: Child>(&self, rendered: &K) -> Result<Option<K>, ApplyError> {
        let found = self
            .api::<K>()
            .get_opt(&rendered.name_any())
            .await
            .map_err(|source| ApplyError::Read { object: object(rendered), source })?;
        if let Some(live) = &found {
            self.check_owner(rendered, live.meta())?;
        }
        Ok(found)
    }

    fn check_owner<K: Child>(&self, rendered: &K, live: &ObjectMeta) -> Result<(), ApplyError> {
        let object = object(rendered);
        match ownership(live, &self.owner) {
            Ownership::Ours => Ok(()),
            Ownership::Predecessor => Err(ApplyError::Predecessor { object }),
            Ownership::Foreign(owner) => Err(ApplyError::NameTaken { object, owner }),
        }
    }

    async fn create<K: Child>(&mut self, rendered: &K) -> Result<Effect, ApplyError> {
        let params = PatchParams::apply(names::FIELD_MANAGER);
        self.patch(rendered, &params, &Patch::Apply(value(rendered)?))
            .await
            .map_err(|source| ApplyError::Write { object: object(rendered), source })?;
        self.metrics.wrote(K::KIND);
        self.changes.push(Change::Created(object(rendered)));
        Ok(Effect::Changed)
    }

    /// An object of ours that is in no cache has lost its label, or was made a moment ago.
    async fn relabel<K: Child>(&mut self, rendered: &K, live: &K) -> Result<Effect, ApplyError> {
        let labelled =
            rendered.labels().iter().all(|(key, label)| live.labels().get(key) == Some(label));
        if labelled {
            return Ok(Effect::None);
        }
        let labels = json!({"metadata": {"labels": rendered.labels()}});
        let effect = self.merge(live, labels).await?;
        if effect == Effect::Changed {
            self.changes.push(Change::Updated(object(rendered)));
        }
        Ok(effect)
    }

    /// Deletes the object that was seen, and no other.
    pub(super) async fn delete<K: Child>(&self, seen: &ObjectMeta) -> Result<Effect, ApplyError> {
        let name = seen.name.clone().unwrap_or_default();
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: seen.uid.clone(),
            resource_version: seen.resource_version.clone(),
        });
        match self.api::<K>().delete(&name, &params).await {
            Ok(_) => {
                self.metrics.wrote(K::KIND);
                Ok(Effect::Changed)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Effect::None),
            Err(source) => {
                Err(ApplyError::Write { object: ObjectName { kind: K::KIND, name }, source })
            }
        }
    }

    /// Deletes the object that was seen if it is of this deployment.
    pub(super) async fn delete_ours<K: Child>(
        &self,
        seen: &ObjectMeta,
    ) -> Result<Effect, ApplyError> {
        match ownership(seen, &self.owner) {
            Ownership::Ours => self.delete::<K>(seen).await,
            Ownership::Predecessor | Ownership::Foreign(_) => Ok(Effect::None),
        }
    }

    /// Patches an object that was seen. The apiserver answers a patch that changes nothing without
    /// a write, and so with the resourceVersion that was seen.
    async fn change<K: Child>(
        &self,
        seen: &K,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<Effect, ApplyError> {
        match self.patch(seen, params, patch).await {
            Ok(written) if written.resource_version() == seen.resource_version() => {
                Ok(Effect::None)
            }
            Ok(_) => {
                self.metrics.wrote(K::KIND);
                Ok(Effect::Changed)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                Err(ApplyError::Gone { object: object(seen) })
            }
            Err(source) => Err(ApplyError::Write { object: object(seen), source }),
        }
    }

    async fn patch<K: Child>(
        &self,
        target: &K,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<K, kube::Error> {
        self.api::<K>().patch(&target.name_any(), params, patch).await
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// The patch, refused unless the object is still the one that was seen.
fn guarded(mut patch: Value, seen: &ObjectMeta) -> Value {
    patch["metadata"]["uid"] = json!(seen.uid);
    patch["metadata"]["resourceVersion"] = json!(seen.resource_version);
    patch
}

/// The cached metadata of the object that has the rendered one's name.
pub(super) fn metadata<'a, K: Resource>(
    cached: &'a [std::sync::Arc<K>],
    rendered: &impl Resource,
) -> Option<&'a ObjectMeta> {
    let name = rendered.meta().name.as_ref();
    cached.iter().map(|found| found.meta()).find(|found| found.name.as_ref() == name)
}

fn object<K: Child>(of: &K) -> ObjectName {
    ObjectName { kind: K::KIND, name: of.name_any() }
}

/// A child as JSON. Types of the Kubernetes API always can be, so a failure is reported like one
/// of the apiserver.
fn value<K: Child>(child: &K) -> Result<Value, ApplyError> {
    serde_json::to_value(child).map_err(|error| ApplyError::Write {
        object: object(child),
        source: kube::Error::SerdeError(error),
    })
}
