//! The chart and the kustomize base: both render, and to the same objects.

mod objects;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::exec::Exec;
use objects::Objects;

/// Rendering touches no network and no cluster.
const DEADLINE: Duration = Duration::from_mins(1);
/// The names that `config/default` has built in.
const RELEASE: &str = "lamplighter";
const NAMESPACE: &str = "lamplighter-system";

/// Values that must be refused, and a part of why.
const REFUSED: [(&str, &[&str], &str); 4] = [
    ("a misspelled value", &["replica=2"], "replica"),
    ("a misspelled nested value", &["worker.image.tags=1"], "tags"),
    ("a value of another type", &["replicas=many"], "replicas"),
    (
        "several operators without an election",
        &["replicas=2", "leaderElection.enabled=false"],
        "enable leader election or set replicas to 1",
    ),
];

/// Runs every check and says how many there were; the first that fails is the error.
pub(crate) fn check(root: &Path, kubectl: &Path, helm: &Path) -> Result<usize> {
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let tools = Tools { root, kubectl, helm, scratch: scratch.path() };
    let mut checks = 0;

    for values in tools.value_files()? {
        tools.lint(values.as_deref())?;
        let rendered = tools.render_chart(values.as_deref())?;
        let name = values.as_deref().map_or("the defaults".into(), Path::to_string_lossy);
        rendered.check_restricted().with_context(|| format!("the chart with {name}"))?;
        checks += 3;
    }
    for (what, values, why) in REFUSED {
        tools.refuses(what, values, why)?;
        checks += 1;
    }
    let chart = tools.render_chart(None)?.without_hooks();
    let base = tools.render_base()?;
    base.check_restricted().context("config/default")?;
    let differences = chart.differences(&base.without("Namespace"));
    ensure!(
        differences.is_empty(),
        "the chart and config/default render different objects:\n{}",
        differences.join("\n")
    );
    Ok(checks + 1 + chart.len())
}

struct Tools<'a> {
    root: &'a Path,
    kubectl: &'a Path,
    helm: &'a Path,
    scratch: &'a Path,
}

impl Tools<'_> {
    fn chart(&self) -> PathBuf {
        self.root.join("charts/lamplighter")
    }

    fn logs(&self) -> PathBuf {
        self.root.join(".local/log")
    }

    /// The values to render with: none, that is the defaults, and each file of `ci/`.
    fn value_files(&self) -> Result<Vec<Option<PathBuf>>> {
        let folder = self.chart().join("ci");
        let mut files = Vec::new();
        for entry in
            folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?
        {
            files.push(Some(entry?.path()));
        }
        ensure!(!files.is_empty(), "{} has no values to render with", folder.display());
        files.push(None);
        files.sort();
        Ok(files)
    }

    fn lint(&self, values: Option<&Path>) -> Result<()> {
        self.helm("helm lint", &["lint", "--strict"])
            .args(values_flag(values))
            .run(&self.logs())?;
        Ok(())
    }

    fn render_chart(&self, values: Option<&Path>) -> Result<Objects> {
        let into = tempfile::tempdir_in(self.scratch).context("cannot make a scratch folder")?;
        self.helm("helm template", &["template", RELEASE])
            .args(["--namespace", NAMESPACE, "--output-dir"])
            .args([into.path()])
            .args(values_flag(values))
            .run(&self.logs())?;
        Objects::read(into.path())
    }

    fn render_base(&self) -> Result<Objects> {
        let into = tempfile::tempdir_in(self.scratch).context("cannot make a scratch folder")?;
        Exec::new("kubectl kustomize", self.kubectl)
            .args(["kustomize"])
            .args([self.root.join("config/default")])
            .args(["--output"])
            .args([into.path().join("default.yaml")])
            .deadline(DEADLINE)
            .run(&self.logs())?;
        Objects::read(into.path())
    }

    fn refuses(&self, what: &str, values: &[&str], why: &str) -> Result<()> {
        let (status, output) = self
            .helm("helm template with wrong values", &["template", RELEASE])
            .args(values.iter().flat_map(|value| ["--set", value]))
            .run_to_end(&self.logs())?;
        if status.success() {
            bail!("the chart accepts {what}: {}", values.join(", "));
        }
        ensure!(
            output.text.contains(why),
            "the chart refuses {what}, but without saying {why:?}:\n{}",
            output.text
        );
        Ok(())
    }

    fn helm(&self, what: &str, command: &[&str]) -> Exec {
        Exec::new(what, self.helm).args(command).args([self.chart()]).deadline(DEADLINE)
    }
}

fn values_flag(values: Option<&Path>) -> Vec<&std::ffi::OsStr> {
    values.map_or(Vec::new(), |path| vec!["--values".as_ref(), path.as_os_str()])
}
