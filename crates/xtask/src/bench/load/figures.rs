//! What was measured of loads, in tables and a verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::MODELS;
use crate::bench::machine::Machine;
use crate::bench::python::Loaded;
use crate::bench::table::{aligned, row};
use crate::bench::target::{Bound, Target};

/// One start of a worker, or the median of several.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start {
    /// From the start of the process until it is ready.
    pub(super) seconds: f64,
    /// Processor time of the worker, and of the store beside it.
    pub(super) cpu_seconds: f64,
    pub(super) store_cpu_seconds: f64,
    /// Bytes of all artifacts.
    pub(super) bytes: f64,
    pub(super) peak_bytes: f64,
    /// Of all models together: seconds and bytes.
    pub(super) phases: BTreeMap<String, (f64, f64)>,
}

/// All that was measured. Rates are bytes a second.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) machine: Machine,
    pub(super) runs: u32,
    pub(super) warm: Start,
    pub(super) together: Start,
    pub(super) one_by_one: Start,
    pub(super) store_rate: f64,
    pub(super) python_one: Option<Loaded>,
    pub(super) python_eight: Option<Loaded>,
}

const MB: f64 = 1e6;
/// What a worker may take beside its models: a fixed part, and a share of their files.
const PEAK_FIXED: f64 = 80.0 * MB;
const PEAK_SHARE: f64 = 1.2;
/// Seconds until one model whose files are in the page cache is ready.
const READY: f64 = 0.5;
/// What eight at once may take of the time that they take one after the other.
const OF_SERIAL: f64 = 0.6;
/// And of what nothing on this machine could beat.
const OF_BOUND: f64 = 1.25;

impl Figures {
    /// What eight loads take at least: for the line to bring the bytes, for the cores to do the work
    /// of worker and store.
    fn bound(&self) -> f64 {
        let cores = self.machine.cores as f64;
        let cpu = (self.together.cpu_seconds + self.together.store_cpu_seconds) / cores;
        cpu.max(self.together.bytes / self.store_rate)
    }

    pub(super) fn tables(&self) -> String {
        let machine = &self.machine;
        let gigabytes = |rate: f64| format!("{:.2} GB/s", rate / 1e9);
        let head = format!(
            "\n{}, {} cores; medians of {} runs\nread from the page cache {}; copy {}, into new \
             memory {}; disk, written and synced {}; curl from the store {}\n",
            machine.processor,
            machine.cores,
            self.runs,
            gigabytes(machine.cached_read),
            gigabytes(machine.copy),
            gigabytes(machine.first_copy),
            gigabytes(machine.disk_write),
            gigabytes(self.store_rate)
        );
        [head, self.starts(), String::new(), self.phases(), String::new(), self.verdict()]
            .join("\n")
    }

    fn starts(&self) -> String {
        let mut rows =
            vec![row(["from start to ready", "s", "CPU s", "store CPU s", "MB", "peak MB"])];
        for (name, start) in [
            ("1 model, in the page cache", &self.warm),
            ("8 models from the store", &self.together),
            ("the same one by one, one thread", &self.one_by_one),
        ] {
            rows.push(row([
                name,
                &format!("{:.3}", start.seconds),
                &format!("{:.2}", start.cpu_seconds),
                &format!("{:.2}", start.store_cpu_seconds),
                &format!("{:.0}", start.bytes / MB),
                &format!("{:.0}", start.peak_bytes / MB),
            ]));
        }
        for (name, loaded) in [
            ("Python: 1 model, imports included", &self.python_one),
            ("Python: 8 models from the page cache", &self.python_eight),
        ] {
            let Some(loaded) = loaded else { continue };
            rows.push(row([
                name,
                &format!("{:.3}", loaded.process),
                "",
                "",
                "",
                &format!("{:.0}", loaded.peak_bytes / MB),
            ]));
        }
        if let Some(one) = &self.python_one {
            for (name, seconds) in [
                ("  of it imports", one.imports),
                ("  of it sentence-transformers, to the first answer", one.ready),
                ("  safetensors alone", one.weights),
                ("  tokenizers alone", one.tokenizer),
            ] {
                rows.push(row([name, &format!("{seconds:.3}")]));
            }
        }
        aligned(&rows)
    }

    fn phases(&self) -> String {
        let mut rows = vec![row(["phase", "1 model s", "MB/s", "8 models s each", "MB/s"])];
        for name in ["Fetch", "Verify", "Read", "Build", "Transfer", "WarmUp", "Validate"] {
            let of = |start: &Start| start.phases.get(name).copied().unwrap_or_default();
            let rate = |(seconds, bytes): (f64, f64)| {
                let is_rate = bytes > 0.0 && seconds > 0.0;
                if is_rate { format!("{:.0}", bytes / seconds / MB) } else { String::new() }
            };
            let (one, all) = (of(&self.warm), of(&self.together));
            let each = all.0 / f64::from(MODELS);
            rows.push(row([
                name,
                &format!("{:.3}", one.0),
                &rate(one),
                &format!("{each:.3}"),
                &rate(all),
            ]));
        }
        aligned(&rows)
    }

    /// What was to be reached, and what was.
    pub(super) fn verdict(&self) -> String {
        let Reached { ready, of_serial, of_bound, peaks: [one, eight] } = self.reached();
        format!(
            "load: minilm ready {ready:.3} s ({READY}); 8 models {of_serial:.2} of one by one \
             ({OF_SERIAL:.2}), {of_bound:.2} of the bound of {:.2} s ({OF_BOUND}); peak of 1.2 x bytes + 80 \
             MB {one:.2} and {eight:.2} (1)",
            self.bound(),
        )
    }

    /// The same, for whoever has to know whether it was.
    pub(super) fn targets(&self) -> Vec<Target> {
        let Reached { ready, of_serial, of_bound, peaks: [one, eight] } = self.reached();
        [
            ("seconds until one model of the page cache is ready", ready, READY),
            ("eight models, of the time they take one by one", of_serial, OF_SERIAL),
            ("eight models, of the bound", of_bound, OF_BOUND),
            ("memory of one model, of 1.2 times its files and 80 MB", one, 1.0),
            ("memory of eight models, of 1.2 times their files and 80 MB", eight, 1.0),
        ]
        .map(|(what, found, most)| Target {
            what: what.to_owned(),
            found: Some(found),
            bound: Bound::AtMost(most),
        })
        .into()
    }

    fn reached(&self) -> Reached {
        let peak = |start: &Start| start.peak_bytes / (PEAK_SHARE * start.bytes + PEAK_FIXED);
        Reached {
            ready: self.warm.seconds,
            of_serial: self.together.seconds / self.one_by_one.seconds,
            of_bound: self.together.seconds / self.bound(),
            peaks: [peak(&self.warm), peak(&self.together)],
        }
    }
}

/// What the verdict is about.
struct Reached {
    ready: f64,
    of_serial: f64,
    of_bound: f64,
    peaks: [f64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::check;

    fn start(seconds: f64, cpu_seconds: f64, bytes: f64, peak_bytes: f64) -> Start {
        Start { seconds, cpu_seconds, bytes, peak_bytes, ..Start::default() }
    }

    fn figures() -> Figures {
        Figures {
            machine: Machine {
                processor: "any".to_owned(),
                cores: 2,
                cached_read: 1e9,
                copy: 1e9,
                first_copy: 1e9,
                disk_write: 1e9,
            },
            runs: 1,
            warm: start(0.25, 0.3, 100.0 * MB, 100.0 * MB),
            together: start(3.0, 2.0, 800.0 * MB, 520.0 * MB),
            one_by_one: start(6.0, 4.0, 800.0 * MB, 500.0 * MB),
            store_rate: 320.0 * MB,
            python_one: None,
            python_eight: None,
        }
    }

    #[test]
    fn the_last_line_has_what_was_reached_and_what_was_to_be() {
        let figures = figures();
        assert_eq!(
            figures.verdict(),
            "load: minilm ready 0.250 s (0.5); 8 models 0.50 of one by one (0.60), 1.20 of the bound of \
             2.50 s (1.25); peak of 1.2 x bytes + 80 MB 0.50 and 0.50 (1)"
        );
        check(&figures.targets()).unwrap();
    }

    #[test]
    fn each_of_them_can_be_missed() {
        let missed: [fn(&mut Figures); 5] = [
            |figures| figures.warm.seconds = 0.51,
            |figures| figures.one_by_one.seconds = 4.9,
            |figures| figures.together.seconds = 3.2,
            |figures| figures.warm.peak_bytes = 201.0 * MB,
            |figures| figures.together.peak_bytes = 1_041.0 * MB,
        ];
        for (at, miss) in missed.into_iter().enumerate() {
            let mut figures = figures();
            miss(&mut figures);
            let error = check(&figures.targets()).unwrap_err().to_string();
            let name = &figures.targets()[at].what;
            assert!(error.starts_with(&format!("1 of 5 targets missed: {name}")), "{error}");
        }
    }
}
