//! The command line: every flag has an environment variable and a default that fits a pod.

mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lamplighter_artifact::{ArtifactError, Digest};
use lamplighter_protocol::{ModelKey, place};
use lamplighter_telemetry::log::LogArgs;

use crate::arguments::{self, seconds};
use crate::cache::CacheCommand;
use crate::http::cors::Allowed;

pub use limits::LimitArgs;

const SERVE_EXAMPLE: &str = "Example, outside Kubernetes:
  lamplighter-worker serve --manifest manifest.json --listen 127.0.0.1:8080 \\
    --admin-listen 127.0.0.1:8081 --termination-log failure.json --log-format text";
const GOLDEN_EXAMPLE: &str = "Example:
  lamplighter-worker golden --artifact ./all-MiniLM-L6-v2 --text 'a lamp' --text 'a river'";

const RESOLVE_EXAMPLE: &str = "Examples:
  lamplighter-worker resolve hf://sentence-transformers/all-MiniLM-L6-v2
  lamplighter-worker resolve s3://models/minilm/2.1.0 s3://models/minilm/3.0.0 --credentials ./keys
  lamplighter-worker resolve --manifest manifest.json --model embedder:2.1.0 \\
    --termination-log record.json";

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Serves models that were proven right, and no others.
#[derive(Debug, Parser)]
#[command(name = "lamplighter-worker", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load every model of a manifest, check their answers, then serve them.
    ///
    /// All models load in parallel; each is warmed up and asked its validation cases. Only when
    /// all passed does /readyz on the admin port say 200 and the serving port answer. A model
    /// that fails ends the process with exit code 1 and leaves a JSON object in the termination
    /// log: the reason, the model, the phase, the file, what was expected and what was found.
    /// A command line that cannot be used leaves one, too, and exit code 2.
    ///
    /// On SIGTERM /readyz turns 503, requests are accepted for the drain delay while endpoints
    /// update, then the listener closes and what is in flight is finished. If requests had to be
    /// cut off at the drain timeout, the reason is `DrainTimeout` and the exit code 1. Further
    /// SIGTERMs change nothing; a second SIGINT (Ctrl-C) ends the process at once.
    ///
    /// While it serves, the validation cases are asked again and again. The same case wrong twice
    /// in a row, or at which the engine fails three times in a row, ends the worker like SIGTERM,
    /// with exit code 1 and the reason `RevalidationFailed`.
    ///
    /// With --admin-token-file, models can be loaded, unloaded and switched while others are served;
    /// each passes the same gates, with a low priority, and one that fails changes nothing.
    #[command(after_help = SERVE_EXAMPLE)]
    Serve(Box<ServeArgs>),
    /// Find out what an artifact is, without a GPU and before any model is loaded.
    ///
    /// Lists the artifact of one model of the manifest, reads its configuration, its tokenizer and
    /// the headers of its weights, and leaves one line of JSON in the termination log:
    /// architecture, sizes, digest and pin. Where the artifact has a SHA256SUMS the weights are
    /// not read; otherwise every byte is read once, into the cache if one is given.
    ///
    /// An artifact that is missing, forbidden, broken or not the pinned one leaves the reason
    /// instead, and exit code 1.
    ///
    /// At a terminal, give an address instead of a manifest: it prints a table, or with --json the
    /// record. With two addresses it prints what differs, and how the operator would replace the
    /// first by the second.
    #[command(after_help = RESOLVE_EXAMPLE)]
    Resolve(ResolveArgs),
    /// Record golden.json: what an artifact answers now, as what it must answer later.
    ///
    /// Loads the artifact, asks it each text and writes the vectors with the artifact's digest.
    /// Keep the file beside the weights: a worker runs its cases before it serves, and refuses
    /// the file when the artifact is another one.
    #[command(after_help = GOLDEN_EXAMPLE)]
    Golden(GoldenArgs),
    /// Look at downloaded artifacts that are kept on a volume, and clean up.
    #[command(subcommand)]
    Cache(CacheCommand),
}

/// What `serve` needs to know.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The manifest: which models, from where, and how their answers are checked.
    #[arg(long, env = "LAMPLIGHTER_MANIFEST", default_value = place::MANIFEST, value_name = "FILE")]
    pub manifest: PathBuf,

    /// Where requests for inference are answered.
    #[arg(long, env = "LAMPLIGHTER_LISTEN", default_value_t = any(place::SERVING_PORT), value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Where probes, /status and /metrics are answered, from the first millisecond.
    #[arg(long, env = "LAMPLIGHTER_ADMIN_LISTEN", default_value_t = any(place::ADMIN_PORT), value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,

    /// A file with the token for changing the models of the running worker: POST /v2/repository/… on
    /// the admin port with `Authorization: Bearer TOKEN` loads, unloads and lists them and switches
    /// what a plain name means. The file is read at each such request. Without it those routes
    /// answer 404; the operator never gives it.
    #[arg(long, env = place::ENV_ADMIN_TOKEN_FILE, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Where downloaded artifacts are kept; may be shared by several pods.
    #[arg(long, env = "LAMPLIGHTER_CACHE_DIR", default_value = place::CACHE_DIR, value_name = "DIR")]
    pub cache_dir: PathBuf,

    /// Where claims are mounted, each in a folder of its name.
    #[arg(long, env = "LAMPLIGHTER_CLAIMS_DIR", default_value = place::CLAIMS_DIR, value_name = "DIR")]
    pub claims_dir: PathBuf,

    /// The digest that a model must have, beside what the manifest says; separated by commas. Other
    /// bytes are not loaded.
    #[arg(long, env = place::ENV_DIGESTS, value_delimiter = ',', value_parser = expected_digest, value_name = "NAME:VERSION=DIGEST")]
    pub expected_digests: Vec<(ModelKey, Digest)>,

    /// The commit that a model's reference stood for when it was resolved; separated by commas. A
    /// repository is read at that commit, whatever its branch stands for now.
    #[arg(long, env = place::ENV_COMMITS, value_delimiter = ',', value_parser = expected_commit, value_name = "NAME:VERSION=COMMIT")]
    pub expected_commits: Vec<(ModelKey, String)>,

    /// Where the reason of a failure is left for the kubelet.
    #[arg(long, env = arguments::ENV_TERMINATION_LOG, default_value = place::TERMINATION_LOG, value_name = "FILE")]
    pub termination_log: PathBuf,

    /// The pod's uid, by the downward API; named in a header of every response.
    #[arg(long, env = place::ENV_POD_UID, default_value = "", hide_default_value = true, value_parser = header_text)]
    pub pod_uid: String,

    /// The pod's name, by the downward API.
    #[arg(long, env = place::ENV_POD_NAME, default_value = "", hide_default_value = true)]
    pub pod_name: String,

    /// How long all models together may take to start, and one that is loaded later.
    #[arg(long, env = "LAMPLIGHTER_START_DEADLINE_SECONDS", default_value = "600", value_parser = seconds(1..=WEEK), value_name = "SECONDS")]
    pub start_deadline_seconds: Duration,

    /// How long one model's warm-up may take.
    #[arg(long, env = "LAMPLIGHTER_WARM_UP_DEADLINE_SECONDS", default_value = "60", value_parser = seconds(1..=DAY), value_name = "SECONDS")]
    pub warm_up_deadline_seconds: Duration,

    /// How long requests are still accepted after SIGTERM, while endpoints update.
    #[arg(long, env = "LAMPLIGHTER_DRAIN_DELAY_SECONDS", default_value = "5", value_parser = seconds(0..=HOUR), value_name = "SECONDS")]
    pub drain_delay_seconds: Duration,

    /// How long what is in flight may take after that; 0 cuts it off. Delay and timeout together
    /// must be less than the pod's termination grace period.
    #[arg(long, env = "LAMPLIGHTER_DRAIN_TIMEOUT_SECONDS", default_value = "25", value_parser = seconds(0..=HOUR), value_name = "SECONDS")]
    pub drain_timeout_seconds: Duration,

    /// How long after one round of the validation cases they are asked again; 0 for never, unless
    /// the admin port is told to.
    #[arg(long, env = "LAMPLIGHTER_REVALIDATION_INTERVAL_SECONDS", default_value = "300", value_parser = seconds(0..=DAY), value_name = "SECONDS")]
    pub revalidation_interval_seconds: Duration,

    /// How models are loaded.
    #[command(flatten)]
    pub load: LoadArgs,

    /// Who may ask.
    #[command(flatten)]
    pub access: AccessArgs,

    /// Limits of what is served.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// How models are loaded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Loading")]
pub struct LoadArgs {
    /// How many models load at a time; by default all of the manifest. Those that wait their turn
    /// go in the order of the manifest.
    #[arg(long, env = "LAMPLIGHTER_MODELS_AT_A_TIME", value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "MODELS")]
    pub models_at_a_time: Option<u32>,

    /// How many threads read weights, of all models that are read at a time together; the default is
    /// the number of cores that the container has.
    #[arg(long, env = "LAMPLIGHTER_LOAD_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "THREADS")]
    pub load_threads: Option<u32>,

    /// How many bytes may be in memory on their way from stores into the cache, of all models
    /// together; at least one request, which has at most 8388608, or the whole file where a server
    /// gives no parts.
    #[arg(long, env = "LAMPLIGHTER_MAX_DOWNLOAD_BYTES_IN_FLIGHT", default_value = "67108864", value_parser = clap::value_parser!(u64).range(1..), value_name = "BYTES")]
    pub max_download_bytes_in_flight: u64,
}

/// Who may ask.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// A file of keys, one a line; empty lines and those that begin with # are left out. Requests to
    /// the serving port then need one, as `Authorization: Bearer KEY` or `x-api-key: KEY`, or get
    /// 401; /health, /ping, the Open Inference Protocol's health, /lamplighter/identity, /docs and
    /// /openapi.json need none.
    /// The file is read again when it changes; if it is gone or broken then, the keys stay.
    #[arg(long, env = "LAMPLIGHTER_API_KEYS_FILE", value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,

    /// Origins whose pages may ask from a browser, such as `https://lamp.example:8443`, or * for all of
    /// them; none by default. Keys are asked for as ever.
    #[arg(
        long,
        env = "LAMPLIGHTER_CORS_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub cors_allow_origin: Vec<Allowed>,

    /// A chain of certificates, PEM, the server's own first: requests are then answered over TLS
    /// alone. With its key it is read again when it changes, as a mounted Secret of cert-manager
    /// does; a pair that cannot be used leaves the last one in force. The admin port stays plain.
    #[arg(long, env = "LAMPLIGHTER_TLS_CERT_FILE", requires = "tls_key_file", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key of the certificate, PEM.
    #[arg(long, env = "LAMPLIGHTER_TLS_KEY_FILE", requires = "tls_cert_file", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
}

/// What `resolve` needs to know.
#[derive(Args, Clone, Debug)]
pub struct ResolveArgs {
    /// Addresses to look at, instead of a model of the manifest: one, or two to compare.
    #[arg(env = "LAMPLIGHTER_RESOLVE_URIS", num_args = 0..=2, value_delimiter = ' ', value_name = "URI")]
    pub uris: Vec<String>,

    /// Print records as JSON, one a line.
    #[arg(long, env = "LAMPLIGHTER_RESOLVE_JSON", requires = "uris")]
    pub json: bool,

    /// A folder with one file for each setting of the store (`AWS_ACCESS_KEY_ID`, `HF_TOKEN`, `ca.crt`,
    /// …); what it does not hold is taken from the environment.
    #[arg(long, env = "LAMPLIGHTER_RESOLVE_CREDENTIALS", requires = "uris", value_name = "DIR")]
    pub credentials: Option<PathBuf>,

    /// The digest that the artifact must have; of two, the second.
    #[arg(
        long,
        env = "LAMPLIGHTER_RESOLVE_EXPECTED_DIGEST",
        requires = "uris",
        value_name = "DIGEST"
    )]
    pub expected_digest: Option<String>,

    /// The manifest, as for serve.
    #[arg(long, env = "LAMPLIGHTER_MANIFEST", default_value = place::MANIFEST, value_name = "FILE")]
    pub manifest: PathBuf,

    /// Which of its models; with addresses, what the last one is called.
    #[arg(long, env = "LAMPLIGHTER_RESOLVE_MODEL", value_parser = model_key, value_name = "NAME:VERSION")]
    pub model: Option<ModelKey>,

    /// Where bytes are kept that had to be read, for the pods that will load them. Without it
    /// they are read and dropped.
    #[arg(long, env = "LAMPLIGHTER_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Where claims are mounted, each in a folder of its name.
    #[arg(long, env = "LAMPLIGHTER_CLAIMS_DIR", default_value = place::CLAIMS_DIR, value_name = "DIR")]
    pub claims_dir: PathBuf,

    /// Where the record, or the reason of a failure, is left for the kubelet.
    #[arg(long, env = arguments::ENV_TERMINATION_LOG, default_value = place::TERMINATION_LOG, value_name = "FILE")]
    pub termination_log: PathBuf,

    /// How long it may take.
    #[arg(long, env = "LAMPLIGHTER_RESOLVE_DEADLINE_SECONDS", default_value = "3600", value_parser = seconds(1..=WEEK), value_name = "SECONDS")]
    pub resolve_deadline_seconds: Duration,
}

/// What `golden` needs to know.
#[derive(Args, Clone, Debug)]
pub struct GoldenArgs {
    /// The artifact's folder.
    #[arg(long, env = "LAMPLIGHTER_GOLDEN_ARTIFACT", value_name = "DIR")]
    pub artifact: PathBuf,

    /// A text to record; may be given several times. Of a model that gives scores, a tab in it
    /// stands between a query and a passage.
    #[arg(long = "text", env = "LAMPLIGHTER_GOLDEN_TEXT", value_name = "TEXT")]
    pub texts: Vec<String>,

    /// A file with one text a line. Without any text, a few sentences are used.
    #[arg(long, env = "LAMPLIGHTER_GOLDEN_TEXTS_FILE", value_name = "FILE")]
    pub texts_file: Option<PathBuf>,

    /// Where to write; by default golden.json in the artifact's folder.
    #[arg(long, env = "LAMPLIGHTER_GOLDEN_OUTPUT", value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How near a later answer must come to the recorded one.
    #[arg(
        long,
        env = "LAMPLIGHTER_GOLDEN_MIN_COSINE",
        default_value = "0.9999",
        value_name = "COSINE"
    )]
    pub min_cosine: String,

    /// Of a model that gives scores, how much a later number of its head may differ from the
    /// recorded one.
    #[arg(
        long,
        env = "LAMPLIGHTER_GOLDEN_TOLERANCE",
        default_value = "0.01",
        value_name = "DIFFERENCE"
    )]
    pub tolerance: String,
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

fn model_key(text: &str) -> Result<ModelKey, String> {
    ModelKey::try_from(text.to_owned())
}

fn expected_digest(text: &str) -> Result<(ModelKey, Digest), String> {
    let (model, digest) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not of the form name:version=sha256:…"))?;
    let digest = digest.parse().map_err(|error: ArtifactError| error.to_string())?;
    Ok((model_key(model)?, digest))
}

fn expected_commit(text: &str) -> Result<(ModelKey, String), String> {
    let (model, commit) = text
        .split_once('=')
        .filter(|(_, commit)| {
            !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
        .ok_or_else(|| format!("{text:?} is not of the form name:version=commit"))?;
    Ok((model_key(model)?, commit.to_owned()))
}

fn header_text(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} cannot stand in a header"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use lamplighter_engine::Kernel;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_has_an_environment_variable() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments() {
                let built_in = ["help", "version"].contains(&flag.get_id().as_str());
                assert!(
                    built_in || flag.get_env().is_some(),
                    "{} {}",
                    command.get_name(),
                    flag.get_id()
                );
                assert!(built_in || flag.get_help().is_some(), "{}", flag.get_id());
            }
        }
    }

    #[test]
    fn digests_are_read_for_each_model() {
        let sum = "0".repeat(64);
        let digests = format!("a:1=sha256:{sum},a:2=sha256:{sum}");
        let line = ["lamplighter-worker", "serve", "--expected-digests", &digests];
        let Command::Serve(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("serve was asked for");
        };
        let models: Vec<String> =
            args.expected_digests.iter().map(|(model, _)| model.to_string()).collect();
        assert_eq!(models, ["a:1", "a:2"]);
        for wrong in ["a:1", "a:1=", "a=sha256:1", "a:1=sha256:1"] {
            let line = ["lamplighter-worker", "serve", "--expected-digests", wrong];
            assert!(Cli::try_parse_from(line).is_err(), "{wrong}");
        }
        for (commits, is_right) in
            [("a:1=0fc3,b:2=aa", true), ("a:1", false), ("a:1=", false), ("a:1=main", false)]
        {
            let line = ["lamplighter-worker", "serve", "--expected-commits", commits];
            assert_eq!(Cli::try_parse_from(line).is_ok(), is_right, "{commits}");
        }
    }

    #[test]
    fn a_kernel_is_forced_by_name_and_one_that_is_not_there_is_refused_with_those_that_are() {
        let kernel = |name: &str| {
            let line = ["lamplighter-worker", "serve", "--kernel", name];
            Cli::try_parse_from(line).map(|cli| match cli.command {
                Command::Serve(args) => args.limits.kernel.map(Kernel::name),
                _ => panic!("serve was asked for"),
            })
        };
        assert_eq!(kernel("portable-f32").unwrap(), Some("portable-f32"));
        assert_eq!(kernel("portable-bf16").unwrap(), Some("portable-bf16"));
        let error = kernel("neon-bf16").unwrap_err().to_string();
        assert!(error.contains("it has portable-f32"), "{error}");
    }

    #[test]
    fn a_pod_needs_no_flag_at_all() {
        let cli = Cli::try_parse_from(["lamplighter-worker", "serve"]).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("serve was asked for");
        };
        assert_eq!(args.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(args.admin_listen.to_string(), "0.0.0.0:8081");
        assert_eq!(args.drain_delay_seconds, Duration::from_secs(5));
    }
}
