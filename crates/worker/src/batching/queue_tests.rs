use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_engine::{Limits, Output, Shape};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const MODELS: usize = 3;
const LIMIT: usize = 300;

#[derive(Clone, Debug)]
enum Step {
    Arrive { model: usize, output: Output, class: Class, lengths: Vec<usize>, time: Option<u64> },
    Take,
    Finish(Index),
    Cancel(Index),
    Pass(u64),
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![4 => Just(Class::Interactive), 3 => Just(Class::Bulk), 1 => Just(Class::Idle)]
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop_oneof![
        6 => prop::collection::vec(1..40_usize, 1..4),
        1 => prop::collection::vec(1..40_usize, 1..120),
    ];
    let output = prop_oneof![Just(Output::Vector), Just(Output::Scores)];
    let time = prop_oneof![2 => Just(None), 1 => (1..2_000_u64).prop_map(Some)];
    let arrive = (0..MODELS, output, class(), lengths, time).prop_map(
        |(model, output, class, lengths, time)| Step::Arrive {
            model,
            output,
            class,
            lengths,
            time,
        },
    );
    prop_oneof![
        4 => arrive,
        5 => Just(Step::Take),
        4 => any::<Index>().prop_map(Step::Finish),
        1 => any::<Index>().prop_map(Step::Cancel),
        2 => (1..400_u64).prop_map(Step::Pass),
    ]
}

fn limits(model: usize) -> Limits {
    let shape = if model == 0 { Shape::Padded } else { Shape::Packed };
    Limits { max_batch_tokens: 64, max_batch_texts: 4 + model, shape }
}

#[derive(Clone, Debug)]
struct Known {
    model: usize,
    output: Output,
    class: Class,
    lengths: Vec<usize>,
    deadline: Option<Duration>,
    /// When it came or got something last.
    served: (u64, Duration),
    waiting: BTreeSet<usize>,
}

/// What the queue must be like, told in the plainest way.
struct World {
    queue: Queue,
    threads: usize,
    now: Duration,
    works: BTreeMap<WorkId, Known>,
    ended: BTreeSet<WorkId>,
    running: Vec<(Batch, usize)>,
    admitted: usize,
    events: u64,
    exception: bool,
}

impl World {
    fn new(threads: usize) -> Self {
        Self {
            queue: Queue::new(threads, LIMIT),
            threads,
            now: Duration::ZERO,
            works: BTreeMap::new(),
            ended: BTreeSet::new(),
            running: Vec::new(),
            admitted: 0,
            events: 0,
            exception: false,
        }
    }

    fn waits(&self) -> [Duration; 3] {
        [Class::Interactive, Class::Bulk, Class::Idle].map(|class| self.queue.wait(class))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Arrive { model, output, class, lengths, time } => {
                self.arrive(*model, *output, *class, lengths, *time);
            }
            Step::Take => self.take(),
            Step::Finish(at) if !self.running.is_empty() => {
                self.finish(at.index(self.running.len()));
            }
            Step::Cancel(at) if !self.works.is_empty() => {
                let id = *self.works.keys().nth(at.index(self.works.len())).unwrap();
                self.end(id);
                self.queue.cancel(id);
            }
            Step::Pass(millis) => self.now += Duration::from_millis(*millis),
            Step::Finish(_) | Step::Cancel(_) => {}
        }
        self.check_accounts();
    }

    fn arrive(
        &mut self,
        model: usize,
        output: Output,
        class: Class,
        lengths: &[usize],
        time: Option<u64>,
    ) {
        let places = if class == Class::Interactive { LIMIT + LIMIT / 4 } else { LIMIT };
        let fits = self.admitted + lengths.len() <= places;
        assert_eq!(self.queue.admit(lengths.len(), class), fits, "all of its texts or none");
        if !fits {
            return;
        }
        self.admitted += lengths.len();
        let deadline = time.map(|millis| self.now + Duration::from_millis(millis));
        let limits = limits(model);
        let before = self.waits();
        let arrival = Arrival { model, output, limits, class, deadline, lengths };
        let id = self.queue.submit(&arrival, self.now);
        for (before, after) in before.into_iter().zip(self.waits()) {
            assert!(before <= after, "a longer queue never seems shorter");
        }
        self.events += 1;
        let known = Known {
            model,
            output,
            class,
            lengths: lengths.to_vec(),
            deadline,
            served: (self.events, self.now),
            waiting: (0..lengths.len()).collect(),
        };
        assert!(self.works.insert(id, known).is_none() && !self.ended.contains(&id));
    }

    fn finish(&mut self, at: usize) {
        let (batch, tokens) = self.running.swap_remove(at);
        self.queue.finish(batch.id, Some(Duration::from_millis(tokens as u64)));
    }

    /// It is over, and its places are given back.
    fn end(&mut self, id: WorkId) {
        let work = self.works.remove(&id).unwrap();
        self.admitted -= work.lengths.len();
        self.queue.release(work.lengths.len());
        self.ended.insert(id);
    }

    fn take(&mut self) {
        let over: Vec<WorkId> = self
            .works
            .iter()
            .filter(|(_, work)| work.deadline.is_some_and(|deadline| deadline <= self.now))
            .map(|(id, _)| *id)
            .collect();
        let expired: BTreeSet<WorkId> = self.queue.expire(self.now).into_iter().collect();
        assert_eq!(expired, over.iter().copied().collect(), "what is over is taken back");
        for id in over {
            self.end(id);
        }

        let own_runs = self.running.iter().any(|(batch, _)| batch.class == Class::Idle);
        let may_run: BTreeMap<WorkId, Known> = self
            .works
            .iter()
            .filter(|(_, work)| !(own_runs && work.class == Class::Idle))
            .map(|(id, work)| (*id, work.clone()))
            .collect();
        let Some(batch) = self.queue.next(self.now) else {
            let is_busy = self.running.len() == self.threads;
            assert!(is_busy || may_run.is_empty(), "a free thread and work found each other");
            return;
        };
        assert!(self.running.len() < self.threads, "no more batches than threads");
        self.check_batch(&batch, &may_run);
        self.check_order(&batch, &may_run);
        let served: BTreeSet<WorkId> = batch.texts.iter().map(|(id, _)| *id).collect();
        for id in served {
            self.events += 1;
            let done = {
                let work = self.works.get_mut(&id).unwrap();
                work.served = (self.events, self.now);
                work.waiting.is_empty()
            };
            if done {
                self.end(id);
            }
        }
        let tokens = batch.tokens;
        self.running.push((batch, tokens));
    }

    /// Every text is taken once, by a batch of its kind and within the limits.
    fn check_batch(&mut self, batch: &Batch, may_run: &BTreeMap<WorkId, Known>) {
        assert!(!batch.texts.is_empty());
        let mut lengths = Vec::new();
        for (id, place) in &batch.texts {
            assert!(may_run.contains_key(id), "neither cancelled, expired nor done");
            let work = self.works.get_mut(id).unwrap();
            assert!(work.waiting.remove(place), "no text is taken twice");
            let kind = (batch.model, batch.output, batch.class);
            assert_eq!((work.model, work.output, work.class), kind);
            lengths.push(work.lengths[*place]);
        }
        assert!(limits(batch.model).hold(&lengths), "{lengths:?}");
        assert_eq!(batch.tokens, lengths.iter().sum::<usize>());
    }

    fn check_order(&mut self, batch: &Batch, may_run: &BTreeMap<WorkId, Known>) {
        let kind = |work: &Known| (work.model, work.output, work.class);
        let lead = may_run
            .iter()
            .filter(|(_, work)| kind(work) == (batch.model, batch.output, batch.class))
            .min_by_key(|(_, work)| work.served.0)
            .map(|(id, _)| *id)
            .unwrap();
        assert!(batch.texts.iter().any(|(id, _)| *id == lead), "requests take turns");

        let urgent = may_run.values().map(|work| work.class).min().unwrap();
        let neglected = may_run
            .values()
            .filter(|work| work.class > urgent)
            .any(|work| work.served.1 + work.class.patience() <= self.now);
        let is_exception = batch.class > urgent;
        assert_eq!(
            is_exception,
            neglected && !self.exception,
            "who is neglected goes first, in turn"
        );
        self.exception = is_exception;
    }

    fn check_accounts(&self) {
        assert_eq!(self.queue.admitted(), self.admitted);
        for model in 0..MODELS {
            let of_model = self.works.values().filter(|work| work.model == model);
            let waiting: usize = of_model
                .flat_map(|work| work.waiting.iter().map(|place| work.lengths[*place]))
                .sum();
            let running = self.running.iter().filter(|(batch, _)| batch.model == model);
            let running: usize = running.map(|(_, tokens)| tokens).sum();
            assert_eq!(self.queue.tokens(model), waiting + running, "tokens of model {model}");
        }
    }

    /// Nothing more comes: all that was admitted ends, in a bounded number of batches.
    fn drain(&mut self) {
        let most = self.works.values().map(|work| work.waiting.len()).sum::<usize>();
        for _ in 0..=most {
            self.step(&Step::Take);
            while !self.running.is_empty() {
                self.finish(0);
            }
        }
        self.check_accounts();
        assert!(self.works.is_empty(), "{:?}", self.works);
        assert_eq!(self.queue.admitted(), 0);
        assert_eq!(self.waits(), [Duration::ZERO; 3]);
    }
}

proptest! {
    #[test]
    fn whatever_happens_works_are_computed_once_in_order_or_given_up(
        threads in 1..4_usize,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(threads);
        for step in &steps {
            world.step(step);
        }
        world.drain();
    }
}

fn submit(queue: &mut Queue, model: usize, class: Class, lengths: &[usize]) -> WorkId {
    let arrival = Arrival {
        model,
        output: Output::Vector,
        limits: limits(1),
        class,
        deadline: None,
        lengths,
    };
    queue.submit(&arrival, Duration::ZERO)
}

/// Takes and finishes a batch; the works in it.
fn run(queue: &mut Queue, now: Duration) -> Vec<WorkId> {
    let batch = queue.next(now).unwrap();
    queue.finish(batch.id, None);
    batch.texts.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_large_request_shares_every_batch_with_those_that_came_later() {
    let mut queue = Queue::new(1, LIMIT);
    let large = submit(&mut queue, 1, Class::Interactive, &[10; 100]);
    assert_eq!(run(&mut queue, Duration::ZERO), [large; 5]);
    let small = submit(&mut queue, 1, Class::Interactive, &[10]);
    assert!(run(&mut queue, Duration::ZERO).contains(&small), "beside the large one, not after it");
}

#[test]
fn a_model_with_many_requests_takes_turns_with_one_that_has_few() {
    let mut queue = Queue::new(1, LIMIT);
    for _ in 0..50 {
        submit(&mut queue, 1, Class::Interactive, &[30]);
    }
    run(&mut queue, Duration::ZERO);
    let other = submit(&mut queue, 2, Class::Interactive, &[30]);
    let first = run(&mut queue, Duration::ZERO);
    let second = run(&mut queue, Duration::ZERO);
    assert!(!first.contains(&other) && second == [other], "{first:?} {second:?}");
}

#[test]
fn bulk_work_waits_for_interactive_work_but_not_for_ever() {
    let mut queue = Queue::new(1, LIMIT);
    let bulk = submit(&mut queue, 1, Class::Bulk, &[60, 60]);
    for _ in 0..10 {
        submit(&mut queue, 1, Class::Interactive, &[60]);
    }
    let late = Class::Bulk.patience();
    let just_before = late.checked_sub(Duration::from_millis(1)).unwrap();
    assert_ne!(run(&mut queue, just_before), [bulk]);
    assert_eq!(run(&mut queue, late), [bulk]);
    assert_ne!(run(&mut queue, late * 2), [bulk], "not twice in a row");
    assert_eq!(run(&mut queue, late * 2), [bulk]);
}

#[test]
fn two_texts_and_two_idle_threads_are_two_batches() {
    let mut queue = Queue::new(2, LIMIT);
    submit(&mut queue, 1, Class::Interactive, &[10, 10]);
    let first = queue.next(Duration::ZERO).unwrap();
    let second = queue.next(Duration::ZERO).unwrap();
    assert_eq!((first.texts.len(), second.texts.len()), (1, 1));
    assert!(queue.next(Duration::ZERO).is_none());
    submit(&mut queue, 1, Class::Interactive, &[10, 10]);
    queue.finish(first.id, None);
    assert_eq!(queue.next(Duration::ZERO).unwrap().texts.len(), 2, "the other thread is busy");
}

#[test]
fn the_wait_is_what_is_as_urgent_over_all_threads() {
    let mut queue = Queue::new(2, LIMIT);
    submit(&mut queue, 1, Class::Interactive, &[10]);
    assert_eq!(queue.wait(Class::Interactive), Duration::ZERO, "nothing has been measured yet");
    let batch = queue.next(Duration::ZERO).unwrap();
    queue.finish(batch.id, Some(Duration::from_secs(1)));
    submit(&mut queue, 1, Class::Interactive, &[40]);
    submit(&mut queue, 1, Class::Bulk, &[60]);
    assert_eq!(queue.wait(Class::Interactive), Duration::from_secs(2));
    assert_eq!(queue.wait(Class::Bulk), Duration::from_secs(5));
    queue.next(Duration::ZERO).unwrap();
    assert_eq!(queue.wait(Class::Interactive), Duration::from_secs(2), "what runs is not done yet");
}

#[test]
fn what_is_over_at_this_moment_is_over() {
    let mut queue = Queue::new(1, LIMIT);
    let deadline = Duration::from_secs(1);
    let arrival = Arrival {
        model: 1,
        output: Output::Vector,
        limits: limits(1),
        class: Class::Interactive,
        deadline: Some(deadline),
        lengths: &[10],
    };
    let id = queue.submit(&arrival, Duration::ZERO);
    let before = deadline.checked_sub(Duration::from_nanos(1)).unwrap();
    assert_eq!(queue.expire(before), []);
    assert_eq!(queue.expire(deadline), [id]);
    assert!(queue.next(deadline).is_none());
}
