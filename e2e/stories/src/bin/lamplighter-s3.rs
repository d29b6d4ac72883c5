//! A small S3 server over a folder, for the demo and the user stories. Not for production.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use lamplighter_e2e::s3::{self, Store};
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
    };
    s3::serve(listener, store, stop).await
}
