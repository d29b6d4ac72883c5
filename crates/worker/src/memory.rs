//! How much memory this process has and may have.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_protocol::memory::WORKER;
use lamplighter_protocol::{Failure, Reason, bytes_in_words};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

const MEBIBYTE: u64 = 1 << 20;

/// Bytes in memory that only this process can give back: not its code, nor files that are mapped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Now.
    pub now: u64,
    /// The most at a time since the process began.
    pub peak: u64,
}

/// What this process has in memory. The kernel keeps the peak with mapped files, of which as many are
/// taken off as there are now.
pub fn usage() -> io::Result<Usage> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name| {
        kibibytes(&status, name)
            .ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))
    };
    let now = field("RssAnon")?;
    let files = field("RssFile")? + field("RssShmem")?;
    Ok(Usage { now, peak: field("VmHWM")?.saturating_sub(files).max(now) })
}

/// What all processes of the container may have in memory: its limit, or where there is none what
/// the machine has. None where neither can be read.
pub fn limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of_cgroup = cgroup_limit(Path::new("/sys/fs/cgroup"), &own);
    of_cgroup.into_iter().chain(kibibytes(&machine, "MemTotal")).min()
}

/// A field of `/proc/…/status` or `/proc/meminfo`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// The lowest limit of the process's cgroup and of those above it, as far as they can be seen:
/// in a container it is the top one (<https://docs.kernel.org/admin-guide/cgroup-v2.html>).
/// `own` is the contents of `/proc/self/cgroup`.
fn cgroup_limit(mount: &Path, own: &str) -> Option<u64> {
    let unified = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let legacy = own.lines().find_map(|line| line.split_once(":memory:/").map(|(_, path)| path));
    let (root, path, file) = match (unified, legacy) {
        (_, Some(path)) => (mount.join("memory"), path, "memory.limit_in_bytes"),
        (Some(path), None) => (mount.to_owned(), path, "memory.max"),
        (None, None) => return None,
    };
    let folder = root.join(path);
    let above = folder.ancestors().take_while(|folder| folder.starts_with(&root));
    let limit = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    above.filter_map(limit).min()
}

/// Adds up what the models of a worker take at least, so that what cannot fit is refused with a
/// reason instead of being killed without one.
#[derive(Debug)]
pub struct Room {
    limit: Option<u64>,
    taken: AtomicU64,
    /// Held by a model that is there in two forms.
    comparing: Arc<Mutex<()>>,
}

/// A model may be there in two forms until this is dropped.
#[derive(Debug)]
pub struct Comparing {
    _turn: OwnedMutexGuard<()>,
}

impl Room {
    /// That many bytes for the whole worker; none for as many as it wants.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit, taken: AtomicU64::new(WORKER), comparing: Arc::default() }
    }

    /// Counts a model whose weights take that many bytes, beside what is counted already, or beside
    /// the `in_use` bytes that the process has in memory, if those are more.
    pub fn reserve(self: &Arc<Self>, bytes: u64, in_use: u64) -> Result<Reserved, Failure> {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved { room: Arc::clone(self), bytes };
        let need = taken.max(in_use).saturating_add(bytes);
        match self.limit {
            Some(limit) if need > limit => Err(exceeded(need, limit)),
            _ => Ok(reserved),
        }
    }

    /// Whether there are so many bytes for a while, beside what is counted or beside the `in_use` bytes
    /// that the process has in memory, if those are more. One model at a time. They are not counted, so
    /// that no other model is refused for them: whoever is to reserve waits
    /// ([`Room::nobody_compares`]).
    pub async fn comparing(&self, bytes: u64, in_use: u64) -> Option<Comparing> {
        let turn = Arc::clone(&self.comparing).lock_owned().await;
        let need = self.taken.load(Ordering::Relaxed).max(in_use).saturating_add(bytes);
        self.limit.is_none_or(|limit| need <= limit).then_some(Comparing { _turn: turn })
    }

    /// Waits until no model is there in two forms; none is until this is dropped.
    pub async fn nobody_compares(&self) -> MutexGuard<'_, ()> {
        self.comparing.lock().await
    }
}

/// Bytes of a [`Room`] that are counted until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    room: Arc<Room>,
    bytes: u64,
}

impl Reserved {
    /// It turned out to be so many bytes, at most as many as before.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.room.taken.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn exceeded(need: u64, limit: u64) -> Failure {
    let message = format!(
        "the worker needs {} of {} usable for the weights of its models up to this one; raise \
         the container's memory limit (spec.worker.resources.limits.memory), or serve the models \
         from several ModelDeployments",
        bytes_in_words(need),
        bytes_in_words(limit)
    );
    let expected = Some(format!("at most {} MiB", limit / MEBIBYTE));
    let found = Some(format!("{} MiB", need.div_ceil(MEBIBYTE)));
    Failure { expected, found, ..Failure::new(Reason::HostMemoryExceeded, message) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_process_is_in_memory() {
        let block = vec![1_u8; 32 << 20];
        let with = usage().unwrap();
        assert!(with.now > block.len() as u64 && with.peak >= with.now, "{with:?}");
        drop(block);
        let Usage { now, peak } = usage().unwrap();
        assert!(peak >= now && peak + (8 << 20) > with.now, "{with:?} {peak}");
        assert!(limit().unwrap() > peak);
    }

    #[test]
    fn the_lowest_limit_above_a_process_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "4096\n");
        write("a/b/memory.max", "max\n");
        write("memory/c/memory.limit_in_bytes", "8192\n");
        for (own, expected) in [
            ("0::/a/b\n", Some(4096)),
            ("0::/\n", None),
            ("4:cpu:/x\n5:memory:/c/d\n0::/a\n", Some(8192)),
            ("", None),
            ("0::/../../etc\n", None),
        ] {
            assert_eq!(cgroup_limit(mount.path(), own), expected, "{own:?}");
        }
        write("memory.max", "1024");
        assert_eq!(cgroup_limit(mount.path(), "0::/\n"), Some(1024), "as in a container");
    }

    #[test]
    fn numbers_of_the_kernel_are_read_and_others_are_not() {
        let text = "VmHWM:\t    12 kB\nRssAnon: 1 kB\nOdd: 1\nHuge: 18446744073709551615 kB\n";
        assert_eq!(kibibytes(text, "VmHWM"), Some(12 * 1024));
        for name in ["Vm", "Odd", "Huge", "None"] {
            assert_eq!(kibibytes(text, name), None, "{name}");
        }
    }

    #[test]
    fn the_model_that_no_longer_fits_is_refused_with_both_numbers() {
        let room = Arc::new(Room::new(Some(WORKER + 100 * MEBIBYTE)));
        let mut first = room.reserve(60 * MEBIBYTE, 0).unwrap();
        let failure = room.reserve(41 * MEBIBYTE, 0).unwrap_err();
        assert_eq!(failure.reason, Reason::HostMemoryExceeded);
        assert!(failure.message.contains("needs 105 MiB of 104 MiB usable"), "{failure}");
        drop(room.reserve(40 * MEBIBYTE, 0).expect("what was refused is not counted"));
        first.shrink_to(50 * MEBIBYTE);
        let second = room.reserve(50 * MEBIBYTE, 0).expect("the rest was given back");
        drop((first, second));
        room.reserve(100 * MEBIBYTE, 0).expect("what is gone is given back");
        Arc::new(Room::new(None)).reserve(u64::MAX - WORKER, 0).unwrap();
    }

    #[tokio::test]
    async fn two_forms_are_compared_where_there_is_room_and_nobody_takes_it_meanwhile() {
        let room = Arc::new(Room::new(Some(WORKER + 100 * MEBIBYTE)));
        let _model = room.reserve(60 * MEBIBYTE, 0).unwrap();
        assert!(room.comparing(41 * MEBIBYTE, 0).await.is_none());
        let in_use = WORKER + 70 * MEBIBYTE;
        assert!(room.comparing(31 * MEBIBYTE, in_use).await.is_none(), "what is there counts");
        let comparing = room.comparing(40 * MEBIBYTE, 0).await.expect("there is room");
        let mut next = std::pin::pin!(room.nobody_compares());
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), next.as_mut()).await;
        assert!(waits.is_err(), "whoever wants memory waits");
        drop(comparing);
        drop(next.await);
        room.reserve(40 * MEBIBYTE, 0).expect("nothing was counted");
        assert!(Arc::new(Room::new(None)).comparing(u64::MAX / 2, 0).await.is_some());
    }

    #[test]
    fn a_model_that_comes_later_must_fit_beside_all_that_is_in_memory_by_then() {
        let room = Arc::new(Room::new(Some(100 * MEBIBYTE)));
        let failure = room.reserve(20 * MEBIBYTE, 81 * MEBIBYTE).unwrap_err();
        assert_eq!(failure.found.as_deref(), Some("101 MiB"));
        room.reserve(20 * MEBIBYTE, 80 * MEBIBYTE).unwrap();
    }
}
