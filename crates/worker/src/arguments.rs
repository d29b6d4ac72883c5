//! Whether what the command line says can be used, and what becomes of it if not.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_engine::{self as engine, Kernel};
use lamplighter_protocol::{Device, Precision, place};

use crate::cli::{LimitArgs, ServeArgs};

/// Environment variable of `--termination-log`.
pub const ENV_TERMINATION_LOG: &str = "LAMPLIGHTER_TERMINATION_LOG";
const TERMINATION_LOG: &str = "--termination-log";
/// The longest time of a request where the drain does not bound it.
const LONGEST_REQUEST: Duration = Duration::from_mins(1);
/// What a drain needs beyond the time of a request: a connection that was accepted last may send
/// its first request up to a second after the listener closed, and the answer has to be written.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// Two flags that contradict each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Contradiction {
    /// A request that began when the listener closed would be cut off.
    #[error(
        "--request-timeout-seconds is {request}, which leaves too little of \
         --drain-timeout-seconds with {drain}: the last request may begin a second after the \
         listener closed, and its answer has to be written; lower the first to {most} or leave \
         it out, or raise the second (spec.rollout.drainSeconds)"
    )]
    RequestOutlivesDrain {
        /// Seconds that a request may take.
        request: u64,
        /// Seconds that a drain waits for requests.
        drain: u64,
        /// Seconds that a request may take at most.
        most: u64,
    },
    /// A body of the longest length could never be read.
    #[error(
        "--max-request-bytes is {request}, more than --max-body-bytes-in-flight with {all}, so \
         that the longest requests would never be answered; lower the first or raise the second"
    )]
    BodyAboveAll {
        /// Bytes that one body may have.
        request: u32,
        /// Bytes that all bodies may have.
        all: u32,
    },
    /// A kernel that computes in another precision than the one that was asked for.
    #[error(
        "--kernel is {kernel}, which computes in {}, and --precision or the manifest says {wanted}; \
         leave one of them out", .kernel.precision()
    )]
    KernelOfAnotherPrecision {
        /// What models are to be computed with.
        kernel: Kernel,
        /// In which number format.
        wanted: engine::Precision,
    },
    /// A precision that there is no code for on the device.
    #[error(
        "models on a GPU compute in f32, and --precision or the manifest says bf16; leave it out \
         (spec.worker.precision)"
    )]
    PrecisionOfTheProcessor,
}

/// How long a request may take, once its head was parsed.
///
/// Two seconds less than the drain waits (half of it, where it waits for less than four), so that
/// a drain cuts no request off. A drain that waits for nothing (0 s) cuts off whatever is in
/// flight, as it was told to.
pub fn request_time(args: &ServeArgs) -> Result<Duration, Contradiction> {
    let drain = args.drain_timeout_seconds;
    let most = drain.saturating_sub(DRAIN_MARGIN.min(drain / 2));
    let Some(request) = args.limits.request_timeout_seconds else {
        return Ok(if drain.is_zero() { LONGEST_REQUEST } else { most.min(LONGEST_REQUEST) });
    };
    if request > most && !drain.is_zero() {
        let (request, drain, most) = (request.as_secs(), drain.as_secs(), most.as_secs());
        return Err(Contradiction::RequestOutlivesDrain { request, drain, most });
    }
    Ok(request)
}

/// Bytes of one body and of all bodies.
pub fn body_bytes(limits: &LimitArgs) -> Result<(usize, usize), Contradiction> {
    let (request, all) = (limits.max_request_bytes, limits.max_body_bytes_in_flight);
    if request > all {
        return Err(Contradiction::BodyAboveAll { request, all });
    }
    let bytes = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok((bytes(request), bytes(all)))
}

/// Reads a precision.
pub(crate) fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "auto" => Ok(Precision::Auto),
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::BF16),
        _ => Err(format!("{text:?} is none of auto, f32 and bf16")),
    }
}

/// What models on the processor compute with, where it is not left to the engine. What the command line
/// says counts more than what the manifest does.
pub fn kernel(
    limits: &LimitArgs,
    precision: Precision,
    device: Device,
) -> Result<Option<Kernel>, Contradiction> {
    let wanted = match limits.precision.unwrap_or(precision) {
        Precision::BF16 if device == Device::Cuda => {
            return Err(Contradiction::PrecisionOfTheProcessor);
        }
        Precision::Auto => return Ok(limits.kernel),
        Precision::F32 => engine::Precision::F32,
        Precision::BF16 => engine::Precision::BF16,
    };
    match limits.kernel {
        Some(kernel) if kernel.precision() != wanted => {
            Err(Contradiction::KernelOfAnotherPrecision { kernel, wanted })
        }
        Some(kernel) => Ok(Some(kernel)),
        None => Ok(Some(Kernel::fastest_in(wanted))),
    }
}

/// Reads a whole number of seconds within bounds, both included.
pub(crate) fn seconds(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(seconds) if bounds.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => {
            let (least, most) = (bounds.start(), bounds.end());
            Err(format!("{text:?} is not a whole number of seconds from {least} to {most}"))
        }
    }
}

/// Where the reason is to be left when the command line could not be read: the words of the
/// line that name the termination log, then the environment, then the default, if the kubelet
/// has put a file there. None for `golden`, which leaves no last words.
pub fn termination_log(
    line: &[OsString],
    environment: Option<OsString>,
    default_is_there: bool,
) -> Option<PathBuf> {
    let is_flag = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-'));
    if line.iter().skip(1).find(|word| !is_flag(word)).is_some_and(|word| word == "golden") {
        return None;
    }
    let named = |(at, word): (usize, &OsString)| {
        let word = word.to_str()?;
        match word.strip_prefix(TERMINATION_LOG)? {
            "" => line.get(at + 1).cloned(),
            rest => rest.strip_prefix('=').map(OsString::from),
        }
    };
    let path = line.iter().enumerate().find_map(named).or(environment);
    let path = path.filter(|path| path != OsStr::new("")).map(PathBuf::from);
    path.or_else(|| default_is_there.then(|| PathBuf::from(place::TERMINATION_LOG)))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> ServeArgs {
        let line = ["lamplighter-worker", "serve"].iter().chain(more);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Serve(args) => *args,
            _ => panic!("serve was asked for"),
        }
    }

    /// Guarantees: drain-02.
    #[test]
    fn a_request_never_outlives_the_drain() {
        let time = |more: &[&str]| request_time(&args(more)).map(|time| time.as_secs());
        assert_eq!(time(&[]), Ok(23), "two less than the default of the drain");
        assert_eq!(time(&["--drain-timeout-seconds", "10"]), Ok(8));
        let short = request_time(&args(&["--drain-timeout-seconds", "1"]));
        assert_eq!(short, Ok(Duration::from_millis(500)), "half of a short drain");
        assert_eq!(time(&["--drain-timeout-seconds", "600"]), Ok(60));
        assert_eq!(time(&["--drain-timeout-seconds", "0"]), Ok(60));
        assert_eq!(
            time(&["--drain-timeout-seconds", "0", "--request-timeout-seconds", "9"]),
            Ok(9)
        );
        assert_eq!(time(&["--request-timeout-seconds", "23"]), Ok(23));
        let error = time(&["--request-timeout-seconds", "24"]).unwrap_err();
        assert_eq!(error, Contradiction::RequestOutlivesDrain { request: 24, drain: 25, most: 23 });
        assert!(error.to_string().contains("--drain-timeout-seconds with 25"), "{error}");
    }

    #[test]
    fn the_longest_body_fits_into_what_all_bodies_may_have() {
        let bytes = |more: &[&str]| body_bytes(&args(more).limits);
        assert_eq!(bytes(&[]), Ok((4 << 20, 64 << 20)));
        assert_eq!(bytes(&["--max-body-bytes-in-flight", "4194304"]), Ok((4 << 20, 4 << 20)));
        let error = bytes(&["--max-body-bytes-in-flight", "4194303"]).unwrap_err();
        assert_eq!(error, Contradiction::BodyAboveAll { request: 4 << 20, all: 4_194_303 });
    }

    #[test]
    fn a_kernel_is_one_of_the_precision_that_the_line_says_or_else_the_manifest() {
        let kernel = |more: &[&str], manifest| kernel(&args(more).limits, manifest, Device::Cpu);
        let of = |precision| Ok(Some(Kernel::fastest_in(precision)));
        let (floats, rounded) = (engine::Precision::F32, engine::Precision::BF16);
        assert_eq!(kernel(&[], Precision::Auto), Ok(None));
        assert_eq!(kernel(&[], Precision::F32), of(floats));
        assert_eq!(kernel(&[], Precision::BF16), of(rounded));
        assert_eq!(kernel(&["--precision", "auto"], Precision::BF16), Ok(None));
        assert_eq!(kernel(&["--precision", "bf16"], Precision::F32), of(rounded));
        assert_eq!(kernel(&["--precision", "f32"], Precision::Auto), of(floats));
        let named = ["--kernel", "portable-bf16"];
        let portable = Kernel::named("portable-bf16").unwrap();
        assert_eq!(kernel(&named, Precision::Auto), Ok(Some(portable)));
        assert_eq!(kernel(&named, Precision::BF16), Ok(Some(portable)));
        let error = kernel(&named, Precision::F32).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("portable-bf16, which computes in bf16"), "{told}");
        assert!(told.contains("says f32"), "{told}");
        let on_a_gpu = |precision| super::kernel(&args(&[]).limits, precision, Device::Cuda);
        let error = Contradiction::PrecisionOfTheProcessor;
        assert_eq!(on_a_gpu(Precision::BF16), Err(error));
        assert_eq!(on_a_gpu(Precision::Auto), Ok(None));
        let line = ["lamplighter-worker", "serve", "--precision", "int8"];
        let error = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(error.contains("none of auto, f32 and bf16"), "{error}");
    }

    #[test]
    fn seconds_have_bounds_that_the_error_names() {
        let within = seconds(1..=600);
        assert_eq!(within("1"), Ok(Duration::from_secs(1)));
        assert_eq!(within("600"), Ok(Duration::from_mins(10)));
        for text in ["0", "601", "-1", "1.5", "", "1s", "99999999999999999999"] {
            let error = within(text).unwrap_err();
            assert!(error.contains("from 1 to 600"), "{error}");
        }
    }

    #[test]
    fn last_words_go_where_the_line_the_environment_or_the_kubelet_says() {
        let find = |line: &[&str], environment: Option<&str>, there: bool| {
            let line: Vec<OsString> = line.iter().map(OsString::from).collect();
            let found = termination_log(&line, environment.map(OsString::from), there);
            found.map(|path| path.display().to_string())
        };
        let flag = |text: &str| Some(text.to_owned());
        assert_eq!(find(&["w", "serve", "--termination-log", "a"], Some("b"), true), flag("a"));
        assert_eq!(find(&["w", "serve", "--termination-log=a"], Some("b"), true), flag("a"));
        assert_eq!(find(&["w", "serve"], Some("b"), true), flag("b"));
        assert_eq!(find(&["w", "serve", "--termination-log"], Some(""), true), {
            flag(place::TERMINATION_LOG)
        });
        assert_eq!(find(&["w", "serve"], None, false), None, "nothing is made below /dev");
        assert_eq!(find(&["w", "golden"], Some("b"), true), None);
        let named_so = ["w", "serve", "--pod-name", "golden"];
        assert_eq!(find(&named_so, Some("b"), true), flag("b"));
    }
}
