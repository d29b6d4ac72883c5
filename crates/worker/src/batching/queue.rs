//! What waits, what runs, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_engine::{Limits, Output};

use super::class::Class;
use super::form::{Texts, form, share};
use super::pace::Pace;

/// A request's texts that were submitted together.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct WorkId(u64);

/// A batch that was taken.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct BatchId(u64);

/// Texts that are to be computed. Times are counted from a moment of the caller's own.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<'a> {
    /// The model's number, any that the caller gives it.
    pub(crate) model: usize,
    pub(crate) output: Output,
    /// Of the model's engine.
    pub(crate) limits: Limits,
    pub(crate) class: Class,
    /// From then on it is not computed any more.
    pub(crate) deadline: Option<Duration>,
    /// Tokens of each text.
    pub(crate) lengths: &'a [usize],
}

/// What one thread computes next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) model: usize,
    pub(crate) output: Output,
    pub(crate) class: Class,
    /// Which texts: the work, and the text's place in it.
    pub(crate) texts: Vec<(WorkId, usize)>,
    /// All their tokens.
    pub(crate) tokens: usize,
}

/// What texts of one batch have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Kind {
    class: Class,
    model: usize,
    output: Output,
}

/// At most so many requests are looked at for one batch: those behind them wait no longer for it.
const LOOK_AHEAD: usize = 64;

/// When something came or was served last, in a count of such events.
type Turn = u64;

#[derive(Debug)]
struct Work {
    kind: Kind,
    turn: Turn,
    /// Since when none of its texts was taken.
    since: Duration,
    deadline: Option<Duration>,
    texts: Texts,
}

/// Works of one kind, those first that were served longest ago. Never empty.
#[derive(Debug)]
struct Lane {
    kind: Kind,
    limits: Limits,
    /// When it was served last or, if never, when its first work came.
    turn: Turn,
    order: BTreeSet<(Turn, WorkId)>,
}

#[derive(Debug)]
struct Running {
    class: Class,
    model: usize,
    tokens: usize,
    is_full: bool,
}

/// All works of all requests, and the batches that run.
///
/// Interactive work goes first, except that a class which got nothing for its patience goes before
/// it, one batch at a time in turn with it. Within a class, kinds of work take turns, and within a
/// kind requests do. What the worker asks itself runs one batch at a time.
#[derive(Debug)]
pub(crate) struct Queue {
    threads: usize,
    limit: usize,
    /// Places beyond the limit that only interactive texts may have.
    reserve: usize,
    admitted: usize,
    works: BTreeMap<WorkId, Work>,
    lanes: Vec<Lane>,
    deadlines: BTreeSet<(Duration, WorkId)>,
    running: BTreeMap<BatchId, Running>,
    paces: BTreeMap<usize, Pace>,
    /// Tokens that wait, by class and model.
    waiting: BTreeMap<(Class, usize), usize>,
    /// Whether the last batch went before more urgent work.
    exception: bool,
    turns: Turn,
    ids: u64,
}

impl Queue {
    /// For so many threads, with room for so many texts, and for a quarter more that are interactive: bulk
    /// work that holds all places for as long as it takes must not keep out what goes before it.
    pub(crate) fn new(threads: usize, limit: usize) -> Self {
        Self {
            threads: threads.max(1),
            limit,
            reserve: limit / 4,
            admitted: 0,
            works: BTreeMap::new(),
            lanes: Vec::new(),
            deadlines: BTreeSet::new(),
            running: BTreeMap::new(),
            paces: BTreeMap::new(),
            waiting: BTreeMap::new(),
            exception: false,
            turns: 0,
            ids: 0,
        }
    }

    /// Admits all texts of a request or none of them.
    pub(crate) fn admit(&mut self, texts: usize, class: Class) -> bool {
        let fits = texts <= self.places(class).saturating_sub(self.admitted);
        if fits {
            self.admitted += texts;
        }
        fits
    }

    /// How many texts of all classes there may be for one more of this class to have a place.
    pub(crate) fn places(&self, class: Class) -> usize {
        match class {
            Class::Interactive => self.limit.saturating_add(self.reserve),
            Class::Bulk | Class::Idle => self.limit,
        }
    }

    /// Texts that were admitted are done, whatever became of them.
    pub(crate) fn release(&mut self, texts: usize) {
        self.admitted = self.admitted.saturating_sub(texts);
    }

    /// Texts that are admitted.
    pub(crate) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Tokens that wait of a model, and tokens that run.
    pub(crate) fn tokens(&self, model: usize) -> usize {
        let waiting = self.waiting.iter().filter(|((_, other), _)| *other == model);
        let running = self.running.values().filter(|batch| batch.model == model);
        waiting.map(|(_, tokens)| tokens).sum::<usize>()
            + running.map(|batch| batch.tokens).sum::<usize>()
    }

    /// In which time work of a class that came now would probably begin: how long all threads
    /// together take for what is at least as urgent and for what runs.
    pub(crate) fn wait(&self, class: Class) -> Duration {
        let waiting = self.waiting.iter().filter(|((other, _), _)| *other <= class);
        let waiting = waiting.map(|((_, model), tokens)| (*model, *tokens));
        let running = self.running.values().map(|batch| (batch.model, batch.tokens));
        let seconds_for = |(model, tokens): (usize, usize)| {
            self.paces.get(&model).map_or(0.0, |pace| pace.seconds_for(tokens))
        };
        self.together(waiting.chain(running).map(seconds_for).sum())
    }

    /// How long all threads together take at least for so many tokens of a model, by what was measured.
    pub(crate) fn takes(&self, model: usize, tokens: usize) -> Duration {
        self.together(self.paces.get(&model).map_or(0.0, |pace| pace.seconds_at_best(tokens)))
    }

    fn together(&self, seconds_of_one: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "there are not 2^53 threads")]
        let seconds = seconds_of_one / self.threads as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Texts wait from now on. Without a text there is nothing to wait for, and no batch comes.
    pub(crate) fn submit(&mut self, arrival: &Arrival<'_>, now: Duration) -> WorkId {
        let Arrival { model, output, limits, class, deadline, lengths } = *arrival;
        let id = WorkId(self.next_id());
        let texts = Texts::of(lengths);
        if texts.is_empty() {
            return id;
        }
        let kind = Kind { class, model, output };
        let turn = self.next_turn();
        *self.waiting.entry((class, model)).or_default() += texts.tokens();
        match self.lanes.iter_mut().find(|lane| lane.kind == kind) {
            Some(lane) => {
                lane.order.insert((turn, id));
            }
            None => {
                self.lanes.push(Lane { kind, limits, turn, order: BTreeSet::from([(turn, id)]) });
            }
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        self.works.insert(id, Work { kind, turn, since: now, deadline, texts });
        id
    }

    /// Takes back what waits of a work; what runs goes on. How many texts that were.
    pub(crate) fn cancel(&mut self, id: WorkId) -> usize {
        let Some(work) = self.works.remove(&id) else { return 0 };
        if let Some(deadline) = work.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.kind == work.kind) {
            lane.order.remove(&(work.turn, id));
        }
        self.lanes.retain(|lane| !lane.order.is_empty());
        self.subtract(work.kind, work.texts.tokens());
        work.texts.len()
    }

    /// Takes back works whose time is over.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<WorkId> {
        let mut expired = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.cancel(id);
            expired.push(id);
        }
        expired
    }

    /// A batch for a thread that is free, if one is and there is something to do. What is over is
    /// to be taken back before.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Batch> {
        let idle = self.threads.checked_sub(self.running.len()).filter(|idle| *idle > 0)?;
        let (at, exception) = self.choose(now)?;
        let share = share(self.waiting.values().sum(), idle);
        let lane = self.lanes.get(at)?;
        let (kind, limits) = (lane.kind, lane.limits);
        let order: Vec<WorkId> = lane.order.iter().take(LOOK_AHEAD).map(|(_, id)| *id).collect();
        let taken = self.take(&order, limits, share);
        let tokens = taken.iter().map(|(_, _, length)| length).sum();
        let texts: Vec<(WorkId, usize)> = taken.iter().map(|&(id, place, _)| (id, place)).collect();
        self.subtract(kind, tokens);
        self.served(kind, &texts, now);
        self.exception = exception;
        let id = BatchId(self.next_id());
        let Kind { class, model, output } = kind;
        let is_full = tokens.saturating_mul(2) >= limits.max_batch_tokens;
        self.running.insert(id, Running { class, model, tokens, is_full });
        Some(Batch { id, model, output, class, texts, tokens })
    }

    /// A model is gone, and another one may get its number.
    pub(crate) fn forget(&mut self, model: usize) {
        self.paces.remove(&model);
    }

    /// A batch has ended; `took`: how long it took, if that says how fast the model is.
    pub(crate) fn finish(&mut self, id: BatchId, took: Option<Duration>) {
        let Some(batch) = self.running.remove(&id) else { return };
        if let Some(took) = took {
            self.paces.entry(batch.model).or_default().observe(batch.tokens, took, batch.is_full);
        }
    }

    /// Whose turn it is: a place among the lanes, and whether more urgent work waits.
    fn choose(&self, now: Duration) -> Option<(usize, bool)> {
        let own_runs = self.running.values().any(|batch| batch.class == Class::Idle);
        let may_run = |lane: &Lane| !(own_runs && lane.kind.class == Class::Idle);
        let lanes = || self.lanes.iter().enumerate().filter(|(_, lane)| may_run(lane));
        let urgent = lanes().map(|(_, lane)| lane.kind.class).min()?;
        let due = |lane: &Lane| self.since(lane).map(|since| since + lane.kind.class.patience());
        let neglected = lanes()
            .filter(|(_, lane)| lane.kind.class > urgent && !self.exception)
            .filter_map(|(at, lane)| Some((due(lane)?, at)))
            .filter(|(due, _)| *due <= now)
            .min();
        if let Some((_, at)) = neglected {
            return Some((at, true));
        }
        let of_class = lanes().filter(|(_, lane)| lane.kind.class == urgent);
        of_class.min_by_key(|(_, lane)| lane.turn).map(|(at, _)| (at, false))
    }

    /// Since when the lane's first work was not served.
    fn since(&self, lane: &Lane) -> Option<Duration> {
        lane.order.first().and_then(|(_, id)| self.works.get(id)).map(|work| work.since)
    }

    /// Takes texts of these works for a batch.
    fn take(
        &mut self,
        order: &[WorkId],
        limits: Limits,
        share: usize,
    ) -> Vec<(WorkId, usize, usize)> {
        let of_work = |id| self.works.get_mut(id).map(|work| std::mem::take(&mut work.texts));
        let mut texts: Vec<Texts> = order.iter().filter_map(of_work).collect();
        let formed = form(&mut texts, limits, share);
        for (id, texts) in order.iter().zip(texts) {
            if let Some(work) = self.works.get_mut(id) {
                work.texts = texts;
            }
        }
        let named = |(request, place, length)| Some((*order.get(request)?, place, length));
        formed.into_iter().filter_map(named).collect()
    }

    /// Those whose texts were taken are behind the others now, and gone if nothing is left of them.
    fn served(&mut self, kind: Kind, texts: &[(WorkId, usize)], now: Duration) {
        let served: BTreeSet<WorkId> = texts.iter().map(|(id, _)| *id).collect();
        for id in served {
            let turn = self.next_turn();
            let lane = self.lanes.iter_mut().find(|lane| lane.kind == kind);
            let (Some(work), Some(lane)) = (self.works.get_mut(&id), lane) else { continue };
            lane.order.remove(&(work.turn, id));
            lane.turn = turn;
            if work.texts.is_empty() {
                if let Some(deadline) = work.deadline {
                    self.deadlines.remove(&(deadline, id));
                }
                self.works.remove(&id);
            } else {
                (work.turn, work.since) = (turn, now);
                lane.order.insert((turn, id));
            }
        }
        self.lanes.retain(|lane| !lane.order.is_empty());
    }

    fn subtract(&mut self, kind: Kind, tokens: usize) {
        let key = (kind.class, kind.model);
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = waiting.saturating_sub(tokens);
            if *waiting == 0 {
                self.waiting.remove(&key);
            }
        }
    }

    fn next_turn(&mut self) -> Turn {
        self.turns += 1;
        self.turns
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}
