//! What a process takes of the machine, second by second, and whether that stays flat.

use std::fmt::Write as _;
use std::fs;
use std::io;

use super::slope::slope;

const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// What comes before settles: allocator, pools, connections.
const SETTLING: f64 = 0.2;
/// Above this, a slope says more than a span.
const LONG: f64 = 2.0 * 3600.0;
/// Of reloads, of which the later ones are compared with the earlier ones.
const FEWEST_RELOADS: usize = 4;

/// What was seen at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Since the load began.
    pub(crate) seconds: f64,
    pub(crate) resident_bytes: f64,
    /// The most resident memory since the sample before.
    pub(crate) peak_bytes: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    /// A second version was there or on its way, and took memory of its own.
    pub(crate) is_reloading: bool,
}

/// What a process has while nothing is asked of it. Under a load, pools of threads and connections
/// come and go with what is asked; what is still there after them has leaked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rest {
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
}

/// What the samples say, once the process has settled; those of reloads left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// From the least to the most resident memory.
    pub(crate) span_bytes: f64,
    /// How much the median of the second half is above that of the first.
    pub(crate) rise_bytes: f64,
    /// How much more the later half of the reloads took at most than the earlier half did.
    pub(crate) reloads_rise_bytes: f64,
    /// Of the resident memory in an hour, and what is left open on either side of it.
    pub(crate) slope_bytes_per_hour: f64,
    pub(crate) slope_open: f64,
    /// How many more there are at rest after the load than there were before it.
    pub(crate) more_descriptors: f64,
    pub(crate) more_threads: f64,
    pub(crate) seconds: f64,
}

impl Sample {
    /// Of a process that runs; its peak begins anew (`man proc_pid_clear_refs`).
    pub(crate) fn take(pid: i32, seconds: f64) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            number.ok_or_else(|| io::Error::other(format!("no {name} in its status")))
        };
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self {
            is_reloading: false,
            seconds,
            resident_bytes: field("VmRSS:")? * 1024.0,
            peak_bytes: field("VmHWM:")? * 1024.0,
            descriptors: f64::from(u32::try_from(descriptors).unwrap_or(u32::MAX)),
            threads: field("Threads:")?,
        })
    }
}

impl Sample {
    pub(crate) fn rest(&self) -> Rest {
        Rest { descriptors: self.descriptors, threads: self.threads }
    }
}

impl Verdict {
    /// None of fewer than four samples after the process has settled.
    pub(crate) fn of(samples: &[Sample], before: Rest, after: Rest) -> Option<Self> {
        let seconds = samples.last()?.seconds;
        let counts = |at: &Sample| at.seconds >= SETTLING * seconds && !at.is_reloading;
        let settled: Vec<Sample> = samples.iter().copied().filter(counts).collect();
        if settled.len() < 4 {
            return None;
        }
        let (first, second) = settled.split_at(settled.len() / 2);
        let resident = |at: &Sample| at.resident_bytes;
        let middle = |half: &[Sample]| median(half.iter().map(resident).collect());
        let most = settled.iter().map(resident).fold(f64::MIN, f64::max);
        let least = settled.iter().map(resident).fold(f64::MAX, f64::min);
        let at = |at: &Sample| (at.seconds, at.resident_bytes);
        let (slope, open) = slope(&settled.iter().map(at).collect::<Vec<_>>());
        Some(Self {
            span_bytes: most - least,
            rise_bytes: middle(second) - middle(first),
            reloads_rise_bytes: reloads_rise(samples, SETTLING * seconds),
            slope_bytes_per_hour: slope * 3600.0,
            slope_open: open * 3600.0,
            more_descriptors: after.descriptors - before.descriptors,
            more_threads: after.threads - before.threads,
            seconds,
        })
    }

    /// What is not flat, in words. A short run is judged by span and rise, a long one by its slope.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut at_most = |what: &str, found: f64, limit: f64, unit: &str| {
            if found > limit {
                problems.push(format!("{what} {found:.2} {unit}, at most {limit} are allowed"));
            }
        };
        if self.seconds >= LONG {
            let upper = (self.slope_bytes_per_hour + self.slope_open) / MEBIBYTE;
            at_most("resident memory may grow by", upper, 1.0, "MB an hour");
        } else {
            at_most("resident memory spans", self.span_bytes / MEBIBYTE, 8.0, "MB");
            at_most("resident memory rose by", self.rise_bytes / MEBIBYTE, 2.0, "MB");
        }
        let reloads = self.reloads_rise_bytes / MEBIBYTE;
        at_most("the peak of reloads rose by", reloads, 2.0, "MB");
        at_most(
            "descriptors left after the load:",
            self.more_descriptors,
            0.0,
            "more than before it",
        );
        at_most("threads left after the load:", self.more_threads, 0.0, "more than before it");
        problems
    }

    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        let _ = write!(
            line,
            "resident memory spans {:.2} MB and rose by {:.2} MB, the peak of reloads by {:.2} MB; \
             slope {:.3} ± {:.3} MB/h; at rest descriptors {:+.0}, threads {:+.0}",
            self.span_bytes / MEBIBYTE,
            self.rise_bytes / MEBIBYTE,
            self.reloads_rise_bytes / MEBIBYTE,
            self.slope_bytes_per_hour / MEBIBYTE,
            self.slope_open / MEBIBYTE,
            self.more_descriptors,
            self.more_threads,
        );
        line
    }
}

/// By how much the highest peak of the later half of the reloads is above that of the earlier half, of
/// those after the process has settled. 0 of few.
fn reloads_rise(samples: &[Sample], settled: f64) -> f64 {
    let settled = samples.iter().filter(|at| at.seconds >= settled).collect::<Vec<_>>();
    let reloads = settled.chunk_by(|before, after| before.is_reloading == after.is_reloading);
    let peak = |reload: &[&Sample]| reload.iter().map(|at| at.peak_bytes).fold(f64::MIN, f64::max);
    let peaks: Vec<f64> = reloads.filter(|reload| reload[0].is_reloading).map(peak).collect();
    if peaks.len() < FEWEST_RELOADS {
        return 0.0;
    }
    let (first, second) = peaks.split_at(peaks.len() / 2);
    let most = |peaks: &[f64]| peaks.iter().copied().fold(f64::MIN, f64::max);
    most(second) - most(first)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: u32, bytes: impl Fn(f64) -> f64) -> Vec<Sample> {
        let at = |second: u32| {
            let seconds = f64::from(second);
            let resident_bytes = bytes(seconds) * MEBIBYTE;
            Sample {
                seconds,
                resident_bytes,
                peak_bytes: resident_bytes,
                descriptors: 20.0,
                threads: 9.0,
                is_reloading: false,
            }
        };
        (0..seconds).map(at).collect()
    }

    const REST: Rest = Rest { descriptors: 20.0, threads: 9.0 };

    fn verdict(samples: &[Sample]) -> Verdict {
        Verdict::of(samples, REST, REST).unwrap()
    }

    fn problems(samples: &[Sample]) -> String {
        verdict(samples).problems().join("; ")
    }

    #[test]
    fn what_settles_at_first_is_flat() {
        let settling = samples(100, |second| if second < 15.0 { second * 4.0 } else { 60.0 });
        let verdict = verdict(&settling);
        assert_eq!((verdict.span_bytes, verdict.rise_bytes), (0.0, 0.0));
        assert_eq!(verdict.problems(), [""; 0]);
    }

    #[test]
    fn a_leak_is_seen_by_its_rise_before_its_span_is_large() {
        let leak = samples(100, |second| second * 0.06);
        assert!(problems(&leak).contains("rose by 2.4"), "{}", problems(&leak));
        assert!(!problems(&leak).contains("spans"), "{}", problems(&leak));
    }

    #[test]
    fn a_peak_is_seen_by_its_span() {
        let peak = samples(100, |second| if (second - 70.0).abs() < 0.5 { 79.0 } else { 60.0 });
        assert_eq!(problems(&peak), "resident memory spans 19.00 MB, at most 8 are allowed");
    }

    #[test]
    fn what_a_second_version_takes_for_a_while_is_no_peak() {
        let mut reloads = samples(100, |second| if second % 10.0 < 1.0 { 160.0 } else { 60.0 });
        assert!(problems(&reloads).contains("spans 100.00"));
        for at in &mut reloads {
            at.is_reloading = at.seconds % 10.0 < 1.0;
        }
        assert_eq!(problems(&reloads), "");
    }

    #[test]
    fn what_later_reloads_take_more_than_earlier_ones_is_a_leak() {
        let with_peaks = |peak: fn(f64) -> f64| {
            let mut reloads = samples(100, |_| 60.0);
            for at in reloads.iter_mut().filter(|at| at.seconds % 10.0 < 1.0) {
                at.is_reloading = true;
                at.peak_bytes = peak(at.seconds) * MEBIBYTE;
            }
            problems(&reloads)
        };
        assert_eq!(with_peaks(|_| 160.0), "");
        // What the first ones take more than the last ones is a process that settles.
        assert_eq!(with_peaks(|second| 160.0 - second / 10.0), "");
        let told = with_peaks(|second| 160.0 + second / 10.0);
        assert_eq!(told, "the peak of reloads rose by 4.00 MB, at most 2 are allowed");
    }

    #[test]
    fn a_long_run_is_judged_by_its_slope() {
        let wave = |second: f64| (second / 10.0).sin() * 5.0;
        let flat = samples(9_000, wave);
        assert_eq!(problems(&flat), "", "a span of 10 MB is allowed there");
        let leak = samples(9_000, |second| wave(second) + second / 1_800.0);
        assert!(problems(&leak).contains("MB an hour"), "{}", problems(&leak));
        let verdict = verdict(&leak);
        let found = verdict.slope_bytes_per_hour / MEBIBYTE;
        assert!((found - 2.0).abs() < 0.2, "2 MB an hour, found {found}");
    }

    #[test]
    fn one_descriptor_or_thread_that_is_left_after_the_load_is_a_leak() {
        let flat = samples(100, |_| 60.0);
        let left = |descriptors, threads| {
            let after = Rest { descriptors, threads };
            Verdict::of(&flat, REST, after).unwrap().problems().len()
        };
        assert_eq!(
            [left(20.0, 9.0), left(21.0, 9.0), left(20.0, 10.0), left(21.0, 10.0)],
            [0, 1, 1, 2]
        );
        assert_eq!(left(19.0, 8.0), 0, "fewer are none left");
    }

    #[test]
    fn many_threads_under_the_load_are_no_leak() {
        let mut more = samples(100, |_| 60.0);
        for at in &mut more[60..] {
            at.threads += 6.0;
        }
        assert_eq!(problems(&more), "");
        assert_eq!(Verdict::of(&more[..3], REST, REST), None);
    }

    #[test]
    fn a_process_can_be_looked_at() {
        let own = Sample::take(i32::try_from(std::process::id()).unwrap(), 1.0).unwrap();
        assert!(own.peak_bytes >= own.resident_bytes, "{own:?}");
        assert!(own.resident_bytes > MEBIBYTE && own.descriptors >= 3.0 && own.threads >= 1.0);
    }
}
