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
    fn a_status_field_is_read_without_its_unit() {
        let status = "Name:\tworker\nVmRSS:\t   90912 kB\nThreads:\t7\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(90912));
        assert_eq!(status_field(status, "Threads:"), Some(7));
        assert_eq!(status_field(status, "VmSwap:"), None);
    }
}
