use super::*;
use crate::cpu::encoder_fixture::{LARGE, POSITIONS, encoder, text};
use crate::cpu::kernel::Kernel;

fn cores(count: usize) -> Cores {
    Cores::new(NonZeroUsize::new(count).unwrap()).unwrap()
}

/// A run with so many members, however busy the machine is.
fn together(
    team: &Cores,
    encoder: &Arc<Encoder>,
    batch: &[Tokens],
    wanted: Wanted,
    members: usize,
) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let mut scratch = Scratch::default();
        if let Some(share) = team.0.0.call(encoder, batch, wanted) {
            encoder.forward(batch, wanted, &mut scratch, &share).unwrap();
            if share.members == members {
                return bits(scratch.tokens());
            }
        }
        assert!(Instant::now() < deadline, "{members} never came together");
    }
}

fn alone(encoder: &Arc<Encoder>, batch: &[Tokens], wanted: Wanted) -> Vec<u32> {
    let mut scratch = Scratch::default();
    Cores::one().run(encoder, batch, wanted, &mut scratch).unwrap();
    bits(scratch.tokens())
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn several_cores_compute_what_one_does_to_the_last_bit() {
    for kernel in Kernel::available() {
        // Heads that fill panels, heads of which several do, and heads that nothing parts.
        for (hidden, heads, inner) in [(128, 4, 200), (64, 8, 33), (48, 3, 100), (36, 6, 20), LARGE]
        {
            let encoder = Arc::new(encoder(hidden, heads, inner, kernel));
            for members in [2, 3] {
                let team = cores(members);
                let lengths = [vec![1], vec![40], vec![7, 13, 2], vec![POSITIONS]];
                for lengths in lengths.into_iter().skip(if hidden < LARGE.0 { 0 } else { 3 }) {
                    let batch: Vec<Tokens> =
                        lengths.iter().zip(0..).map(|(length, seed)| text(*length, seed)).collect();
                    for wanted in [Wanted::Every, Wanted::First, Wanted::Last] {
                        let expected = alone(&encoder, &batch, wanted);
                        let found = together(&team, &encoder, &batch, wanted, members);
                        let of = format!("{kernel} {hidden}/{heads} {members} {lengths:?}");
                        assert_eq!(found, expected, "{of} {wanted:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn each_thing_is_in_one_part_and_what_belongs_together_is_not_parted() {
    let team = Team::new(6);
    for members in 1..=7 {
        for count in [0, 1, 15, 16, 17, 100, 1536] {
            for unit in [1, 2, 16, 48] {
                let parts: Vec<_> = (0..members)
                    .map(|rank| Share::of(&team, rank, members).part(count, unit))
                    .collect();
                assert_eq!((parts[0].start, parts[members - 1].end), (0, count));
                for pair in parts.windows(2) {
                    assert_eq!(pair[0].end, pair[1].start);
                    assert!(pair[0].end % unit == 0 || pair[0].end == count, "{parts:?}");
                }
            }
        }
    }
}

#[test]
fn a_run_beside_another_stays_on_its_core() {
    let encoder = Arc::new(encoder(32, 2, 64, Kernel::fastest()));
    let team = cores(2);
    let batch = [text(9, 1)];
    let other = Running::begin(&team.0.0);
    assert!(other.is_alone);
    let mut scratch = Scratch::default();
    for _ in 0..20 {
        team.run(&encoder, &batch, Wanted::Every, &mut scratch).unwrap();
    }
    assert_eq!(team.0.0.lock().number, 0, "nobody was called");
    assert_eq!(bits(scratch.tokens()), alone(&encoder, &batch, Wanted::Every));
    drop(other);
    team.run(&encoder, &batch, Wanted::Every, &mut scratch).unwrap();
    assert_eq!(team.0.0.lock().number, 1, "and now somebody is");
}

#[test]
fn nobody_is_called_for_a_while_where_members_waited_and_longer_each_time() {
    let team = Team::new(1);
    let rests = || {
        let rests = (0..1000).take_while(|_| !team.is_rested()).count();
        assert!(team.is_rested(), "it stays so");
        rests
    };
    assert_eq!(rests(), 0);
    for expected in [1, 3, 7, 15, 31, 63, 64, 64] {
        team.waited.store(true, Ordering::Relaxed);
        team.learn(true);
        assert_eq!(rests(), expected);
    }
    team.waited.store(false, Ordering::Relaxed);
    team.learn(true);
    assert_eq!(rests(), 0);
    team.learn(false);
    assert_eq!(rests(), 1, "nobody came, or a member was lost");
    assert!(!Team::new(0).is_rested(), "there is nobody");
}

#[test]
fn helpers_leave_a_run_whose_caller_panics_and_come_to_the_next() {
    let encoder = Arc::new(encoder(32, 2, 64, Kernel::fastest()));
    let (owner, batch) = (cores(2), [text(9, 1)]);
    let team = &owner.0.0;
    let soon = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + KEPT / 3;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::yield_now();
        }
    };
    soon("a helper comes", &|| {
        let Some(_share) = team.call(&encoder, &batch, Wanted::Every) else { return false };
        let led = AssertUnwindSafe(|| team.lead(|| panic!("on purpose")));
        assert!(catch_unwind(led).is_err());
        true
    });
    soon("the helper leaves", &|| team.inside.load(Ordering::Acquire) == 0);
    assert_eq!(
        together(&owner, &encoder, &batch, Wanted::Every, 2),
        alone(&encoder, &batch, Wanted::Every)
    );
}

#[test]
fn a_team_that_has_not_left_its_last_run_is_no_slow_one() {
    let encoder = Arc::new(encoder(32, 2, 64, Kernel::fastest()));
    let team = Team::new(1);
    team.inside.store(1, Ordering::Relaxed);
    assert!(team.call(&encoder, &[text(3, 1)], Wanted::Every).is_none());
    assert!(team.is_rested());
    team.inside.store(0, Ordering::Relaxed);
    assert!(team.call(&encoder, &[text(3, 1)], Wanted::Every).is_none(), "nobody comes");
    assert!(!team.is_rested());
}

#[test]
fn a_member_that_is_lost_ends_the_others_wait() {
    let team = Team::new(1);
    let waits = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            Share::of(&team, 0, 2).fill(&mut [0.0; 4], 4, 1, |columns, out, _| {
                out.fill(f32::from(u16::try_from(columns.len()).unwrap()));
            })
        });
        team.lost.store(true, Ordering::Release);
        waiting.join().unwrap()
    });
    assert_eq!(waits, None);
}

#[test]
fn a_run_that_the_helpers_do_not_survive_is_made_on_one_core() {
    let encoder = Arc::new(encoder(64, 4, 64, Kernel::fastest()));
    let team = cores(2);
    let batch = [text(9, 1)];
    // Whoever comes has no answer either.
    let strange = [Tokens::of(vec![u32::MAX])];
    assert_eq!(team.run(&encoder, &strange, Wanted::Every, &mut Scratch::default()), None);
    for _ in 0..50 {
        let mut scratch = Scratch::default();
        team.run(&encoder, &batch, Wanted::Every, &mut scratch).unwrap();
        assert_eq!(bits(scratch.tokens()), alone(&encoder, &batch, Wanted::Every));
    }
}

#[test]
fn the_helpers_end_with_the_last_of_the_cores() {
    let team = cores(3);
    let held = Arc::downgrade(&team.0.0);
    let clone = team.clone();
    drop(team);
    assert!(held.strong_count() > 1, "they are still needed");
    drop(clone);
    let deadline = Instant::now() + Duration::from_secs(10);
    while held.strong_count() > 0 {
        assert!(Instant::now() < deadline, "{} threads are left", held.strong_count());
        thread::yield_now();
    }
}
