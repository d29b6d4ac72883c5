//! What was measured of loads, in tables and a verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::MODELS;
use crate::bench::machine::Machine;
use crate::bench::python::Loaded;
use crate::bench::table::{aligned, row};

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
        let of_serial = self.together.seconds / self.one_by_one.seconds;
        let of_bound = self.together.seconds / self.bound();
        let peak = |start: &Start| start.peak_bytes / (PEAK_SHARE * start.bytes + PEAK_FIXED);
        format!(
            "load: minilm ready {:.3} s (0.5); 8 models {of_serial:.2} of one by one (0.60), \
             {of_bound:.2} of the bound of {:.2} s (1.25); peak of 1.2 x bytes + 80 MB {:.2} and {:.2} (1)",
            self.warm.seconds,
            self.bound(),
            peak(&self.warm),
            peak(&self.together)
        )
    }
}
