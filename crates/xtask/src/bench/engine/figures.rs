//! What was measured, in tables.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::peer::Took;
use crate::bench::table::{aligned, row, share_of_peak};
use crate::bench::target::{Bound, Target};
use crate::bench::{median, percentile};

/// The engine of this project, among the others.
pub(crate) const OURS: &str = "lamplighter";
/// The same in 32 bits, where it computes in fewer.
pub(crate) const IN_FLOATS: &str = "lamplighter-f32";

/// One program's figures, a run after the other.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// By workload: tokens a second.
    pub(crate) tokens_per_second: BTreeMap<String, Vec<f64>>,
    /// By workload: tokens for each second of one processor.
    pub(crate) tokens_per_processor_second: BTreeMap<String, Vec<f64>>,
    /// By workload: of each run the median of milliseconds, and the 99th of a hundred.
    pub(crate) p50: BTreeMap<String, Vec<f64>>,
    pub(crate) p99: BTreeMap<String, Vec<f64>>,
    pub(crate) resident_bytes: f64,
    /// The smallest one of all texts of W1, between its vectors and those of torch in 32 bits.
    pub(crate) min_cosine: Option<f64>,
}

impl Measured {
    pub(crate) fn add(&mut self, workload: &str, took: &Took) {
        let push = |to: &mut BTreeMap<String, Vec<f64>>, value| {
            to.entry(workload.to_owned()).or_default().push(value);
        };
        if took.millis.is_empty() {
            push(&mut self.tokens_per_second, took.tokens_per_second);
            push(&mut self.tokens_per_processor_second, took.tokens_per_processor_second);
        } else {
            push(&mut self.p50, percentile(&took.millis, 0.50));
            push(&mut self.p99, percentile(&took.millis, 0.99));
        }
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) processor: String,
    /// By program of this project.
    pub(crate) kernels: BTreeMap<&'static str, String>,
    pub(crate) runs: u32,
    pub(crate) threads: usize,
    /// Floating-point operations a second of all threads together, measured in each run.
    pub(crate) peak: Vec<f64>,
    /// By workload: tokens, and floating-point operations of them all.
    pub(crate) sizes: BTreeMap<String, (f64, f64)>,
    pub(crate) programs: BTreeMap<String, Measured>,
}

/// What is printed as JSON: the figures, what they come to, and the line that sums them up.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    /// By kernel, workload and other program: the engine's tokens a second over the other's, or where
    /// queries are timed its milliseconds of the median; the median over the runs.
    ratios: BTreeMap<&'a str, Ratios<'a>>,
    /// By kernel.
    lines: BTreeMap<&'a str, String>,
}

type Ratios<'a> = BTreeMap<&'a str, BTreeMap<&'a str, f64>>;

type Values = fn(&Measured) -> &BTreeMap<String, Vec<f64>>;

impl Figures {
    fn of(&self, program: &str, values: Values, workload: &str) -> Option<f64> {
        let values = values(self.programs.get(program)?).get(workload)?;
        Some(median(values.iter().copied()))
    }

    /// A program's figures over another's of the same run: the median.
    fn ratio(&self, values: Values, workload: &str, own: &str, other: &str) -> Option<f64> {
        let of = |program: &str| values(self.programs.get(program)?).get(workload);
        of(own).zip(of(other)).map(|(ours, theirs)| {
            median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
        })
    }

    /// With ratios to all others, and the last lines.
    pub(crate) fn report(&self) -> Report<'_> {
        let own = || self.kernels.iter().map(|(own, kernel)| (*own, kernel.as_str()));
        Report {
            figures: self,
            ratios: own().map(|(own, kernel)| (kernel, self.ratios(own))).collect(),
            lines: own().map(|(own, kernel)| (kernel, self.verdict(own, kernel))).collect(),
        }
    }

    fn ratios(&self, own: &str) -> Ratios<'_> {
        let mut ratios = Ratios::new();
        let values: [Values; 2] = [|of| &of.tokens_per_second, |of| &of.p50];
        for values in values {
            let others = self.programs.iter().filter(|(name, _)| !self.is_own(name));
            for (other, measured) in others {
                for workload in values(measured).keys() {
                    let ratio = self.ratio(values, workload, own, other);
                    ratios
                        .entry(workload)
                        .or_default()
                        .extend(ratio.map(|ratio| (&**other, ratio)));
                }
            }
        }
        ratios
    }

    fn is_own(&self, program: &str) -> bool {
        self.kernels.contains_key(program)
    }

    /// Of the two ways in which torch computes in 16 bits, the faster one in this workload.
    fn bf16(&self, workload: &str) -> &'static str {
        let speed = |program| self.of(program, |of| &of.tokens_per_second, workload);
        if speed("st-autocast") > speed("st-bf16") { "st-autocast" } else { "st-bf16" }
    }

    pub(crate) fn tables(&self) -> String {
        let peak = median(self.peak.iter().copied());
        let head = format!(
            "\n{}, {} threads; medians of {} runs; 32-bit multiply-add: {:.0} GFLOP/s\n",
            self.processor,
            self.threads,
            self.runs,
            peak / 1e9
        );
        let lines = self.kernels.iter().map(|(own, kernel)| self.verdict(own, kernel));
        let tables = [head, self.tokens(peak), String::new(), self.texts(), String::new()];
        tables.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    }

    /// Of tokens: without the tokenizer.
    fn tokens(&self, peak: f64) -> String {
        let mut rows = vec![row([
            "from tokens",
            "W1 tok/s",
            "of peak",
            "W2 tok/s",
            "of peak",
            "W2 tok/CPU s",
            "of peak",
            "W3 p50 ms",
            "p99 ms",
            "min cosine",
            "resident MB",
        ])];
        for (program, measured) in &self.programs {
            let number = |value: Option<f64>, digits: usize| {
                value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
            };
            let computes_in = self.kernels.get(program.as_str()).unwrap_or(program);
            let share = |tokens: Option<f64>, workload: &str, peak: f64| {
                let (of_all, flops) = self.sizes.get(workload).copied().unwrap_or_default();
                share_of_peak(computes_in, tokens.map(|tokens| tokens * flops / of_all), peak)
            };
            let speed = |workload| self.of(program, |of| &of.tokens_per_second, workload);
            let alone = self.of(program, |of| &of.tokens_per_processor_second, "W2");
            rows.push(row([
                program,
                &number(speed("W1"), 0),
                &share(speed("W1"), "W1", peak),
                &number(speed("W2"), 0),
                &share(speed("W2"), "W2", peak),
                &number(alone, 0),
                &share(alone, "W2", peak / self.threads as f64),
                &number(self.of(program, |of| &of.p50, "W3"), 2),
                &number(self.of(program, |of| &of.p99, "W3"), 2),
                &number(measured.min_cosine, 6),
                &number(Some(measured.resident_bytes / 1e6), 0),
            ]));
        }
        aligned(&rows)
    }

    /// Of texts: with it.
    fn texts(&self) -> String {
        let mut rows = vec![row(["from texts", "W1 tok/s", "W3 p50 ms", "p99 ms"])];
        for program in self.programs.keys() {
            let number = |values: Values, workload, digits: usize| {
                let value = self.of(program, values, workload);
                value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
            };
            rows.push(row([
                program,
                &number(|of| &of.tokens_per_second, "W1t", 0),
                &number(|of| &of.p50, "W3t", 2),
                &number(|of| &of.p99, "W3t", 2),
            ]));
        }
        aligned(&rows)
    }

    /// What has to be reached with the kernels that were measured.
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.kernels.iter().flat_map(|(own, kernel)| self.targets_of(own, kernel)).collect()
    }

    fn targets_of(&self, own: &str, kernel: &str) -> Vec<Target> {
        let speed = |workload, other, least| {
            let found = self.ratio(|of| &of.tokens_per_second, workload, own, other);
            let what = format!("{kernel}, tokens a second of {workload}, of {other}");
            Target { what, found, bound: Bound::AtLeast(least) }
        };
        let time = |other, most| {
            let found = self.ratio(|of| &of.p50, "W3", own, other);
            let what = format!("{kernel}, milliseconds of W3, of {other}");
            Target { what, found, bound: Bound::AtMost(most) }
        };
        let cosine = |least| {
            let found = self.programs.get(own).and_then(|own| own.min_cosine);
            let what = format!("{kernel}, smallest cosine of W1");
            Target { what, found, bound: Bound::AtLeast(least) }
        };
        match kernel {
            "amx-bf16" => vec![
                speed("W1", self.bf16("W1"), 3.0),
                speed("W1", "ort-f32", 9.0),
                speed("W2", self.bf16("W2"), 1.9),
                time("ort-f32", 0.5),
                time("ort-int8", 0.8),
                cosine(0.9999),
            ],
            _ if kernel.ends_with("-bf16") => vec![
                speed("W1", self.bf16("W1"), 1.8),
                speed("W1", "ort-int8", 1.4),
                cosine(0.9999),
            ],
            _ => vec![speed("W1", "st-f32", 1.5), speed("W1", "ort-f32", 1.3), cosine(0.999_999)],
        }
    }

    /// More tokens, and fewer milliseconds, than the others: so many times.
    fn verdict(&self, own: &str, kernel: &str) -> String {
        let shown = |ratio: Option<f64>| {
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let speed =
            |workload, other| shown(self.ratio(|of| &of.tokens_per_second, workload, own, other));
        let time = |other| shown(self.ratio(|of| &of.p50, "W3", own, other));
        let cosine = self.programs.get(own).and_then(|own| own.min_cosine);
        let cosine = cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.6}"));
        format!(
            "engine: kernel {kernel}; W1 {} st-bf16 {} ort-f32 {} st-f32; W2 {} st-bf16; W3 {} ort-f32 {} \
             ort-int8; cosine {cosine}",
            speed("W1", self.bf16("W1")),
            speed("W1", "ort-f32"),
            speed("W1", "st-f32"),
            speed("W2", self.bf16("W2")),
            time("ort-f32"),
            time("ort-int8"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::check;

    fn took(tokens_per_second: f64, millis: &[f64]) -> Took {
        let millis = millis.to_vec();
        let tokens_per_processor_second = 2.0 * tokens_per_second;
        Took { tokens_per_second, tokens_per_processor_second, millis, ..Took::default() }
    }

    /// Of an engine that computes with this kernel.
    fn figures(kernel: &str) -> Figures {
        let mut programs: BTreeMap<String, Measured> = BTreeMap::new();
        for (name, speeds, latency) in [
            (OURS, [10.0, 40.0], 2.0),
            (IN_FLOATS, [5.0, 20.0], 4.0),
            ("st-f32", [5.0, 10.0], 4.0),
            ("ort-f32", [8.0, 8.0], 4.0),
            ("st-bf16", [20.0, 20.0], 9.0),
            ("st-autocast", [40.0, 40.0], 9.0),
        ] {
            let measured = programs.entry(name.to_owned()).or_default();
            for speed in speeds {
                measured.add("W1", &took(speed, &[]));
                measured.add("W2", &took(speed, &[]));
                measured.add("W3", &took(0.0, &[9.0, latency, 1.0]));
            }
        }
        programs.entry(OURS.to_owned()).or_default().min_cosine = Some(0.999_999_4);
        Figures {
            processor: "any".to_owned(),
            kernels: [(OURS, kernel.to_owned()), (IN_FLOATS, "avx2-f32".to_owned())].into(),
            runs: 2,
            threads: 2,
            peak: vec![200.0],
            sizes: [("W1".to_owned(), (100.0, 1_000.0)), ("W2".to_owned(), (100.0, 1_000.0))]
                .into(),
            programs,
        }
    }

    #[test]
    fn the_targets_are_those_of_the_kernels_and_one_that_is_not_measured_is_missed() {
        let missed = |kernel| check(&figures(kernel).targets()).unwrap_err().to_string();
        for (kernel, expected) in [
            (
                "amx-bf16",
                "5 of 9 targets missed: amx-bf16, tokens a second of W1, of st-autocast: 0.6250, wanted at \
                 least 3",
            ),
            (
                "avx512-bf16",
                "3 of 6 targets missed: avx512-bf16, tokens a second of W1, of st-autocast: 0.6250, wanted at \
                 least 1.8",
            ),
        ] {
            let found = missed(kernel);
            assert!(found.starts_with(expected), "{found}");
            // The one in 32 bits beside it reached its own two, and has no vectors that are compared.
            let end = "avx2-f32, smallest cosine of W1: not measured, wanted at least 0.999999";
            assert!(found.ends_with(end), "{found}");
        }
        let mut good = figures("avx512-bf16");
        good.programs.entry(IN_FLOATS.to_owned()).or_default().min_cosine = Some(1.0);
        let rates = |speeds: [f64; 2]| [("W1".to_owned(), speeds.to_vec())].into();
        for other in ["st-bf16", "st-autocast", "ort-int8"] {
            good.programs.entry(other.to_owned()).or_default().tokens_per_second =
                rates([5.0, 20.0]);
        }
        check(&good.targets()).unwrap();
    }

    #[test]
    fn a_ratio_is_that_of_the_same_run_and_the_last_line_names_them_all() {
        let figures = figures("amx-bf16");
        assert_eq!(
            figures.verdict(OURS, "amx-bf16"),
            "engine: kernel amx-bf16; W1 0.62 st-bf16 3.12 ort-f32 3.00 st-f32; W2 0.62 st-bf16; \
             W3 0.50 ort-f32 - ort-int8; cosine 0.999999"
        );
        let json = serde_json::to_value(figures.report()).unwrap_or_default();
        assert_eq!(json["lines"]["amx-bf16"], figures.verdict(OURS, "amx-bf16"));
        assert_eq!(json["kernels"][OURS], "amx-bf16", "beside the figures");
        // 10 / 5 and 40 / 10, and half of that.
        let ratios = &json["ratios"];
        assert_eq!(ratios["amx-bf16"]["W1"]["st-f32"], 3.0);
        assert_eq!(ratios["avx2-f32"]["W1"]["st-f32"], 1.5);
        assert_eq!(ratios["amx-bf16"]["W3"]["ort-f32"], 0.5);
        assert_eq!(ratios["avx2-f32"]["W3"]["ort-f32"], 1.0);
        assert_eq!(ratios["amx-bf16"]["W3"].get(IN_FLOATS), None);
        // 25 tokens of 10 operations a second are more than the processor can do.
        let table = figures.tokens(200.0);
        let ours = table.lines().find(|line| line.starts_with(IN_FLOATS)).unwrap_or_default();
        let cells: Vec<&str> = ours.split_whitespace().collect();
        assert_eq!(cells[1..8], ["12", "62", "12", "62", "25", "250", "4.00"], "{table}");
        let theirs = table.lines().find(|line| line.starts_with("st-bf16")).unwrap_or_default();
        let cells: Vec<&str> = theirs.split_whitespace().collect();
        assert_eq!(cells[1..8], ["20", "-", "20", "-", "40", "-", "9.00"], "{table}");
    }
}
