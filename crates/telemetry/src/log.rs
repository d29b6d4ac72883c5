//! Log lines on standard error: JSON for collectors, text for people.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a binary logs; flatten it into the command line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// Shape of a log line: `json` for collectors, `text` for people. [default: text where standard error
    /// is a terminal, else json]
    #[arg(long, global = true, env = "LAMPLIGHTER_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// What is logged, by target and level, for example `info,lamplighter_worker=debug`.
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        default_value = "info",
        value_name = "DIRECTIVES"
    )]
    pub log_filter: String,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One readable line.
    Text,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter's directives are malformed.
    #[error(
        "--log-filter (RUST_LOG) {directives:?} is not a list of target=level directives: {source}"
    )]
    Filter {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is already installed in this process.
    #[error("logging was already set up in this process: {0}")]
    Twice(#[from] TryInitError),
}

/// Installs the process's log subscriber, which also hears of panics. Call once, before
/// anything logs.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    let filter = filter(&args.log_filter)?;
    let is_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr);
    match shape(args.log_format, is_terminal) {
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
        LogFormat::Text => lines.finish().try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "a bug: a thread panicked");
    }));
    Ok(())
}

/// Somebody reads what comes to a terminal.
fn shape(asked: Option<LogFormat>, is_terminal: bool) -> LogFormat {
    asked.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json })
}

fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(directives)
        .map_err(|source| LogError::Filter { directives: directives.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    #[test]
    fn the_default_is_level_info_and_json_but_for_people() {
        let cli = Cli::try_parse_from(["test"]).unwrap();
        assert_eq!(shape(cli.log.log_format, false), LogFormat::Json);
        assert_eq!(shape(cli.log.log_format, true), LogFormat::Text);
        let cli = Cli::try_parse_from(["test", "--log-format", "json"]).unwrap();
        assert_eq!(shape(cli.log.log_format, true), LogFormat::Json);
        assert_eq!(filter(&cli.log.log_filter).unwrap().to_string(), "info");
    }

    #[test]
    fn a_malformed_filter_is_refused_with_its_own_text() {
        let error = filter("worker=loudest").unwrap_err().to_string();
        assert!(error.contains("worker=loudest"), "{error}");
        assert!(error.contains("RUST_LOG"), "{error}");
    }
}
