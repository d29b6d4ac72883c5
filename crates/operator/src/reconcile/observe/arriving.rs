//! Whether a pod that is on its way gets on although it is not ready: bytes of a large model arrive
//! for longer than any deadline that suits a small one.

use lamplighter_plan::Seconds;
use lamplighter_protocol::{ModelReport, Phase, Report};

/// The slowest arrival that counts, in bytes a second on average. The worker itself gives up a
/// store that sends nothing at all.
const SLOWEST: f64 = 1_000_000.0;
/// How many deadlines a start may take in all while bytes arrive.
const MOST_DEADLINES: f64 = 4.0;

/// Bytes arrive fast enough, and the process has not run for longer than a start may take at most.
pub(super) fn is_arriving(report: &Report, deadline: Seconds) -> bool {
    let most = MOST_DEADLINES * f64::from(deadline.0);
    report.uptime_seconds <= most && report.models.iter().any(arrives)
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn arrives(model: &ModelReport) -> bool {
    model.phases.last().is_some_and(|running| {
        running.phase == Phase::Fetch
            && !running.done
            && running.bytes as f64 >= SLOWEST * running.seconds
            && running.bytes > 0
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(uptime: f64, phase: &str, seconds: f64, bytes: u64, done: bool) -> Report {
        serde_json::from_value(json!({
            "podUid": "u", "podName": "p", "revision": "r", "workerVersion": "0.1.0",
            "device": "Cpu", "state": "Starting", "uptimeSeconds": uptime, "inFlight": 0,
            "models": [{
                "key": "m:1", "task": "Embedding", "state": "Loading",
                "phases": [{"phase": phase, "seconds": seconds, "bytes": bytes, "done": done}],
            }],
        }))
        .unwrap()
    }

    /// Guarantees: gates-03.
    #[test]
    fn bytes_that_arrive_fast_enough_put_the_deadline_off_four_times() {
        let deadline = Seconds(600);
        for (uptime, phase, seconds, bytes, done, expected) in [
            (700.0, "Fetch", 690.0, 690_000_000, false, true),
            (700.0, "Fetch", 690.0, 689_000_000, false, false),
            (2400.0, "Fetch", 2390.0, 9_000_000_000, false, true),
            (2401.0, "Fetch", 2391.0, 9_000_000_000, false, false),
            (700.0, "Fetch", 600.0, 9_000_000_000, true, false),
            (700.0, "WarmUp", 600.0, 0, false, false),
            (1.0, "Fetch", 0.0, 0, false, false),
        ] {
            let found = is_arriving(&report(uptime, phase, seconds, bytes, done), deadline);
            assert_eq!(found, expected, "{uptime} {phase} {seconds} {bytes} {done}");
        }
    }
}
