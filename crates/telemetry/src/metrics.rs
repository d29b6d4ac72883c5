//! The `/metrics` route: what is registered, as `OpenMetrics` text.
//!
//! Counters are registered without `_total`; the encoder appends it
//! (<https://github.com/prometheus/client_rust/blob/master/CHANGELOG.md>, 0.26.0).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
pub use prometheus_client::registry::Registry;

/// Media type of the `OpenMetrics` text format
/// (<https://prometheus.io/docs/specs/om/open_metrics_spec/>, "Overall Structure").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is registered and the process's own figures, to be shown on several routers. Clones show
/// the same.
#[derive(Clone, Debug)]
pub struct Page(Arc<Registry>);

impl Page {
    /// Adds the process's own figures to the registry, as `process_*`: give the registry no prefix,
    /// but a sub-registry with one for your own.
    pub fn new(mut registry: Registry) -> Self {
        registry.register_collector(Box::new(Process));
        Self(Arc::new(registry))
    }

    /// The figures as they are now.
    pub fn answer(&self) -> Response {
        let mut text = String::new();
        match encode(&mut text, &self.0) {
            Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "metrics could not be written as text");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// A router with `GET /metrics`.
    pub fn router(self) -> Router {
        let answer = async |State(page): State<Self>| page.answer();
        Router::new().route("/metrics", get(answer)).with_state(self)
    }
}

/// A router with `GET /metrics`, as [`Page`] shows it.
pub fn router(registry: Registry) -> Router {
    Page::new(registry).router()
}

/// Memory, threads and open files of this process, read at each scrape from `/proc/self`
/// (<https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>). Where there is no
/// `/proc`, the figures are left out rather than invented.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let figures = [
            (
                "process_resident_memory_bytes",
                "Memory held in RAM",
                status_field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            ),
            ("process_threads", "Threads of the process", status_field(&status, "Threads:")),
            (
                "process_open_fds",
                "Open file descriptors",
                std::fs::read_dir("/proc/self/fd")
                    .ok()
                    .and_then(|entries| i64::try_from(entries.count()).ok()),
            ),
        ];
        for (name, help, figure) in figures {
            let Some(figure) = figure else { continue };
            let gauge = ConstGauge::new(figure);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The rows of a table of what a registry holds samples of, by name: the name as it is scraped, the names
/// of its labels, and what it counts. What the documentation of a program has to say. A family without
/// samples is not among them.
///
/// # Errors
///
/// If the registry cannot be written as text.
pub fn documented(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    let mut rows = Vec::new();
    for family in text.split("# HELP ").skip(1) {
        let (name, help) =
            family.lines().next().and_then(|head| head.split_once(' ')).unwrap_or_default();
        let samples = || family.lines().skip(1).filter(|line| !line.starts_with('#'));
        let labels =
            samples().next().and_then(|line| Some(line.split_once('{')?.1.split_once('}')?.0));
        let labels: Vec<String> = labels
            .unwrap_or_default()
            .split(',')
            .filter_map(|label| Some(label.split_once('=')?.0))
            .filter(|label| *label != "le")
            .map(|label| format!("`{label}`"))
            .collect();
        let is_counter = samples().any(|line| line.starts_with(&format!("{name}_total")));
        let suffix = if is_counter { "_total" } else { "" };
        let help = help.trim_end_matches('.');
        rows.push(format!("| `{name}{suffix}` | {} | {help} |\n", labels.join(", ")));
    }
    rows.sort_unstable();
    Ok(rows.concat())
}

fn status_field(status: &str, field: &str) -> Option<i64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_answer_is_openmetrics_text_that_ends_with_eof() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc_by(3);
        registry.sub_registry_with_prefix("lamplighter").register(
            "lamps",
            "Lamps that were lit",
            counter,
        );

        let answer = router(registry)
            .oneshot(Request::get("/metrics").body(Body::empty()).unwrap())
            .await
            .unwrap();

        assert_eq!(answer.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("\nlamplighter_lamps_total 3\n"), "{text}");
        assert!(text.contains("\nprocess_threads "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_table_has_a_row_for_each_figure_with_its_labels() {
        use prometheus_client::metrics::family::Family;
        use prometheus_client::metrics::histogram::Histogram;

        let mut registry = Registry::default();
        let lit: Family<Vec<(&str, &str)>, Counter> = Family::default();
        lit.get_or_create(&vec![("street", "a, b"), ("side", "left")]).inc();
        registry.register("lamps", "Lamps that were lit", lit);
        let seconds = Histogram::new([1.0, 2.0]);
        registry.register("burning_seconds", "How long they burn", seconds);
        assert_eq!(
            documented(&registry).unwrap(),
            "| `burning_seconds` |  | How long they burn |\n\
             | `lamps_total` | `street`, `side` | Lamps that were lit |\n"
        );
    }

    #[test]
    fn a_status_field_is_read_without_its_unit() {
        let status = "Name:\tworker\nVmRSS:\t   90912 kB\nThreads:\t7\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(90912));
        assert_eq!(status_field(status, "Threads:"), Some(7));
        assert_eq!(status_field(status, "VmSwap:"), None);
    }
}
