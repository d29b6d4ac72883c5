//! What this machine can do, measured beside what is measured on it.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// More than any cache has.
const BLOCK: usize = 256 << 20;
const PIECE: usize = 2 << 20;

/// Rates in bytes a second.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// From the page cache into a buffer that is used again, with one thread.
    pub(crate) cached_read: f64,
    /// From memory to memory that is used again, with one thread.
    pub(crate) copy: f64,
    /// From memory to memory that was never used before.
    pub(crate) first_copy: f64,
    /// To the disk, synced.
    pub(crate) disk_write: f64,
}

impl Machine {
    /// Measures; `cached` is a file that is read, `folder` where one may be written.
    pub(crate) fn measure(cached: &Path, folder: &Path) -> Result<Self> {
        let source = vec![1_u8; BLOCK];
        let mut target = vec![2_u8; BLOCK];
        let copy = best(BLOCK, || {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
        });
        let first_copy = best(BLOCK, || drop(black_box(source.clone())));
        Ok(Self {
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            cached_read: cached_read(cached)?,
            copy,
            first_copy,
            disk_write: disk_write(folder, &source)?,
        })
    }
}

/// The best of some: what the machine can do is not what a neighbour leaves of it.
fn best(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut rates: Vec<f64> = Vec::new();
    for _ in 0..4 {
        let begun = Instant::now();
        work();
        rates.push(bytes as f64 / begun.elapsed().as_secs_f64());
    }
    rates.into_iter().fold(0.0, f64::max)
}

fn cached_read(path: &Path) -> Result<f64> {
    let context = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(context)?;
    let size = usize::try_from(file.metadata().with_context(context)?.len())?;
    let mut buffer = vec![0; PIECE];
    let mut read = Ok(());
    let rate = best(size, || {
        for offset in (0..size).step_by(PIECE) {
            let length = PIECE.min(size - offset);
            if let Err(error) = file.read_exact_at(&mut buffer[..length], offset as u64) {
                read = Err(error);
            }
        }
    });
    read.with_context(context)?;
    Ok(rate)
}

fn disk_write(folder: &Path, bytes: &[u8]) -> Result<f64> {
    let mut file = tempfile::tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    let begun = Instant::now();
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(bytes.len() as f64 / begun.elapsed().as_secs_f64())
}

/// Whether the processor has one of these, by the names of Linux.
pub(crate) fn has_any(flags: &[&str]) -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    line.split_whitespace().any(|flag| flags.contains(&flag))
}

/// What the processor calls itself.
pub(crate) fn processor() -> String {
    let mut text = String::new();
    let read = File::open("/proc/cpuinfo").and_then(|mut file| file.read_to_string(&mut text));
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    match (read, field("model name"), field("cpu family"), field("model\t")) {
        (Ok(_), Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        _ => "unknown".to_owned(),
    }
}
