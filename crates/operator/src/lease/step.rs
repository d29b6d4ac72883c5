//! The decision: what to do about a Lease, given what was seen of it and when.
//!
//! Times are durations since some instant of the own process; no clock is read here.

use std::time::Duration;

/// How long what may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Without renewal for this long, others take over.
    pub lease_duration: Duration,
    /// Without a successful renewal for this long, the leader stops.
    pub renew_deadline: Duration,
    /// Time between two attempts.
    pub retry_period: Duration,
}

/// Why a [`Timing`] cannot work.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TimingError {
    /// A leader would outlive its lease.
    #[error(
        "--renew-deadline-seconds must be less than --lease-duration-seconds, or two replicas could lead"
    )]
    DeadlineNotBelowDuration,
    /// A leader would have no second attempt.
    #[error(
        "--retry-period-seconds must be less than --renew-deadline-seconds, or one slow answer ends leadership"
    )]
    RetryNotBelowDeadline,
}

/// Who holds a Lease, as it stands in the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// The holder's identity; empty when it was released.
    pub identity: String,
    /// For how long after a renewal others must wait; the holder's own promise.
    pub duration: Duration,
    /// How often the holder has changed.
    pub transitions: i32,
    /// The resourceVersion: changes with every renewal, and guards the next write.
    pub version: String,
}

/// A Lease in a state, and when this process first saw it in that state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The state.
    pub holder: Holder,
    /// When it was first seen.
    pub since: Duration,
}

/// All that is known about the Lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observed {
    /// There is none.
    Absent,
    /// There is one.
    Present(Seen),
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LeaseStep {
    /// Create the Lease; somebody else may be faster.
    Create,
    /// Renew the own Lease.
    Renew {
        /// The resourceVersion that the write must carry.
        version: String,
        /// Unchanged.
        transitions: i32,
    },
    /// Take a Lease that was released or has run out.
    TakeOver {
        /// The resourceVersion that the write must carry.
        version: String,
        /// One more than before.
        transitions: i32,
    },
    /// Another replica leads; look again after this time.
    Wait(Duration),
}

/// What `me` does at `now` about what it has observed.
pub fn next(observed: &Observed, me: &str, now: Duration, timing: &Timing) -> LeaseStep {
    let Observed::Present(Seen { holder, since }) = observed else {
        return LeaseStep::Create;
    };
    let version = holder.version.clone();
    if holder.identity == me {
        return LeaseStep::Renew { version, transitions: holder.transitions };
    }
    let age = now.saturating_sub(*since);
    if holder.identity.is_empty() || age >= holder.duration {
        let transitions = holder.transitions.saturating_add(1);
        return LeaseStep::TakeOver { version, transitions };
    }
    LeaseStep::Wait(timing.retry_period.min(holder.duration.saturating_sub(age)))
}

/// Whether a leader must stop at `now`. `renewed` is when its last successful write was *begun*:
/// others count from when they see it, which is never earlier.
pub fn is_expired(renewed: Duration, now: Duration, timing: &Timing) -> bool {
    now.saturating_sub(renewed) >= timing.renew_deadline
}

// === impl Timing ===

impl Timing {
    /// Refuses durations with which two replicas could lead.
    pub fn check(&self) -> Result<(), TimingError> {
        if self.renew_deadline >= self.lease_duration {
            Err(TimingError::DeadlineNotBelowDuration)
        } else if self.retry_period >= self.renew_deadline {
            Err(TimingError::RetryNotBelowDeadline)
        } else {
            Ok(())
        }
    }
}

// === impl Observed ===

impl Observed {
    /// What is known after reading `holder` at `now`: an unchanged Lease keeps its age.
    #[must_use]
    pub fn after_read(self, holder: Option<Holder>, now: Duration) -> Self {
        let Some(holder) = holder else { return Self::Absent };
        match self {
            Self::Present(seen) if seen.holder == holder => Self::Present(seen),
            Self::Present(_) | Self::Absent => Self::Present(Seen { holder, since: now }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing = Timing {
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };

    fn held_by(identity: &str, since: u64) -> Observed {
        let holder = Holder {
            identity: identity.to_owned(),
            duration: TIMING.lease_duration,
            transitions: 4,
            version: "77".to_owned(),
        };
        Observed::Present(Seen { holder, since: Duration::from_secs(since) })
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn an_absent_lease_is_created() {
        assert_eq!(next(&Observed::Absent, "me", at(0), &TIMING), LeaseStep::Create);
    }

    #[test]
    fn the_own_lease_is_renewed_without_a_transition() {
        let expected = LeaseStep::Renew { version: "77".to_owned(), transitions: 4 };
        assert_eq!(next(&held_by("me", 0), "me", at(99), &TIMING), expected);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let expected = LeaseStep::TakeOver { version: "77".to_owned(), transitions: 5 };
        assert_eq!(next(&held_by("", 0), "me", at(0), &TIMING), expected);
    }

    #[test]
    fn a_foreign_lease_is_taken_exactly_when_it_was_unchanged_for_its_duration() {
        let seen = held_by("other", 100);
        assert_eq!(next(&seen, "me", at(100), &TIMING), LeaseStep::Wait(at(2)));
        assert_eq!(next(&seen, "me", at(114), &TIMING), LeaseStep::Wait(at(1)));
        let expected = LeaseStep::TakeOver { version: "77".to_owned(), transitions: 5 };
        assert_eq!(next(&seen, "me", at(115), &TIMING), expected);
    }

    #[test]
    fn a_renewal_by_the_other_starts_the_wait_anew() {
        let Observed::Present(Seen { holder, .. }) = held_by("other", 100) else { unreachable!() };
        let unchanged = held_by("other", 100).after_read(Some(holder.clone()), at(110));
        assert_eq!(unchanged, held_by("other", 100));
        let renewed = Holder { version: "78".to_owned(), ..holder };
        let Observed::Present(seen) = held_by("other", 100).after_read(Some(renewed), at(110))
        else {
            panic!("the lease is there");
        };
        assert_eq!(seen.since, at(110));
    }

    #[test]
    fn durations_with_which_two_could_lead_are_refused() {
        let twisted = Timing { renew_deadline: TIMING.lease_duration, ..TIMING };
        assert_eq!(twisted.check(), Err(TimingError::DeadlineNotBelowDuration));
        let hasty = Timing { retry_period: TIMING.renew_deadline, ..TIMING };
        assert_eq!(hasty.check(), Err(TimingError::RetryNotBelowDeadline));
    }

    /// A replica with a clock of its own: it starts anywhere and runs up to 15 % wrong.
    struct Replica {
        identity: &'static str,
        observed: Observed,
        renewed: Option<Duration>,
        rate_percent: u32,
        offset: Duration,
        writing: Option<Write>,
    }

    /// A write under way: decided on an old view, arriving later, or never.
    struct Write {
        expected: Option<String>,
        transitions: i32,
        begun: Duration,
    }

    struct World {
        /// Milliseconds of true time.
        clock: u64,
        lease: Option<Holder>,
        version: u64,
        replicas: Vec<Replica>,
    }

    #[derive(Clone, Debug)]
    enum Event {
        Pass(u16),
        Read(usize),
        Arrive(usize),
        Lose(usize),
        Release(usize),
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..4_000_u16).prop_map(Event::Pass),
            4 => (0..2_usize).prop_map(Event::Read),
            4 => (0..2_usize).prop_map(Event::Arrive),
            1 => (0..2_usize).prop_map(Event::Lose),
            1 => (0..2_usize).prop_map(Event::Release),
        ]
    }

    impl Replica {
        fn now(&self, clock: u64) -> Duration {
            self.offset + Duration::from_millis(clock * u64::from(self.rate_percent) / 100)
        }

        fn leads(&self, clock: u64) -> bool {
            self.renewed.is_some_and(|renewed| !is_expired(renewed, self.now(clock), &TIMING))
        }
    }

    impl World {
        fn step(&mut self, event: &Event) {
            match *event {
                Event::Pass(millis) => self.clock += u64::from(millis),
                Event::Read(which) => self.read(which),
                Event::Arrive(which) => self.arrive(which),
                Event::Lose(which) => self.replicas[which].writing = None,
                Event::Release(which) => self.release(which),
            }
        }

        fn read(&mut self, which: usize) {
            let replica = &mut self.replicas[which];
            let now = replica.now(self.clock);
            let observed = std::mem::replace(&mut replica.observed, Observed::Absent);
            replica.observed = observed.after_read(self.lease.clone(), now);
            let write = |expected, transitions| Some(Write { expected, transitions, begun: now });
            match next(&replica.observed, replica.identity, now, &TIMING) {
                LeaseStep::Create => replica.writing = write(None, 0),
                LeaseStep::Renew { version, transitions }
                | LeaseStep::TakeOver { version, transitions } => {
                    replica.writing = write(Some(version), transitions);
                }
                LeaseStep::Wait(_) => {}
            }
        }

        fn arrive(&mut self, which: usize) {
            let Some(write) = self.replicas[which].writing.take() else { return };
            if self.lease.as_ref().map(|holder| holder.version.clone()) != write.expected {
                return;
            }
            self.version += 1;
            let holder = Holder {
                identity: self.replicas[which].identity.to_owned(),
                duration: TIMING.lease_duration,
                transitions: write.transitions,
                version: self.version.to_string(),
            };
            self.lease = Some(holder.clone());
            let replica = &mut self.replicas[which];
            replica.renewed = Some(write.begun);
            replica.observed = Observed::Present(Seen { holder, since: write.begun });
        }

        /// An orderly end: first it stops leading, then the Lease says so.
        fn release(&mut self, which: usize) {
            let identity = self.replicas[which].identity;
            self.replicas[which].renewed = None;
            self.replicas[which].writing = None;
            if let Some(holder) = self.lease.as_mut().filter(|holder| holder.identity == identity) {
                self.version += 1;
                holder.identity.clear();
                holder.version = self.version.to_string();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        /// Guarantees: operator-02.
        #[test]
        fn never_do_two_replicas_lead_however_their_clocks_run(
            rates in (85..=115_u32, 85..=115_u32),
            offsets in (0..1_000_000_u64, 0..1_000_000_u64),
            history in vec(events(), 0..120),
        ) {
            let replica = |identity, rate_percent, offset| Replica {
                identity,
                observed: Observed::Absent,
                renewed: None,
                rate_percent,
                offset: Duration::from_millis(offset),
                writing: None,
            };
            let mut world = World {
                clock: 0,
                lease: None,
                version: 0,
                replicas: vec![
                    replica("a", rates.0, offsets.0),
                    replica("b", rates.1, offsets.1),
                ],
            };
            for event in &history {
                world.step(event);
                let leaders = world.replicas.iter().filter(|one| one.leads(world.clock)).count();
                prop_assert!(leaders <= 1, "two leaders after {:?}", event);
            }
            // One that keeps trying leads at the latest when the other's lease has run out.
            for _ in 0..20 {
                for event in [Event::Pass(1000), Event::Read(0), Event::Arrive(0)] {
                    world.step(&event);
                }
            }
            prop_assert!(world.replicas[0].leads(world.clock), "nobody leads");
            prop_assert!(!world.replicas[1].leads(world.clock), "two leaders in the end");
        }
    }
}
