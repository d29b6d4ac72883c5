//! What was measured, in tables.

use std::collections::BTreeMap;

use serde::Serialize;

use super::generator::{CONNECTIONS, Summary};
use crate::bench::median;
use crate::bench::table::{aligned, row, share_of_peak};
use crate::bench::target::{Bound, Target};

/// The engine without a server, a run after the other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InProcess {
    pub(super) kernel: String,
    pub(super) tokens_per_second: Vec<f64>,
    /// For each second of one processor.
    pub(super) tokens_per_processor_second: Vec<f64>,
    /// Floating-point operations a second of the one core.
    pub(super) peak: Vec<f64>,
    pub(super) resident_bytes: f64,
}

/// A server.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Served {
    /// Every text once, a run after the other.
    pub(super) every_text: Vec<Summary>,
    /// By percent of the worker's capacity, all runs together.
    pub(super) at_rates: BTreeMap<u32, Summary>,
    pub(super) resident_bytes: f64,
}

/// All that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) processor: String,
    pub(super) runs: u32,
    /// Of each open loop.
    pub(super) seconds: u32,
    pub(super) texts: usize,
    /// Tokens of all texts, and floating-point operations of the network for them.
    pub(super) size: (f64, f64),
    pub(super) in_process: InProcess,
    pub(super) worker: Served,
    pub(super) infinity: Option<Served>,
    pub(super) infinity_not_measured: Option<String>,
}

/// The worker, among the servers.
const OURS: &str = "lamplighter";
/// The load of the last line, in percent.
const SHOWN: u32 = 50;
/// Of the engine's tokens for a second of the processor, what the worker has to reach.
const WANTED: f64 = 0.8;

impl Figures {
    pub(super) fn tables(&self) -> String {
        let head = format!(
            "\n{}, one core and another that asks; kernel {}; 32-bit multiply-add: {:.0} GFLOP/s\n",
            self.processor,
            self.in_process.kernel,
            self.peak() / 1e9
        );
        let mut parts =
            vec![head, self.every_text(), String::new(), self.at_rates(), String::new()];
        if let Some(reason) = &self.infinity_not_measured {
            parts.push(format!("infinity: not measured: {reason}\n"));
        }
        parts.push(self.verdict());
        parts.join("\n")
    }

    fn peak(&self) -> f64 {
        median(self.in_process.peak.iter().copied())
    }

    fn servers(&self) -> impl Iterator<Item = (&'static str, &Served)> {
        let infinity = self.infinity.iter().map(|infinity| ("infinity", infinity));
        std::iter::once((OURS, &self.worker)).chain(infinity)
    }

    /// As fast as they can.
    fn every_text(&self) -> String {
        let what = format!(
            "{} texts, one a request, {CONNECTIONS} connections; medians of {}",
            self.texts, self.runs
        );
        let mut rows = vec![row([
            &what,
            "req/s",
            "tok/s",
            "of peak",
            "tok/CPU s",
            "CPU ms/1,000 tok",
            "p50 ms",
            "p99 ms",
            "resident MB",
        ])];
        let (tokens, flops) = self.size;
        let share = |computes_in: &str, speed: f64| {
            share_of_peak(computes_in, Some(speed * flops / tokens), self.peak())
        };
        let ours = &self.in_process;
        let speed = median(ours.tokens_per_second.iter().copied());
        let alone = median(ours.tokens_per_processor_second.iter().copied());
        rows.push(row([
            "the engine in process, tokenizer included",
            "",
            &format!("{speed:.0}"),
            &share(&ours.kernel, speed),
            &format!("{alone:.0}"),
            &format!("{:.1}", 1e6 / alone),
            "",
            "",
            &format!("{:.0}", ours.resident_bytes / 1e6),
        ]));
        for (name, served) in self.servers() {
            let middle = |of: fn(&Summary) -> f64| median(served.every_text.iter().map(of));
            let speed = middle(|pass| pass.tokens_per_second);
            // infinity runs torch in 32 bits.
            let computes_in = if name == OURS { &*ours.kernel } else { "f32" };
            rows.push(row([
                &format!("{name} over HTTP"),
                &format!("{:.1}", middle(|pass| pass.answered_per_second)),
                &format!("{speed:.0}"),
                &share(computes_in, speed),
                &format!("{:.0}", middle(|pass| pass.tokens_per_processor_second)),
                &format!("{:.1}", middle(Summary::cpu_millis_per_1000_tokens)),
                &format!("{:.0}", middle(|pass| pass.p50)),
                &format!("{:.0}", middle(|pass| pass.p99)),
                &format!("{:.0}", served.resident_bytes / 1e6),
            ]));
        }
        aligned(&rows)
    }

    /// Less than the worker can bear.
    fn at_rates(&self) -> String {
        let what = format!("of that capacity, {} s in each of {} runs", self.seconds, self.runs);
        let mut rows =
            vec![row([&what, "due/s", "answered %", "p50 ms", "p99 ms", "CPU ms/1,000 tok"])];
        for share in self.worker.at_rates.keys() {
            for (name, served) in self.servers() {
                let Some(load) = served.at_rates.get(share) else { continue };
                rows.push(row([
                    &format!("{share} % {name}"),
                    &format!("{:.1}", load.due_per_second),
                    &format!("{:.1}", 100.0 * load.answered),
                    &format!("{:.1}", load.p50),
                    &format!("{:.1}", load.p99),
                    &format!("{:.1}", load.cpu_millis_per_1000_tokens()),
                ]));
            }
        }
        aligned(&rows)
    }

    /// What the worker reached of the engine in the same run: the median.
    fn of_in_process(&self, engine: &[f64], worker: fn(&Summary) -> f64) -> f64 {
        let runs = self.worker.every_text.iter().map(worker).zip(engine);
        median(runs.map(|(worker, engine)| worker / engine))
    }

    fn of_a_processor_second(&self) -> f64 {
        self.of_in_process(&self.in_process.tokens_per_processor_second, |pass| {
            pass.tokens_per_processor_second
        })
    }

    /// What has to be reached.
    pub(super) fn targets(&self) -> Vec<Target> {
        let what = "the worker's tokens for a second of the processor, of the engine's".to_owned();
        let found = Some(self.of_a_processor_second());
        vec![Target { what, found, bound: Bound::AtLeast(WANTED) }]
    }

    fn verdict(&self) -> String {
        let ours = &self.in_process;
        let alone = self.of_a_processor_second();
        let by_the_clock =
            self.of_in_process(&ours.tokens_per_second, |pass| pass.tokens_per_second);
        let shown = self.worker.at_rates.get(&SHOWN);
        let infinity = self.infinity.as_ref().and_then(|infinity| infinity.at_rates.get(&SHOWN));
        let infinity = infinity.map_or_else(
            || "not measured".to_owned(),
            |load| format!("{:.1}", load.cpu_millis_per_1000_tokens()),
        );
        let shown = shown.map_or_else(
            || "not measured".to_owned(),
            |load| {
                let cpu = load.cpu_millis_per_1000_tokens();
                format!("p99 {:.0} ms, {cpu:.1} CPU ms per 1,000 tokens", load.p99)
            },
        );
        format!(
            "serve: {alone:.2} of in-process per CPU second ({WANTED:.2}), {by_the_clock:.2} by the \
             clock; {SHOWN} %: {shown} (infinity {infinity})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::check;

    fn summary(tokens_per_second: f64, tokens_per_processor_second: f64) -> Summary {
        Summary {
            due_per_second: 8.0,
            answered_per_second: 6.0,
            answered: 0.75,
            tokens_per_second,
            tokens_per_processor_second,
            p50: 3.0,
            p99: 11.6,
        }
    }

    fn figures(infinity: Option<Served>) -> Figures {
        Figures {
            processor: "any".to_owned(),
            runs: 2,
            seconds: 9,
            texts: 5,
            size: (100.0, 1_000.0),
            in_process: InProcess {
                kernel: "avx2-f32".to_owned(),
                tokens_per_second: vec![100.0, 200.0],
                tokens_per_processor_second: vec![100.0, 250.0],
                peak: vec![3_000.0],
                resident_bytes: 7e6,
            },
            worker: Served {
                every_text: vec![summary(80.0, 90.0), summary(100.0, 200.0)],
                at_rates: [(25, summary(1.0, 400.0)), (50, summary(1.0, 100.0))].into(),
                resident_bytes: 8e6,
            },
            infinity_not_measured: infinity.is_none().then(|| "it did not start".to_owned()),
            infinity,
        }
    }

    #[test]
    fn the_last_line_compares_with_the_engine_of_the_same_run() {
        let infinity = Served {
            every_text: vec![summary(8.0, 9.0)],
            at_rates: [(50, summary(1.0, 50.0))].into(),
            resident_bytes: 9e6,
        };
        // 0.9 and 0.8 of the processor's time, 0.8 and 0.5 by the clock.
        assert_eq!(
            figures(Some(infinity)).verdict(),
            "serve: 0.85 of in-process per CPU second (0.80), 0.65 by the clock; 50 %: p99 12 ms, \
             10000.0 CPU ms per 1,000 tokens (infinity 20000.0)"
        );
    }

    #[test]
    fn a_worker_that_costs_a_quarter_more_than_its_engine_is_the_last_that_is_good_enough() {
        let mut figures = figures(None);
        figures.worker.every_text = vec![summary(80.0, 80.0), summary(80.0, 200.0)];
        check(&figures.targets()).unwrap();
        figures.worker.every_text = vec![summary(80.0, 79.0), summary(80.0, 199.0)];
        check(&figures.targets()).unwrap_err();
    }

    #[test]
    fn what_computes_in_fewer_bits_has_no_share_of_the_peak() {
        let mut figures = figures(None);
        "avx512-bf16".clone_into(&mut figures.in_process.kernel);
        let table = figures.every_text();
        let row = table.lines().find(|line| line.starts_with("lamplighter over HTTP"));
        let cells: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
        assert_eq!(cells[3..6], ["6.0", "90", "-"], "{table}");
    }

    #[test]
    fn what_was_not_measured_is_said_and_has_no_row() {
        let tables = figures(None).tables();
        assert!(tables.contains("\ninfinity: not measured: it did not start\n"), "{tables}");
        assert!(tables.ends_with("(infinity not measured)"), "{tables}");
        let rows = tables.lines().filter(|line| line.contains("infinity over HTTP"));
        assert_eq!(rows.count(), 0, "{tables}");
    }

    #[test]
    fn rows_have_medians_shares_and_milliseconds() {
        let tables = figures(None).tables();
        let cells = |begin: &str| -> Vec<String> {
            let row = tables.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default();
            row.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(
            cells("the engine in process, tokenizer included"),
            ["150", "50", "175", "5714.3", "7"],
            "{tables}"
        );
        assert_eq!(
            cells("lamplighter over HTTP"),
            ["6.0", "90", "30", "145", "8055.6", "3", "12", "8"],
            "{tables}"
        );
        assert_eq!(cells("25 % lamplighter"), ["8.0", "75.0", "3.0", "11.6", "2500.0"], "{tables}");
    }
}
