//! Gives each story a namespace of its own, keeps what is known when the story fails, and
//! leaves nothing behind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{OnceCell, RwLock};

use crate::deploy::{self, Installation};
use crate::dump;
use crate::scene::Scene;
use crate::settings::Settings;
use crate::spec::STORE_SECRET;
use crate::wait::{self, Look};

/// Longest time for one story, its waits included.
const STORY_DEADLINE: Duration = Duration::from_mins(5);
/// How long a namespace may take to go with everything in it.
const CLEANUP_DEADLINE: Duration = Duration::from_mins(2);

/// Whether other stories may run beside one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Beside others: the story leaves the operator alone.
    Shared,
    /// On its own: the story disturbs the operator, counts all that it does, or counts lost
    /// requests.
    Alone,
}

static TURNS: RwLock<()> = RwLock::const_new(());
static INSTALLED: OnceCell<Installation> = OnceCell::const_new();

/// Runs a story in a new namespace that enforces the `restricted` pod security standard and
/// has the keys of the model store in a Secret.
///
/// The first story of a run installs the chart and the store. When a story fails or panics, a
/// dump of its namespace and the operator's log is kept below `.local/log/e2e/<story>/`. The
/// namespace is deleted in any case, and a story whose namespace does not go has failed.
pub async fn with_namespace<F>(turn: Turn, story: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(Scene) -> anyhow::Result<()>,
{
    let name = name_of::<F>();
    let settings = Arc::new(Settings::from_environment()?);
    let client = client(&settings).await?;
    let (_shared, _alone) = match turn {
        Turn::Shared => (Some(TURNS.read().await), None),
        Turn::Alone => (None, Some(TURNS.write().await)),
    };
    let installed =
        INSTALLED.get_or_try_init(|| deploy::install(&settings, &client)).await?.clone();
    let namespace = create(&client, &name).await?;
    let scene = Scene { client, namespace, settings, installed };

    let told = async {
        scene.store_secret(STORE_SECRET, deploy::STORE_SECRET_KEY).await?;
        story(scene.clone()).await
    };
    let told = tokio::time::timeout(STORY_DEADLINE, told);
    let outcome = match AssertUnwindSafe(told).catch_unwind().await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) => Ok(Err(anyhow!("the story took longer than {STORY_DEADLINE:?}"))),
        Err(panic) => Err(panic),
    };
    let failure = match &outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}\n")),
        Err(_) => Some("it panicked; the message is in the output of the test\n".to_owned()),
    };
    if let Some(failure) = &failure {
        dump::keep(&scene, &name, failure).await;
    }
    let gone = delete(&scene.client, &scene.namespace).await;
    if failure.is_some()
        && let Err(error) = &gone
    {
        eprintln!("{name}: {error:#}");
    }
    match outcome {
        Ok(Ok(())) => gone,
        Ok(failure) => failure.with_context(|| {
            format!("see {} for what is known", scene.settings.dump_folder(&name).display())
        }),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

async fn client(settings: &Settings) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&settings.kubeconfig)
        .with_context(|| format!("{} is no kubeconfig", settings.kubeconfig.display()))?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The path of the function that wrote the story: `module::test` of
/// `stories::module::test::{{closure}}::{{closure}}`.
fn name_of<F>() -> String {
    let path = std::any::type_name::<F>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    let inner = path.split_once("::").map_or(path, |(_, inner)| inner).replace("::", ".");
    // A function with a type parameter has it in its name, which a label may not.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let plain: String = inner.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    plain.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

async fn create(client: &Client, story: &str) -> anyhow::Result<String> {
    let short: String =
        story.chars().rev().take(63).collect::<Vec<_>>().into_iter().rev().collect();
    let short = short.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let namespace = Namespace {
        metadata: ObjectMeta {
            generate_name: Some("story-".to_owned()),
            labels: Some(
                [
                    ("lamplighter.dev/story", short),
                    ("pod-security.kubernetes.io/enforce", "restricted"),
                    ("pod-security.kubernetes.io/enforce-version", "latest"),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let api: Api<Namespace> = Api::all(client.clone());
    let name = api.create(&PostParams::default(), &namespace).await?.name_any();
    // Pods are refused until the namespace's default account is there.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
    let what = format!("namespace {name} has its default account");
    wait::on(accounts, "default", &what, Duration::from_secs(30), |account| {
        Look::when(account.is_some(), || "no account".to_owned())
    })
    .await?;
    Ok(name)
}

async fn delete(client: &Client, name: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    api.delete(name, &DeleteParams::default()).await?;
    wait::on(api, name, &format!("namespace {name} is gone"), CLEANUP_DEADLINE, |found| {
        Look::when(found.is_none(), || {
            let status = found.and_then(|namespace| namespace.status.clone());
            let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
            conditions
                .into_iter()
                .filter_map(|condition| condition.message)
                .collect::<Vec<_>>()
                .join("; ")
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<F: AsyncFnOnce() -> String>(_: F) -> String {
        name_of::<F>()
    }

    #[test]
    fn a_story_is_named_after_its_function() {
        let name = named(async || String::new());
        assert_eq!(name, "namespace.tests.a_story_is_named_after_its_function");
    }

    fn of_any<T>(_: T) -> String {
        named(async || std::any::type_name::<T>().to_owned())
    }

    #[test]
    fn a_story_of_a_function_with_a_type_parameter_has_a_name_that_a_label_may_have() {
        let name = of_any(|| ());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        assert!(name.starts_with("namespace.tests.of_any-"), "{name}");
        assert!(name.chars().all(is_plain) && name.ends_with(char::is_alphanumeric), "{name}");
    }
}
