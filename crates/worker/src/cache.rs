//! `lamplighter-worker cache`: what is kept on a volume, and what of it may go.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use lamplighter_artifact::{CachedCopy, Fate, Policy, collect};
use lamplighter_protocol::{Failure, Reason, place};
use tokio_util::sync::CancellationToken;

use crate::arguments::seconds;
use crate::failure;

const GC_EXAMPLE: &str = "Examples:
  lamplighter-worker cache gc --cache-dir /models --dry-run
  lamplighter-worker cache gc --cache-dir /models --known search/scripture/7c9f0e5b21";

/// What to do with a cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what is kept, for whom, and since when it has not been used.
    List(ListArgs),
    /// Remove what nobody relies on any more, and what interrupted downloads left.
    ///
    /// A copy stays as long as a revision relies on it that is known, for its time of grace after
    /// that, and while a process is loading it. Without --known, every revision counts that ever
    /// used a copy; with it, of each namespace that is named there, only those that are named: name
    /// all of all its deployments on the volume.
    #[command(after_help = GC_EXAMPLE)]
    Gc(GcArgs),
}

/// Which cache.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The folder where downloads are kept.
    #[arg(long, env = place::ENV_CACHE_DIR, default_value = place::CACHE_DIR, value_name = "DIR")]
    pub cache_dir: PathBuf,
}

/// What may be removed.
#[derive(Args, Clone, Debug)]
pub struct GcArgs {
    /// The folder where downloads are kept.
    #[arg(long, env = place::ENV_CACHE_DIR, default_value = place::CACHE_DIR, value_name = "DIR")]
    pub cache_dir: PathBuf,

    /// A revision that is to be able to come back; may be given several times, or separated by
    /// commas.
    #[arg(long, env = "LAMPLIGHTER_KNOWN_REVISIONS", value_delimiter = ',', value_parser = user, value_name = "NAMESPACE/NAME/REVISION")]
    pub known: Option<Vec<String>>,

    /// How long a copy that nobody relies on is kept after its last use.
    #[arg(long, env = "LAMPLIGHTER_CACHE_GRACE_SECONDS", default_value = "3600", value_parser = seconds(0..=31_536_000), value_name = "SECONDS")]
    pub grace_seconds: Duration,

    /// When --known was made, in seconds since 1970: what was used later stays.
    #[arg(long, env = "LAMPLIGHTER_CACHE_AS_OF", value_parser = since_1970, value_name = "SECONDS")]
    pub as_of: Option<SystemTime>,

    /// Look a second time, when the time of grace is over of everything that nobody relies on.
    #[arg(long, env = "LAMPLIGHTER_CACHE_WAIT")]
    pub wait: bool,

    /// Only say what would be removed, and why the rest stays.
    #[arg(long, env = "LAMPLIGHTER_CACHE_DRY_RUN")]
    pub dry_run: bool,
}

/// The name that a copy knows a revision by: see [`lamplighter_protocol::Manifest::user`].
fn user(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.is_empty() || part.contains('.')) {
        return Err(format!("{text:?} is not of the form namespace/name/revision"));
    }
    Ok(parts.join("."))
}

fn since_1970(text: &str) -> Result<SystemTime, String> {
    let seconds: u64 = text.parse().map_err(|error| format!("{text:?} is no number: {error}"))?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.ok_or_else(|| format!("{seconds} s is too late a time"))
}

/// Does it, and prints what became of each copy.
pub async fn run(command: &CacheCommand, stop: CancellationToken) -> Result<(), Failure> {
    let (folder, policy) = match command {
        CacheCommand::List(args) => {
            let policy = Policy { known: None, grace: Duration::MAX, as_of: None, dry_run: true };
            (args.cache_dir.clone(), policy)
        }
        CacheCommand::Gc(args) => {
            let known = args.known.as_ref().map(|known| known.iter().cloned().collect());
            let GcArgs { grace_seconds: grace, as_of, dry_run, .. } = *args;
            let policy = Policy { known, grace, as_of, dry_run };
            (args.cache_dir.clone(), policy)
        }
    };
    let copies = look(&folder, &policy).await?;
    print(&match command {
        CacheCommand::List(_) => table(&copies, None),
        CacheCommand::Gc(_) => table(&copies, Some(&policy)),
    })?;
    let pause = second_look(&copies, &policy);
    match (command, pause) {
        (CacheCommand::Gc(GcArgs { wait: true, .. }), Some(pause)) => {
            tracing::info!(seconds = pause.as_secs(), "waiting for the time of grace to be over");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return Err(stopped()),
            }
            print(&table(&look(&folder, &policy).await?, Some(&policy)))
        }
        _ => Ok(()),
    }
}

async fn look(folder: &Path, policy: &Policy) -> Result<Vec<CachedCopy>, Failure> {
    let (folder, policy) = (folder.to_owned(), policy.clone());
    tokio::task::spawn_blocking(move || collect(&folder, &policy))
        .await
        .map_err(|lost| failure::of_lost_task(&lost))?
        .map_err(|error| failure::of_artifact(&error))
}

/// In how long the time of grace is over of all copies that nobody relies on now. Who begins to
/// use one until then gives it a new one.
fn second_look(copies: &[CachedCopy], policy: &Policy) -> Option<Duration> {
    let waiting = copies.iter().filter(|copy| copy.fate == Fate::InGrace);
    waiting.map(|copy| policy.grace.saturating_sub(copy.idle) + Duration::from_secs(1)).max()
}

fn stopped() -> Failure {
    Failure::new(Reason::Internal, "told to stop before the time of grace was over")
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| {
        Failure::new(Reason::Internal, format!("the result cannot be printed: {error}"))
    })
}

/// One line for each copy, and their sum. With a policy, what became of each.
fn table(copies: &[CachedCopy], policy: Option<&Policy>) -> String {
    let mut rows =
        vec![["MODEL", "DIGEST", "MIB", "UNUSED", "USED BY"].map(str::to_owned).to_vec()];
    if policy.is_some() {
        rows[0].push("FATE".to_owned());
    }
    for copy in copies {
        let mut row = vec![
            format!("{}:{}", copy.model, copy.version),
            copy.digest.clone(),
            mebibytes(copy.bytes),
            since(copy.idle),
            if copy.users.is_empty() { "-".to_owned() } else { copy.users.join(" ") },
        ];
        if let Some(policy) = policy {
            row.push(fate(copy, policy).to_owned());
        }
        rows.push(row);
    }
    let mut text = aligned(&rows);
    let sum = |copies: &mut dyn Iterator<Item = &CachedCopy>| copies.map(|copy| copy.bytes).sum();
    let all: u64 = sum(&mut copies.iter());
    let gone = || copies.iter().filter(|copy| copy.fate == Fate::Removed);
    let freed: u64 = sum(&mut gone());
    let line = match policy {
        None => format!("{} copies, {} MiB", copies.len(), mebibytes(all)),
        Some(policy) => format!(
            "{} {} of {} copies, {} of {} MiB",
            if policy.dry_run { "would remove" } else { "removed" },
            gone().count(),
            copies.len(),
            mebibytes(freed),
            mebibytes(all)
        ),
    };
    text.push_str(&line);
    text.push('\n');
    text
}

fn fate(copy: &CachedCopy, policy: &Policy) -> &'static str {
    match copy.fate {
        Fate::Needed => "stays: needed",
        Fate::InGrace => "stays: used not long ago",
        Fate::UsedSince => "stays: used after --as-of",
        Fate::InUse => "stays: being loaded",
        Fate::Unlockable => "stays: this file system has no locks",
        Fate::Stuck => "stays: it could not be removed",
        Fate::Removed if policy.dry_run => "would be removed",
        Fate::Removed => "removed",
    }
}

/// Columns that are as wide as their longest cell; the last one is not padded.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// With one digit after the point: a tokenizer has less than one.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn since(idle: Duration) -> String {
    let seconds = idle.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies() -> Vec<CachedCopy> {
        let copy = |version: &str, bytes, users: &[&str], hours, fate| CachedCopy {
            model: "minilm".to_owned(),
            version: version.to_owned(),
            digest: "47e451a605fa4dea".to_owned(),
            bytes,
            users: users.iter().map(|user| (*user).to_owned()).collect(),
            idle: Duration::from_hours(hours),
            fate,
        };
        vec![
            copy("2.0.0", 90_900_000, &[], 70, Fate::Removed),
            copy("2.1.0", 91_000_000, &["search.one.7c9f", "search.two.1a2b"], 2, Fate::Needed),
            copy("3.0.0-rc.1", 500, &["search.one.0000"], 0, Fate::InGrace),
        ]
    }

    #[test]
    fn the_table_says_what_became_of_each_copy() {
        let policy = Policy {
            known: Some(["search.one.7c9f".to_owned()].into()),
            grace: Duration::from_hours(1),
            as_of: None,
            dry_run: false,
        };
        insta::assert_snapshot!(table(&copies(), Some(&policy)));
        let dry = Policy { dry_run: true, ..policy };
        assert!(
            table(&copies(), Some(&dry))
                .ends_with("would remove 1 of 3 copies, 86.6 of 173.4 MiB\n")
        );
        insta::assert_snapshot!(table(&copies(), None));
    }

    #[test]
    fn the_second_look_comes_when_the_last_time_of_grace_is_over() {
        let policy =
            Policy { known: None, grace: Duration::from_hours(3), as_of: None, dry_run: false };
        let pause = second_look(&copies(), &policy);
        assert_eq!(pause, Some(Duration::from_secs(3 * 3_600 + 1)), "only what may go counts");
        assert_eq!(second_look(&copies()[..2], &policy), None);
    }

    #[test]
    fn a_revision_is_named_as_copies_know_it() {
        assert_eq!(user("search/scripture/7c9f").unwrap(), "search.scripture.7c9f");
        for wrong in ["", "search", "search/scripture", "a/b/c/d", "a//c", "a/b.c/d"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400, "1d"), (999_999, "11d")]
        {
            assert_eq!(since(Duration::from_secs(seconds)), expected);
        }
    }
}
