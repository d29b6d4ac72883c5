//! What was measured, in a table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::peer::Took;
use crate::bench::table::{aligned, row, share_of_peak};
use crate::bench::target::{Bound, Target};
use crate::bench::{median, percentile};

/// The engine of this project, among the others.
pub(crate) const OURS: &str = "lamplighter";
/// Whose scores the others' are compared with.
pub(crate) const REFERENCE: &str = "st-f32";
/// Whose pairs a second are to be so many times reached.
const FLOATS: &str = "ort-f32";
const OF_FLOATS: f64 = 2.0;
/// In 32 bits nothing can be twice as fast: all come near to what the processor multiplies and adds.
const OF_FLOATS_IN_FLOATS: f64 = 1.15;
/// As tokens and as texts.
pub(crate) const WORKLOADS: [&str; 2] = ["R", "Rt"];

/// What is computed in a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Size {
    pub(crate) queries: usize,
    /// Of all queries together.
    pub(crate) pairs: usize,
    pub(crate) tokens: f64,
    /// Floating-point operations of the network.
    pub(crate) flops: f64,
}

/// One program's figures, a run after the other.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// By workload: pairs of a query and a passage a second.
    pub(crate) pairs_per_second: BTreeMap<String, Vec<f64>>,
    /// By workload: pairs for each second of one processor.
    pub(crate) pairs_per_processor_second: BTreeMap<String, Vec<f64>>,
    /// By workload: the milliseconds of each query of all runs.
    pub(crate) millis: BTreeMap<String, Vec<f64>>,
    pub(crate) resident_bytes: f64,
    /// The largest difference between its scores and those of torch in 32 bits.
    pub(crate) score_apart: Option<f32>,
}

impl Measured {
    pub(crate) fn add(&mut self, workload: &str, took: &Took, size: &Size) {
        let pairs_per_token = size.pairs as f64 / size.tokens;
        for (values, rate) in [
            (&mut self.pairs_per_second, took.tokens_per_second),
            (&mut self.pairs_per_processor_second, took.tokens_per_processor_second),
        ] {
            values.entry(workload.to_owned()).or_default().push(rate * pairs_per_token);
        }
        self.millis.entry(workload.to_owned()).or_default().extend(&took.millis);
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) runs: u32,
    pub(crate) threads: usize,
    /// Floating-point operations a second of all threads together, measured in each run.
    pub(crate) peak: Vec<f64>,
    pub(crate) size: Size,
    /// The lowest and the highest one of torch in 32 bits.
    pub(crate) scores: Option<(f32, f32)>,
    pub(crate) programs: BTreeMap<String, Measured>,
}

impl Figures {
    pub(crate) fn tables(&self) -> String {
        let Size { queries, pairs, tokens, .. } = &self.size;
        let peak = median(self.peak.iter().copied());
        let scores = self
            .scores
            .map_or_else(String::new, |(low, high)| format!("; scores from {low:.3} to {high:.3}"));
        let head = format!(
            "\n{}, {} threads; medians of {} runs; 32-bit multiply-add: {:.0} GFLOP/s\n\
             {queries} queries of {} passages, {:.0} tokens a pair{scores}",
            self.processor,
            self.threads,
            self.runs,
            peak / 1e9,
            pairs / queries.max(&1),
            tokens / *pairs as f64,
        );
        [head, String::new(), self.programs(peak), String::new(), self.verdict()].join("\n")
    }

    fn programs(&self, peak: f64) -> String {
        let mut rows = vec![row([
            "",
            "pairs/s",
            "of peak",
            "pairs/CPU s",
            "p50 ms",
            "p99 ms",
            "from texts: pairs/s",
            "p50 ms",
            "p99 ms",
            "score apart",
            "resident MB",
        ])];
        for (program, measured) in &self.programs {
            let middle = |values: &BTreeMap<String, Vec<f64>>, workload: &str| {
                values.get(workload).map(|values| median(values.iter().copied()))
            };
            let number = |value: Option<f64>, digits: usize| {
                value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
            };
            let time = |workload: &str, share: f64| {
                number(measured.millis.get(workload).map(|millis| percentile(millis, share)), 0)
            };
            let speed = middle(&measured.pairs_per_second, "R");
            let flops = self.size.flops / self.size.pairs as f64;
            let computes_in = if program == OURS { &self.kernel } else { program };
            rows.push(row([
                program,
                &number(speed, 1),
                &share_of_peak(computes_in, speed.map(|speed| speed * flops), peak),
                &number(middle(&measured.pairs_per_processor_second, "R"), 1),
                &time("R", 0.50),
                &time("R", 0.99),
                &number(middle(&measured.pairs_per_second, "Rt"), 1),
                &time("Rt", 0.50),
                &time("Rt", 0.99),
                &measured.score_apart.map(|apart| format!("{apart:.0e}")).unwrap_or_default(),
                &number(Some(measured.resident_bytes / 1e6), 0),
            ]));
        }
        aligned(&rows)
    }

    /// The engine's pairs a second over another's of the same run: the median.
    fn ratio(&self, workload: &str, other: &str) -> Option<f64> {
        let of = |program: &str| self.programs.get(program)?.pairs_per_second.get(workload);
        of(OURS).zip(of(other)).map(|(ours, theirs)| {
            median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
        })
    }

    /// What has to be reached.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let what = format!("{}, pairs a second, of {FLOATS}", self.kernel);
        let is_in_floats = self.kernel.ends_with("-f32");
        let least = if is_in_floats { OF_FLOATS_IN_FLOATS } else { OF_FLOATS };
        vec![Target { what, found: self.ratio("R", FLOATS), bound: Bound::AtLeast(least) }]
    }

    /// Its speed, and how many times the others' it is.
    fn verdict(&self) -> String {
        let ours = self.programs.get(OURS);
        let speed = ours.and_then(|ours| ours.pairs_per_second.get("R"));
        let speed = median(speed.into_iter().flatten().copied());
        let apart = ours.and_then(|ours| ours.score_apart);
        let apart = apart.map_or_else(|| "-".to_owned(), |apart| format!("{apart:.0e}"));
        let ratios = |workload| {
            let of = |other| {
                let ratio = self.ratio(workload, other);
                let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                format!("{ratio} {other}")
            };
            [of(FLOATS), of("ort-int8"), of(REFERENCE)].join(" ")
        };
        format!(
            "rerank: kernel {}; pairs/s {speed:.1}; {}; from texts {}; score apart {apart}",
            self.kernel,
            ratios("R"),
            ratios("Rt"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::check;

    fn took(tokens_per_second: f64, millis: &[f64]) -> Took {
        Took {
            tokens_per_second,
            tokens_per_processor_second: tokens_per_second / 2.0,
            millis: millis.to_vec(),
            ..Took::default()
        }
    }

    fn figures(others: bool) -> Figures {
        let size = Size { queries: 2, pairs: 10, tokens: 100.0, flops: 5_000.0 };
        let mut programs: BTreeMap<String, Measured> = BTreeMap::new();
        for (name, speeds, apart) in [
            (OURS, [100.0, 300.0], 1.25e-6),
            ("ort-f32", [50.0, 100.0], 2e-6),
            (REFERENCE, [40.0, 100.0], 0.0),
        ] {
            if name != OURS && !others {
                continue;
            }
            let measured = programs.entry(name.to_owned()).or_default();
            for (speed, millis) in speeds.into_iter().zip([[10.0, 30.0], [20.0, 40.0]]) {
                measured.add("R", &took(speed, &millis), &size);
                measured.add("Rt", &took(speed / 2.0, &millis), &size);
            }
            measured.score_apart = others.then_some(apart);
        }
        Figures {
            processor: "any".to_owned(),
            kernel: "avx2-f32".to_owned(),
            runs: 2,
            threads: 2,
            peak: vec![100_000.0],
            size,
            scores: others.then_some((-1.0, 2.5)),
            programs,
        }
    }

    #[test]
    fn the_last_line_has_pairs_and_ratios_of_the_same_run() {
        // 10 tokens are a pair; 100 / 50 and 300 / 100 in the two runs.
        assert_eq!(
            figures(true).verdict(),
            "rerank: kernel avx2-f32; pairs/s 20.0; 2.50 ort-f32 - ort-int8 2.75 st-f32; from texts \
             2.50 ort-f32 - ort-int8 2.75 st-f32; score apart 1e-6"
        );
        assert_eq!(
            figures(false).verdict(),
            "rerank: kernel avx2-f32; pairs/s 20.0; - ort-f32 - ort-int8 - st-f32; from texts - \
             ort-f32 - ort-int8 - st-f32; score apart -"
        );
    }

    #[test]
    fn in_16_bits_twice_the_pairs_of_another_are_enough_and_none_to_compare_with_are_not() {
        // Ours are 10 and 30.
        for (kernel, theirs, is_enough) in [
            ("avx512-bf16", [5.0, 15.0], true),
            ("avx512-bf16", [5.1, 15.1], false),
            ("avx2-f32", [8.6, 26.0], true),
            ("avx2-f32", [8.8, 26.2], false),
        ] {
            let mut figures = figures(true);
            kernel.clone_into(&mut figures.kernel);
            let other = figures.programs.get_mut(FLOATS).unwrap();
            other.pairs_per_second.insert("R".to_owned(), theirs.to_vec());
            assert_eq!(check(&figures.targets()).is_ok(), is_enough, "{kernel} {theirs:?}");
        }
        check(&figures(false).targets()).unwrap_err();
    }

    #[test]
    fn a_row_has_pairs_their_share_of_the_peak_and_the_queries_of_all_runs() {
        let tables = figures(true).tables();
        assert!(tables.contains("2 queries of 5 passages, 10 tokens a pair; scores from -1.000"));
        let ours = tables.lines().find(|line| line.starts_with(OURS)).unwrap_or_default();
        let cells: Vec<&str> = ours.split_whitespace().collect();
        // 20 pairs of 500 operations a second are a tenth of the peak.
        assert_eq!(
            cells[1..],
            ["20.0", "10", "10.0", "30", "40", "10.0", "30", "40", "1e-6", "0"],
            "{tables}"
        );
    }
}
