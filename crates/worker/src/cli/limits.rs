//! Flags for what is served at most, and with what.

use std::time::Duration;

use clap::Args;
use lamplighter_engine::Kernel;
use lamplighter_protocol::Precision;

use super::{DAY, HOUR};
use crate::arguments::{self, seconds};

/// Limits of what is served.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// How many texts may wait or run at once, and a quarter more where they are interactive; above
    /// that, requests get 429 with Retry-After.
    #[arg(long, env = "LAMPLIGHTER_MAX_QUEUED_TEXTS", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "TEXTS")]
    pub max_queued_texts: u32,

    /// How many connections may be open; above that, others wait to be accepted. Those that are open
    /// are then closed with their next answer, and those that have had no request for a second at once,
    /// the longest idle first.
    #[arg(long, env = "LAMPLIGHTER_MAX_CONNECTIONS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "CONNECTIONS")]
    pub max_connections: u32,

    /// How long a request's body may be, in bytes; above that, 413.
    #[arg(long, env = "LAMPLIGHTER_MAX_REQUEST_BYTES", default_value = "4194304", value_parser = clap::value_parser!(u32).range(1..), value_name = "BYTES")]
    pub max_request_bytes: u32,

    /// How many bytes the bodies of all requests in flight may have together; above that, 429
    /// with Retry-After before a body is read. At least one longest body.
    #[arg(long, env = "LAMPLIGHTER_MAX_BODY_BYTES_IN_FLIGHT", default_value = "67108864", value_parser = clap::value_parser!(u32).range(1..), value_name = "BYTES")]
    pub max_body_bytes_in_flight: u32,

    /// How many bytes the answers of all requests may have together, from before they are computed
    /// until their clients have read them; above that, 429 with Retry-After. What is set aside for an
    /// answer is the most that it can have: 24 bytes for each number and a little more.
    #[arg(long, env = "LAMPLIGHTER_MAX_ANSWER_BYTES_IN_FLIGHT", default_value = "268435456", value_parser = clap::value_parser!(u32).range(1..), value_name = "BYTES")]
    pub max_answer_bytes_in_flight: u32,

    /// How many bytes a text that may not be cut may have for each token that its model reads; a longer
    /// one is refused before it is split, as one with too many tokens is after. Of a text that may be
    /// cut, no more than 256 are looked at in any case.
    #[arg(long, env = "LAMPLIGHTER_MAX_BYTES_PER_TOKEN", default_value = "256", value_parser = clap::value_parser!(u32).range(1..), value_name = "BYTES")]
    pub max_bytes_per_token: u32,

    /// How long a request may take from its parsed head to its answer; above that, 408 while its
    /// body arrives and 504 after. At most two seconds less than the drain timeout, so that a
    /// drain cuts no request off; by default just that, but at most 60.
    #[arg(long, env = "LAMPLIGHTER_REQUEST_TIMEOUT_SECONDS", value_parser = seconds(1..=HOUR), value_name = "SECONDS")]
    pub request_timeout_seconds: Option<Duration>,

    /// How long a client may take for 64 KiB of its answer, or for what is left of it, before its
    /// connection is closed. By default that closes those that read less than about 6.5 kB a second, and
    /// some that read up to twice that, where their systems take much at once.
    #[arg(long, env = "LAMPLIGHTER_WRITE_TIMEOUT_SECONDS", default_value = "10", value_parser = seconds(1..=HOUR), value_name = "SECONDS")]
    pub write_timeout_seconds: Duration,

    /// How long a connection may wait for the next request's whole head before it is closed. A head
    /// that has begun to come has 10 seconds at most, and 64 KiB.
    #[arg(long, env = "LAMPLIGHTER_IDLE_TIMEOUT_SECONDS", default_value = "75", value_parser = seconds(1..=HOUR), value_name = "SECONDS")]
    pub idle_timeout_seconds: Duration,

    /// After which time a connection is closed with its next answer, so that clients with
    /// long-lived connections follow the Service to other pods.
    #[arg(long, env = "LAMPLIGHTER_MAX_CONNECTION_AGE_SECONDS", default_value = "30", value_parser = seconds(1..=DAY), value_name = "SECONDS")]
    pub max_connection_age_seconds: Duration,

    /// In which number format models on the processor multiply their weights, instead of what the
    /// manifest says: f32; bf16, on a machine without instructions for it in software; or auto, whatever
    /// is fastest on this machine. A model whose vectors come out otherwise in bf16 (a cosine below
    /// 0.9999, measured when it is loaded), or whose answers to validation cases are wrong then, computes
    /// in f32 all the same.
    #[arg(long, env = "LAMPLIGHTER_PRECISION", value_parser = arguments::precision, value_name = "PRECISION")]
    pub precision: Option<Precision>,

    /// What models on the processor compute with: portable-f32, avx2-f32, avx512-f32, portable-bf16,
    /// avx512-bf16 or amx-bf16. By default the one of the wanted precision that a trial of a few
    /// milliseconds at the start finds to be the fastest on this machine.
    #[arg(long, env = "LAMPLIGHTER_KERNEL", value_parser = Kernel::named, value_name = "NAME")]
    pub kernel: Option<Kernel>,

    /// How many batches run at once, and how many cores one that runs alone is spread over (at most
    /// four); the default is the number of cores that the container has, and 2 on a GPU.
    #[arg(long, env = "LAMPLIGHTER_COMPUTE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "THREADS")]
    pub compute_threads: Option<u32>,
}
