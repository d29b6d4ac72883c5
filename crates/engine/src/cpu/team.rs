//! One run on several cores.
//!
//! Batches run on one core each, and several of them beside each other. A run that is alone would
//! leave the other cores idle, and is spread instead: each member of the team computes some heads, and
//! of every product some columns, and reads what the others computed. A number is computed as it would
//! be on one core, so that what comes out is the same bit for bit.
//!
//! Members keep step by counting: whoever has put its part into its slot adds one, and reads the
//! others' slots when all have. There are two sets of slots, used in turns: whoever is ahead writes
//! into the one that nobody reads any more.

mod batch;

use std::cell::Cell;
use std::hint::spin_loop;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use batch::Batch;

use super::buffer::Buffer;
use super::encoder::{Encoder, Scratch};
use crate::Tokens;
use crate::pooling::Wanted;

/// Among more members each has so little to compute that they mostly wait for each other.
const MOST: usize = 4;
/// Threads that sleep need a few hundredths of a millisecond to come. Whoever has not come by then finds
/// its core taken, and the run goes on without it.
const COMING: Duration = Duration::from_micros(150);
/// How often a member looks whether the others are there before it lets other threads run.
const LOOKS: u32 = 4_000;
/// For how many runs nobody is called, at most, after the members of some had to wait for each other.
const LONGEST_REST: usize = 64;
/// A member that has begun is kept by nothing but other threads on its core.
const KEPT: Duration = Duration::from_secs(30);

/// The cores that the models of a process share. Clones are the same cores; the helping threads end
/// with the last of them.
#[derive(Clone, Debug)]
pub struct Cores(Arc<Owner>);

/// Threads hold the team, so that it cannot be what ends them.
#[derive(Debug)]
struct Owner(Arc<Team>);

#[derive(Debug)]
struct Team {
    helpers: usize,
    /// Runs at this moment, on one core or on several.
    running: AtomicUsize,
    call: Mutex<Call>,
    called: Condvar,
    /// Helpers that came to the last call.
    joined: AtomicUsize,
    /// Helpers that have not left it again.
    inside: AtomicUsize,
    /// How many take part in the run, with the one that called; 0 until that is known.
    members: AtomicUsize,
    /// Parts that were put into slots since the run began.
    arrived: AtomicUsize,
    /// A member was lost; the others leave.
    lost: AtomicBool,
    /// A member waited for another one longer than that computes: others use its core.
    waited: AtomicBool,
    /// For how many runs nobody was called the last time.
    rest: AtomicUsize,
    /// For how many runs nobody is called yet.
    rests: AtomicUsize,
    /// Of each member.
    slots: Vec<[RwLock<Buffer>; 2]>,
}

/// What helpers are called for.
#[derive(Default)]
struct Call {
    number: u64,
    /// None when nobody may join any more.
    encoder: Option<Arc<Encoder>>,
    batch: Batch,
    wanted: Wanted,
    is_over: bool,
}

/// What a helper that has come computes, and as which member.
struct Joined {
    encoder: Arc<Encoder>,
    wanted: Wanted,
    rank: usize,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Cores {
    /// One core: every run stays on the thread that asks for it.
    pub fn one() -> Self {
        Self(Arc::new(Owner(Arc::new(Team::new(0)))))
    }

    /// So many cores: a run that is alone uses up to four of them. Starts a thread for each of these but
    /// one, which sleeps while no run is alone. Fails if the system gives no more threads.
    pub fn new(count: NonZeroUsize) -> io::Result<Self> {
        let members = count.get().min(MOST);
        let cores = Self(Arc::new(Owner(Arc::new(Team::new(members - 1)))));
        for number in 1..members {
            let team = Arc::clone(&cores.0.0);
            thread::Builder::new().name(format!("core-{number}")).spawn(move || team.help())?;
        }
        Ok(cores)
    }

    /// Runs a batch; what comes out is in the scratch. None where the encoder gives none.
    pub(super) fn run(
        &self,
        encoder: &Arc<Encoder>,
        batch: &[Tokens],
        wanted: Wanted,
        scratch: &mut Scratch,
    ) -> Option<()> {
        let team = &*self.0.0;
        let running = Running::begin(team);
        if running.is_alone
            && team.is_rested()
            && let Some(share) = team.call(encoder, batch, wanted)
        {
            let done = team.lead(|| encoder.forward(batch, wanted, scratch, &share));
            // Where a member was lost the run is made anew: what it died of comes up here.
            if done.is_some() {
                return done;
            }
        }
        encoder.forward(batch, wanted, scratch, &Share::whole())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.called.notify_all();
    }
}

/// Counts a run while it lasts.
struct Running<'a> {
    team: &'a Team,
    is_alone: bool,
}

impl<'a> Running<'a> {
    fn begin(team: &'a Team) -> Self {
        let is_alone = team.running.fetch_add(1, Ordering::AcqRel) == 0;
        Self { team, is_alone }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.team.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tells the helpers when the caller's part of a run panics, so that they do not wait for it.
struct Told<'a>(&'a Team);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lost.store(true, Ordering::Release);
        }
    }
}

impl Team {
    fn new(helpers: usize) -> Self {
        Self {
            helpers,
            running: AtomicUsize::new(0),
            call: Mutex::default(),
            called: Condvar::new(),
            joined: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            waited: AtomicBool::new(false),
            rest: AtomicUsize::new(0),
            rests: AtomicUsize::new(0),
            slots: (0..=helpers).map(|_| Default::default()).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether helpers are to be called.
    fn is_rested(&self) -> bool {
        let count_down = |rests: usize| rests.checked_sub(1);
        self.helpers > 0
            && self.rests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down).is_err()
    }

    /// Where others use the cores, a run on one of them is faster: helpers are called again after a
    /// while, which is doubled each time that it was in vain.
    fn learn(&self, is_done: bool) {
        let was_quick = is_done && !self.waited.load(Ordering::Relaxed);
        let rest = self.rest.load(Ordering::Relaxed);
        let rest = if was_quick { 0 } else { (2 * rest + 1).min(LONGEST_REST) };
        self.rest.store(rest, Ordering::Relaxed);
        self.rests.store(rest, Ordering::Relaxed);
    }

    /// Calls the helpers to a run. None if nobody comes, or if some have not left the last run yet.
    fn call(&self, encoder: &Arc<Encoder>, batch: &[Tokens], wanted: Wanted) -> Option<Share<'_>> {
        let mut call = self.lock();
        if call.encoder.is_some() || self.inside.load(Ordering::Acquire) > 0 {
            return None;
        }
        self.joined.store(0, Ordering::Relaxed);
        self.members.store(0, Ordering::Relaxed);
        self.arrived.store(0, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
        self.waited.store(false, Ordering::Relaxed);
        call.batch.copy(batch);
        call.wanted = wanted;
        call.encoder = Some(Arc::clone(encoder));
        call.number += 1;
        drop(call);
        self.called.notify_all();
        let begun = Instant::now();
        while self.joined.load(Ordering::Relaxed) < self.helpers && begun.elapsed() < COMING {
            spin_loop();
        }
        let mut call = self.lock();
        call.encoder = None;
        let joined = self.joined.load(Ordering::Relaxed);
        drop(call);
        // Those that have come wait for this number, also where nobody has.
        self.members.store(joined + 1, Ordering::Release);
        if joined == 0 {
            self.learn(false);
        }
        (joined > 0).then(|| Share::of(self, 0, joined + 1))
    }

    /// The caller's own part of a run, of which helpers hear if it panics. None if a member was lost.
    fn lead(&self, run: impl FnOnce() -> Option<()>) -> Option<()> {
        let _told = Told(self);
        let done = run();
        self.learn(done.is_some());
        done
    }

    /// What a helper does until there is nobody to help.
    fn help(&self) {
        let mut scratch = Scratch::default();
        let mut batch = Batch::default();
        let mut answered = 0;
        while let Some(Joined { encoder, wanted, rank }) = self.join(&mut answered, &mut batch) {
            let members = self.members();
            let share = Share::of(self, rank, members);
            let run = || encoder.forward(batch.texts(), wanted, &mut scratch, &share);
            // The panic's own message is written when it happens. It comes up again in the caller's
            // run.
            if !matches!(catch_unwind(AssertUnwindSafe(run)), Ok(Some(()))) {
                self.lost.store(true, Ordering::Release);
            }
            // The model may be unloaded before the next call.
            drop(encoder);
            self.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits for the next call and takes part. None when there will be none.
    fn join(&self, answered: &mut u64, batch: &mut Batch) -> Option<Joined> {
        let mut call = self.lock();
        loop {
            if call.is_over {
                return None;
            }
            if call.number > *answered
                && let Some(encoder) = &call.encoder
            {
                let encoder = Arc::clone(encoder);
                *answered = call.number;
                batch.copy(call.batch.texts());
                self.inside.fetch_add(1, Ordering::AcqRel);
                let rank = self.joined.fetch_add(1, Ordering::Relaxed) + 1;
                return Some(Joined { encoder, wanted: call.wanted, rank });
            }
            call = self.called.wait(call).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many take part, as soon as the caller has counted them.
    fn members(&self) -> usize {
        loop {
            match self.members.load(Ordering::Acquire) {
                0 => spin_loop(),
                members => return members,
            }
        }
    }

    /// Waits until so many parts are there. None if a member was lost.
    fn wait_for(&self, parts: usize) -> Option<()> {
        let mut looks = 0_u32;
        let mut deadline = None;
        while self.arrived.load(Ordering::Acquire) < parts {
            if self.lost.load(Ordering::Acquire) {
                return None;
            }
            looks = looks.saturating_add(1);
            if looks < LOOKS {
                spin_loop();
                continue;
            }
            self.waited.store(true, Ordering::Relaxed);
            thread::yield_now();
            if Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + KEPT) {
                self.lost.store(true, Ordering::Release);
            }
        }
        Some(())
    }
}

/// A member's part of a run.
pub(super) struct Share<'a> {
    /// None where it is the whole.
    team: Option<&'a Team>,
    rank: usize,
    members: usize,
    /// How many parts it has put into its slots.
    step: Cell<usize>,
}

impl<'a> Share<'a> {
    /// Of a run on one core.
    pub(super) fn whole() -> Self {
        Self { team: None, rank: 0, members: 1, step: Cell::new(0) }
    }

    fn of(team: &'a Team, rank: usize, members: usize) -> Self {
        Self { team: Some(team), rank, members, step: Cell::new(0) }
    }

    /// Its part of so many things, of which `unit` at a time must not be parted.
    pub(super) fn part(&self, count: usize, unit: usize) -> Range<usize> {
        self.part_of(self.rank, count, unit)
    }

    fn part_of(&self, rank: usize, count: usize, unit: usize) -> Range<usize> {
        let units = count.div_ceil(unit);
        let bound = |rank: usize| (units * rank / self.members * unit).min(count);
        bound(rank)..bound(rank + 1)
    }

    /// Whether nobody else has a part.
    pub(super) fn is_whole(&self) -> bool {
        self.team.is_none()
    }

    /// Fills a matrix `[rows, columns]` together. `compute` is given its part of the columns, a matrix
    /// to write them into, and how far apart that one's rows begin. None if a member was lost.
    pub(super) fn fill(
        &self,
        out: &mut [f32],
        columns: usize,
        unit: usize,
        compute: impl FnOnce(Range<usize>, &mut [f32], usize),
    ) -> Option<()> {
        let own = self.part(columns, unit);
        let Some(team) = self.team else {
            compute(own, out, columns);
            return Some(());
        };
        let step = self.step.get();
        self.step.set(step + 1);
        let rows = out.len() / columns.max(1);
        let slot = |rank: usize| team.slots.get(rank).map(|slots| &slots[step % 2]);
        if !own.is_empty() {
            let width = own.len();
            let mut slot = slot(self.rank)?.write().unwrap_or_else(PoisonError::into_inner);
            compute(own, slot.take(rows * width), width);
        }
        team.arrived.fetch_add(1, Ordering::AcqRel);
        team.wait_for(self.members * (step + 1))?;
        for rank in 0..self.members {
            let part = self.part_of(rank, columns, unit);
            let slot = slot(rank)?.read().unwrap_or_else(PoisonError::into_inner);
            let parts = slot.get(rows * part.len()).chunks_exact(part.len().max(1));
            for (row, part_of_row) in out.chunks_exact_mut(columns).zip(parts) {
                row[part.clone()].copy_from_slice(part_of_row);
            }
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "team_tests.rs"]
mod tests;
