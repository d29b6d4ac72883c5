//! Step 6: brings the children to what they should be.
//!
//! # Rules
//!
//! - Only objects with our owner uid are written. A foreign object of a name that we need is
//!   named in the error and left alone.
//! - What is already as it should be is not written.
//! - Every write to an existing object carries its uid and resourceVersion: a decision that was
//!   made on an old view is refused by the apiserver and made again.
//! - A name that is in no cache is looked up before it is created: a foreign object has not our
//!   label and is in no cache, and an apply would merge into it. What appears in between meets an
//!   apply without force, which the apiserver refuses where values differ.
//! - The order is fixed, and any prefix is safe: see [`apply`].

mod outcome;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use lamplighter_api::names;
use lamplighter_plan::{Action, RevisionId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::compare::is_applied;
use super::fetch::Fetched;
use super::ownership::{Ownership, ownership};
use super::render::Rendered;
use crate::context::Context;
use crate::metrics::Metrics;

pub use outcome::{Applied, ApplyError, Change, ObjectName, Obstacle};

/// How long all of it may take. What a slow admission webhook did not let through by then is
/// reported and tried again: enough of the reconcile's own minute must be left for the status.
const APPLY_DEADLINE: Duration = Duration::from_secs(40);

/// Brings the children to what they should be.
///
/// The order: the record first, because the image that was resolved for a revision must not be
/// lost; the manifest before the workload whose pods mount it; Service and budget before the first
/// pod; then the plan's actions in the plan's order. Stops at the first failure and at a deadline.
pub async fn apply(context: &Context, fetched: &Fetched, rendered: Rendered) -> Applied {
    let Rendered {
        owner,
        namespace,
        name,
        record,
        manifest,
        service,
        disruption_budget,
        workload,
        actions,
    } = rendered;
    let mut writer = Writer {
        client: context.client.clone(),
        metrics: context.metrics.clone(),
        owner,
        namespace,
        name,
        changes: Vec::new(),
    };
    let steps = async {
        writer.ensure_exists(&record, metadata(&fetched.records, &record)).await?;
        writer.ensure_exists(&manifest, metadata(&fetched.manifests, &manifest)).await?;
        writer.ensure_equal(&service, fetched.service.as_deref()).await?;
        writer.ensure_equal(&disruption_budget, fetched.disruption_budget.as_deref()).await?;
        for action in actions {
            writer.act(&action, fetched, &workload).await?;
        }
        Ok::<_, ApplyError>(())
    };
    let failure = match timeout(APPLY_DEADLINE, steps).await {
        Ok(outcome) => outcome.err().map(Obstacle::Child),
        Err(_) => Some(Obstacle::Late(APPLY_DEADLINE)),
    };
    Applied { changes: writer.changes, failure }
}

struct Writer {
    client: Client,
    metrics: Metrics,
    owner: OwnerReference,
    namespace: String,
    name: String,
    changes: Vec<Change>,
}

/// Whether a step changed the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    /// It was so already.
    None,
    /// It did.
    Changed,
}

/// A kind of child.
trait Child:
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
    async fn ensure_exists<K: Child>(
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
    async fn ensure_equal<K: Child>(
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
        let body = value(rendered)?;
        let is_unchanged =
            is_applied(&body, &value(&live)?, live.managed_fields(), names::FIELD_MANAGER);
        if is_unchanged {
            return Ok(Effect::None);
        }
        let patch = Patch::Apply(guarded(body, live.meta()));
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let effect = self.change(&live, &params, &patch).await?;
        if effect == Effect::Changed {
            self.changes.push(Change::Updated(object(rendered)));
        }
        Ok(effect)
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
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(guarded(labels, live.meta()));
        let effect = self.change(live, &params, &patch).await?;
        if effect == Effect::Changed {
            self.changes.push(Change::Updated(object(rendered)));
        }
        Ok(effect)
    }

    async fn act(
        &mut self,
        action: &Action,
        fetched: &Fetched,
        workload: &ReplicaSet,
    ) -> Result<(), ApplyError> {
        let effects = match action {
            Action::Create { .. } => [self.ensure_exists(workload, None).await?, Effect::None],
            Action::Scale { revision, to, .. } => {
                [self.scale(revision, *to, fetched).await?, Effect::None]
            }
            // The manifest first: while the workload is there, the deletion is decided again.
            Action::Delete { revision } => [
                self.delete::<ConfigMap>(revision, &fetched.manifests).await?,
                self.delete::<ReplicaSet>(revision, &fetched.replica_sets).await?,
            ],
            // A manifest is left over when its spec changed before its workload was made.
            Action::Forget { revision } => [
                self.delete::<ConfigMap>(revision, &fetched.manifests).await?,
                self.delete::<ControllerRevision>(revision, &fetched.records).await?,
            ],
        };
        if effects.contains(&Effect::Changed) {
            self.changes.push(Change::Done(action.clone()));
        }
        Ok(())
    }

    async fn scale(
        &self,
        revision: &RevisionId,
        to: u32,
        fetched: &Fetched,
    ) -> Result<Effect, ApplyError> {
        let name = names::revision_object(&self.name, revision.as_str());
        let Some(set) = fetched.replica_sets.iter().find(|set| set.name_any() == name) else {
            return Ok(Effect::None);
        };
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let replicas = guarded(json!({"spec": {"replicas": to}}), set.meta());
        self.change(set.as_ref(), &params, &Patch::Merge(replicas)).await
    }

    async fn delete<K: Child>(
        &self,
        revision: &RevisionId,
        cached: &[Arc<impl Resource>],
    ) -> Result<Effect, ApplyError> {
        let name = names::revision_object(&self.name, revision.as_str());
        let Some(live) = cached.iter().find(|found| found.name_any() == name) else {
            return Ok(Effect::None);
        };
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: live.meta().uid.clone(),
            resource_version: live.meta().resource_version.clone(),
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
fn metadata<'a, K: Resource>(
    cached: &'a [Arc<K>],
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
