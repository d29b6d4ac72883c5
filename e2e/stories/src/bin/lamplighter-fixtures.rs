//! Makes the models that tests and the demo serve.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, Subcommand};
use lamplighter_e2e::fixtures::{Variant, write_bucket};

/// Makes test models: a tiny BERT from a seed, and variants of it that are broken in one way.
#[derive(Debug, Parser)]
#[command(name = "lamplighter-fixtures", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fills a folder with everything that the test store serves.
    Bucket {
        /// The folder; it must be empty or missing.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Folder with the files of all-MiniLM-L6-v2.
        #[arg(long, env = "LAMPLIGHTER_MINILM", value_name = "DIR")]
        minilm: PathBuf,
    },
    /// Writes one variant of the tiny model.
    Tiny {
        /// The folder to write into.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Which variant.
        #[arg(long, default_value = Variant::SOUND.name)]
        variant: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Bucket { out, minilm } => {
            let objects = write_bucket(&out, &minilm).await?;
            eprintln!("{objects} objects in {}", out.display());
        }
        Command::Tiny { out, variant } => {
            let Some(found) = Variant::ALL.into_iter().find(|known| known.name == variant) else {
                let known: Vec<_> = Variant::ALL.iter().map(|known| known.name).collect();
                bail!("there is no variant {variant:?}; there are {}", known.join(", "));
            };
            found.write(&out)?;
        }
    }
    Ok(())
}
