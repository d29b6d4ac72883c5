//! Somebody changes their mind in the middle: A→B→A, A→B→A→B, A→B→A→C, at every moment
//! (the cases of <https://github.com/ray-project/kuberay/blob/master/ray-operator/test/e2eincrementalupgrade>).

use std::time::Duration;

use anyhow::ensure;
use lamplighter_e2e::fixtures::Variant;
use lamplighter_e2e::spec::With as _;
use lamplighter_e2e::trial::{Trial, phase_of, serves, version};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

/// When somebody does.
#[derive(Clone, Copy, Debug)]
enum When {
    /// Before there is a pod of the new version.
    Before,
    /// While its pods load.
    Early,
    /// While the Service is moved.
    Middle,
    /// While what was there before is still kept.
    Late,
}

fn a(scene: &Scene) -> Value {
    let first = version(scene, Variant::SOUND, "1.0.0", "");
    first.with("/spec/rollout/rollbackWindowSeconds", json!(15))
}

fn b(scene: &Scene) -> Value {
    let second = version(scene, Variant::SECOND, "2.0.0", "slow-load=3");
    second.with("/spec/rollout/rollbackWindowSeconds", json!(15))
}

fn c(scene: &Scene) -> Value {
    let third = version(scene, Variant::THIRD, "3.0.0", "");
    third.with("/spec/rollout/rollbackWindowSeconds", json!(15))
}

async fn reached(trial: &Trial, when: When, applied: Duration) -> anyhow::Result<()> {
    match when {
        When::Before => {}
        When::Early => {
            trial.until_phase("Gating", applied).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        When::Middle => {
            trial
                .until("the switch has begun", applied, |status| {
                    matches!(phase_of(status), "CuttingOver" | "Shedding")
                })
                .await?;
        }
        When::Late => {
            trial
                .until("the new version bakes", applied, |status| {
                    phase_of(status) == "Baking" && serves(status, "2.0.0")
                })
                .await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    Ok(())
}

/// A manifest and its version.
type Last = (fn(&Scene) -> Value, &'static str);

/// Goes to B, back to A at some moment, and on to `last` if there is one.
async fn changed(name: &'static str, when: When, last: Option<Last>) -> anyhow::Result<()> {
    with_namespace(Turn::Alone, async |scene| {
        let trial = Trial::begin(&scene, name, &a(&scene)).await?;
        let old = trial.uids().await?;
        let applied = trial.apply(&b(&scene)).await?;
        reached(&trial, when, applied).await?;
        let back = trial.apply(&a(&scene)).await?;
        let wanted = match last {
            None => "1.0.0",
            Some((manifest, version)) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                trial.apply(&manifest(&scene)).await?;
                version
            }
        };
        let served = trial.until_serves(wanted, back).await?;
        trial
            .until("nothing is under way", served.at, |status| {
                phase_of(status).is_empty() && serves(status, wanted)
            })
            .await?;
        trial.until_swept(1).await?;
        let left = trial.uids().await?;
        if last.is_none() {
            ensure!(left == old, "the pods that served from the beginning were replaced");
        }
        if last.is_none() && matches!(when, When::Before) {
            let made = trial.lives().len();
            ensure!(made <= 2, "{made} pods for a change that was taken back at once");
        }
        let finished = trial.finish(1).await?;
        finished.row(back, Some(served.at), None)
    })
    .await
}

macro_rules! matrix {
    ($($(#[$doc:meta])* $test:ident: $name:literal, $when:expr, $last:expr;)*) => {$(
        $(#[$doc])*
        #[tokio::test]
        #[ignore = "needs the cluster: cargo xtask e2e rollouts"]
        async fn $test() -> anyhow::Result<()> {
            changed($name, $when, $last).await
        }
    )*};
}

matrix! {
    /// Guarantees: mind-01.
    before_a_b_a: "a-b-a before", When::Before, None;
    /// Guarantees: strategy-09, mind-02.
    early_a_b_a: "a-b-a early", When::Early, None;
    /// Guarantees: mind-02.
    ci_middle_a_b_a: "a-b-a middle", When::Middle, None;
    /// Guarantees: strategy-09, mind-02.
    late_a_b_a: "a-b-a late", When::Late, None;
    /// Guarantees: mind-03.
    before_a_b_a_b: "a-b-a-b before", When::Before, Some((b, "2.0.0"));
    /// Guarantees: mind-03.
    early_a_b_a_b: "a-b-a-b early", When::Early, Some((b, "2.0.0"));
    /// Guarantees: mind-03.
    middle_a_b_a_b: "a-b-a-b middle", When::Middle, Some((b, "2.0.0"));
    /// Guarantees: mind-03.
    late_a_b_a_b: "a-b-a-b late", When::Late, Some((b, "2.0.0"));
    /// Guarantees: mind-04.
    before_a_b_a_c: "a-b-a-c before", When::Before, Some((c, "3.0.0"));
    /// Guarantees: mind-04.
    early_a_b_a_c: "a-b-a-c early", When::Early, Some((c, "3.0.0"));
    /// Guarantees: mind-04.
    middle_a_b_a_c: "a-b-a-c middle", When::Middle, Some((c, "3.0.0"));
    /// Guarantees: return-10, mind-04.
    late_a_b_a_c: "a-b-a-c late", When::Late, Some((c, "3.0.0"));
}
