//! The samples, applied as they stand in the repository.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lamplighter_api::{ModelDeployment, names};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::Value;

use lamplighter_e2e::volume::{Access, Volume};

/// The real model is read, warmed up and checked on two busy cores, by two pods twice.
const REAL_MODEL_DEADLINE: Duration = Duration::from_mins(4);

/// Applies a sample and waits until it is ready.
pub(crate) async fn sample(scene: &Scene, name: &str) -> anyhow::Result<ModelDeployment> {
    let path = scene.settings.repo.join("config/samples").join(format!("{name}.yaml"));
    let path = path.to_str().context("the path is not UTF-8")?;
    let said = scene.kubectl(&["apply", "-f", path], "").await?;
    ensure!(said.contains(&format!("/{name} created")), "{said}");
    scene.wait_for_condition(name, "Ready", "True", None, REAL_MODEL_DEADLINE).await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn the_sample_with_two_versions_on_a_claim_serves_both() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let minilm = scene.settings.minilm.clone();
        let volume = Volume::provide(&scene, Access::ReadOnly, |folder| {
            copy(&minilm, &folder.join("minilm/1.0.0"))?;
            copy(&minilm, &folder.join("minilm/1.1.0-rc.1"))
        })
        .await?;
        let served = serves(&scene, "from-claim", &["minilm:1.0.0", "minilm:1.1.0-rc.1"]).await;
        let removed = volume.remove(&scene).await;
        served.and(removed)
    })
    .await
}

#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn the_sample_with_the_model_in_its_image_serves_it() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| serves(&scene, "baked-in", &["minilm:1.0.0"]).await)
        .await
}

/// The sample becomes ready, and its Service lists these models.
async fn serves(scene: &Scene, name: &str, models: &[&str]) -> anyhow::Result<()> {
    let deployment = sample(scene, name).await?;
    let active = deployment.status.and_then(|status| status.active).context("nothing serves")?;
    ensure!(active.models.len() == models.len(), "{:?}", active.models);
    let service = names::service(name);
    let route =
        format!("/api/v1/namespaces/{}/services/{service}:80/proxy/v1/models", scene.namespace);
    let listed: Value = serde_json::from_str(&scene.kubectl(&["get", "--raw", &route], "").await?)?;
    let data = listed["data"].as_array().context("no list of models")?;
    let ids: BTreeSet<&str> = data.iter().filter_map(|model| model["id"].as_str()).collect();
    ensure!(models.iter().all(|model| ids.contains(model)), "{listed}");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("{} cannot be made", to.display()))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, &to)
                .with_context(|| format!("{} cannot be copied", to.display()))?;
        }
    }
    Ok(())
}
