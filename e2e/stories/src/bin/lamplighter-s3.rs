//! A small S3 server over a folder, for the demo and the user stories. Not for production.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use lamplighter_e2e::s3::{self, Distance, Store};
use tracing_subscriber::EnvFilter;

/// Serves the folders below a root as S3 buckets to one pair of keys.
///
/// Path-style addresses only: http://HOST:PORT/BUCKET/KEY. `GET /healthz` answers without a
/// signature. SIGTERM finishes open requests and ends with status 0.
#[derive(Debug, Parser)]
#[command(name = "lamplighter-s3", version)]
struct Options {
    /// Folder with one folder per bucket; it is only written to by uploads.
    #[arg(long, env = "LAMPLIGHTER_S3_ROOT", value_name = "DIR")]
    root: PathBuf,

    /// Address to listen on.
    #[arg(long, env = "LAMPLIGHTER_S3_LISTEN", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// The access key that clients must use.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "KEY")]
    access_key: String,

    /// The secret key that clients must sign with.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", value_name = "KEY", hide_env_values = true)]
    secret_key: String,

    /// Reads all objects when it starts, and keeps them in memory; nothing can be written then.
    #[arg(long, env = "LAMPLIGHTER_S3_IN_MEMORY")]
    in_memory: bool,

    /// Milliseconds by which each answer is late, as from a store that is far away.
    #[arg(long, env = "LAMPLIGHTER_S3_LATENCY", default_value_t = 0, value_name = "MILLISECONDS")]
    latency: u32,

    /// Bytes a second that each connection carries to its client; unset for no limit.
    #[arg(long, env = "LAMPLIGHTER_S3_BYTES_PER_SECOND", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    bytes_per_second: Option<u32>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,s3s=off")),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let stop = s3::told_to_stop()?;
    let listener = tokio::net::TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", options.listen))?;
    tracing::info!(address = %listener.local_addr()?, root = %options.root.display(), "serving");
    let store = Store {
        root: options.root,
        access_key: options.access_key,
        secret_key: options.secret_key,
        in_memory: options.in_memory,
        distance: Distance {
            latency: Duration::from_millis(options.latency.into()),
            bytes_per_second: options.bytes_per_second,
        },
    };
    s3::serve(listener, store, stop).await
}
