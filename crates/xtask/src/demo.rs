//! `cargo xtask demo`: a real model behind a Service on a local Kubernetes, from nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lamplighter_cluster::Cluster;
use serde_json::{Value, json};

use crate::exec::Exec;
use crate::images::{self, Images};
use crate::term;
use crate::workspace::{Profile, Workspace};

const NAMESPACE: &str = "lamplighter-demo";
const SYSTEM: &str = "lamplighter-system";
const SAMPLE: &str = "config/samples/embedder.yaml";
const STORE: &str = "e2e/demo/store.yaml";
/// How long the model may take from `kubectl apply` to Ready.
const READY_DEADLINE: Duration = Duration::from_mins(5);
const TEXTS: [&str; 3] = [
    "A lamplighter walks the streets at dusk.",
    "Somebody lights the street lamps every evening.",
    "The quarterly report is due on Friday.",
];

/// Runs the demo from end to end. Every part may be repeated.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::at(workspace.root());
    term::step("demo: building images");
    let images = images::build(workspace, Profile::Dev)?;
    term::step("demo: bringing up Kubernetes");
    cluster.up(&term::Printer)?;
    images.import(&cluster)?;
    let demo = Demo { workspace, cluster: &cluster };
    demo.install_operator(&images)?;
    demo.install_store(&images)?;
    let name = demo.apply_sample()?;
    demo.wait_until_ready(&name)?;
    term::line(&demo.kubectl("show the deployment", &["get", "mdpl", "-o", "wide"])?);
    let port = demo.node_port(&name)?;
    ask(port, &name, &demo.model(&name)?)?;
    farewell(&cluster, &name, port);
    term::line(&format!("demo: ready in {} s", started.elapsed().as_secs()));
    Ok(())
}

struct Demo<'a> {
    workspace: &'a Workspace,
    cluster: &'a Cluster,
}

impl Demo<'_> {
    fn kubectl(&self, what: &str, args: &[&str]) -> Result<String> {
        let output = Exec::new(what, self.cluster.kubectl())
            .args(["--namespace", NAMESPACE])
            .args(args)
            .deadline(Duration::from_mins(2))
            .run(&self.workspace.logs())?;
        Ok(output.text)
    }

    fn install_operator(&self, images: &Images) -> Result<()> {
        term::step("demo: installing the operator with helm");
        self.kubectl("make the operator's namespace", &["apply", "-f", &self.system_namespace()?])?;
        let (operator, operator_tag) = images.operator.split();
        let (worker, worker_tag) = images.worker.split();
        Exec::new("helm install", self.cluster.helm())
            .args(["upgrade", "--install", "lamplighter"])
            .args([self.workspace.path("charts/lamplighter")])
            .args(["--namespace", SYSTEM, "--wait", "--timeout", "180s"])
            .args(["--set-string", &format!("image.repository={operator}")])
            .args(["--set-string", &format!("image.tag={operator_tag}")])
            .args(["--set-string", &format!("worker.image.repository={worker}")])
            .args(["--set-string", &format!("worker.image.tag={worker_tag}")])
            .deadline(Duration::from_mins(4))
            .run(&self.workspace.logs())?;
        Ok(())
    }

    fn system_namespace(&self) -> Result<String> {
        self.write(
            "namespace.yaml",
            &json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": SYSTEM,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            })
            .to_string(),
        )
    }

    fn install_store(&self, images: &Images) -> Result<()> {
        term::step("demo: an S3 server with the model");
        let path = self.workspace.path(STORE);
        let manifest = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .replace("STORE_IMAGE", &images.store.reference);
        let file = self.write("store.yaml", &manifest)?;
        self.kubectl("apply the store", &["apply", "-f", &file])?;
        self.kubectl(
            "wait for the store",
            &["rollout", "status", "deployment/store", "--timeout=100s"],
        )?;
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let folder = self.workspace.path(".local/demo");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        path.into_os_string()
            .into_string()
            .map_err(|path| anyhow::anyhow!("{} is not UTF-8", Path::new(&path).display()))
    }

    fn apply_sample(&self) -> Result<String> {
        term::step(&format!("demo: kubectl apply -f {SAMPLE}"));
        let file = self.workspace.path(SAMPLE).display().to_string();
        self.kubectl("apply the sample", &["apply", "-f", &file])?;
        let name = self.kubectl(
            "name of the sample",
            &["get", "-f", &file, "-o", "jsonpath={.metadata.name}"],
        )?;
        Ok(name.trim().to_owned())
    }

    /// Follows the Ready condition and prints each new message.
    fn wait_until_ready(&self, name: &str) -> Result<()> {
        let started = Instant::now();
        let mut shown = String::new();
        while started.elapsed() < READY_DEADLINE {
            // Returns as soon as the condition is met; its time-out paces this loop.
            let waited = Exec::new("wait for the sample", self.cluster.kubectl())
                .args(["--namespace", NAMESPACE, "wait", "--for=condition=Ready"])
                .args([&format!("modeldeployment/{name}"), "--timeout=2s"])
                .deadline(Duration::from_secs(30))
                .run_to_end(&self.workspace.logs())?;
            if waited.0.success() {
                term::detail(&format!("Ready after {} s", started.elapsed().as_secs()));
                return Ok(());
            }
            let object = self.get(name)?;
            let message = ready_message(&object);
            if message != shown {
                term::detail(&message);
                shown = message;
            }
        }
        bail!(
            "{name} was not Ready within {} s: {shown}; look with `cargo xtask kubectl -n \
             {NAMESPACE} describe mdpl {name}`",
            READY_DEADLINE.as_secs()
        )
    }

    fn get(&self, name: &str) -> Result<Value> {
        let text = self.kubectl("read the sample", &["get", "mdpl", name, "-o", "json"])?;
        serde_json::from_str(&text).context("kubectl did not print JSON")
    }

    /// The name that requests use for the sample's first model.
    fn model(&self, name: &str) -> Result<String> {
        let object = self.get(name)?;
        let model = object["spec"]["models"][0]["name"].as_str();
        Ok(model.with_context(|| format!("{name} names no model"))?.to_owned())
    }

    fn node_port(&self, name: &str) -> Result<u16> {
        let text = self.kubectl(
            "find the node port",
            &["get", "service", name, "-o", "jsonpath={.spec.ports[0].nodePort}"],
        )?;
        text.trim().parse().with_context(|| format!("Service {name} has no node port: {text:?}"))
    }
}

fn ready_message(object: &Value) -> String {
    let ready = object["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    match ready {
        Some(ready) => format!(
            "{}: {}",
            ready["reason"].as_str().unwrap_or("no reason"),
            ready["message"].as_str().unwrap_or("")
        ),
        None => "the operator has not looked at it yet".to_owned(),
    }
}

/// Asks the Service for three sentences and prints how near they are to each other.
fn ask(port: u16, name: &str, model: &str) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/v1/embeddings");
    term::step(&format!("demo: POST {url}"));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
    let answer: Value = agent
        .post(&url)
        .send_json(json!({"model": model, "input": TEXTS}))
        .with_context(|| format!("the Service {name} did not answer at {url}"))?
        .body_mut()
        .read_json()
        .context("the answer is not JSON")?;
    let vectors = vectors(&answer)?;
    for (index, text) in TEXTS.iter().enumerate() {
        term::line(&format!("  {}  {text}", index + 1));
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        term::line(&format!(
            "  cosine {} {}: {:+.4}",
            a + 1,
            b + 1,
            cosine(&vectors[a], &vectors[b])
        ));
    }
    if cosine(&vectors[0], &vectors[1]) <= cosine(&vectors[0], &vectors[2]) {
        bail!("the two sentences about lamps must be nearer than the one about a report");
    }
    Ok(())
}

fn vectors(answer: &Value) -> Result<Vec<Vec<f64>>> {
    let data = answer["data"].as_array().context("the answer has no data")?;
    let vectors: Vec<Vec<f64>> = data
        .iter()
        .map(|item| {
            item["embedding"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
        })
        .collect();
    if vectors.len() != TEXTS.len() || vectors.iter().any(Vec::is_empty) {
        bail!("the answer has {} vectors for {} sentences", vectors.len(), TEXTS.len());
    }
    Ok(vectors)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

fn farewell(cluster: &Cluster, name: &str, port: u16) {
    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.display();
    term::line(&format!(
        "\nLook around:
  cargo xtask kubectl -n {NAMESPACE} describe mdpl {name}
  cargo xtask kubectl -n {NAMESPACE} get pods,services,controllerrevisions
  cargo xtask kubectl -n {SYSTEM} logs deployment/lamplighter
  curl http://127.0.0.1:{port}/v1/models
  export KUBECONFIG={kubeconfig}
Change it:
  cargo xtask kubectl -n {NAMESPACE} scale mdpl {name} --replicas=2
Take it down, everything:
  cargo xtask cluster down\n"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_of_a_vector_with_itself_is_one() {
        assert!((cosine(&[0.6, -0.8], &[0.6, -0.8]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_answer_with_too_few_vectors_is_refused() {
        assert!(vectors(&json!({"data": [{"embedding": [1.0]}]})).is_err());
    }

    #[test]
    fn the_message_is_that_of_the_ready_condition() {
        let object = json!({"status": {"conditions": [
            {"type": "Available", "reason": "No", "message": "other"},
            {"type": "Ready", "reason": "Loading", "message": "1 of 1 pods load"},
        ]}});
        assert_eq!(ready_message(&object), "Loading: 1 of 1 pods load");
    }
}
