//! Which of the texts of a batch is to blame when it fails.

use lamplighter_engine::EngineError;

/// Why a text has no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The text's own: the engine named it, in an error whose index counts its batch.
    Text(EngineError),
    /// The text's own: alone, too, it gives a number that is not finite.
    NonFinite,
    /// The model does not have the output.
    NoSuchOutput,
    /// Another number of outputs than texts.
    Miscounted { texts: usize, outputs: usize },
    /// The engine panicked.
    Panicked(String),
    /// The engine failed, and no text is to blame.
    Failed(String),
}

/// What one run came to.
pub(crate) enum Ran {
    /// An output for each text, or an error.
    Ended(Result<Vec<Vec<f32>>, EngineError>),
    /// A panic, in words.
    Panicked(String),
}

impl Fault {
    /// Whether it says something of the model or its device, rather than of what was asked.
    pub(crate) fn is_the_models(&self) -> bool {
        matches!(self, Self::NonFinite | Self::Panicked(_) | Self::Failed(_))
    }
}

/// The outcome of each of a number of texts; `run` runs those at these places.
///
/// When a run fails, its texts run again in two halves, without the one that the engine names, until
/// those that fail alone are found. So a text costs others time but not their answers, however many
/// there are like it: of all runs together, each text is in at most log₂ of the batch's texts and two.
/// Only after a panic nothing is tried again.
pub(crate) fn judge(
    texts: usize,
    mut run: impl FnMut(&[usize]) -> Ran,
) -> Vec<Result<Vec<f32>, Fault>> {
    let unasked = || Err(Fault::Failed("a bug: it was not asked".to_owned()));
    let mut outcomes: Vec<Result<Vec<f32>, Fault>> = (0..texts).map(|_| unasked()).collect();
    let mut groups: Vec<Vec<usize>> = vec![(0..texts).collect()];
    while let Some(mut group) = groups.pop() {
        if group.is_empty() {
            continue;
        }
        match verdict(run(&group), group.len()) {
            Verdict::Answered(outputs) => {
                for (at, output) in group.into_iter().zip(outputs) {
                    set(&mut outcomes, at, Ok(output));
                }
            }
            Verdict::Blamed(place, fault) => {
                set(&mut outcomes, group.remove(place), Err(fault));
                groups.extend(halves(group));
            }
            Verdict::Unclear => groups.extend(halves(group)),
            Verdict::Lost(fault) => {
                for at in group {
                    set(&mut outcomes, at, Err(fault()));
                }
            }
        }
    }
    outcomes
}

/// The second half stands first: the last group is taken next.
fn halves(mut group: Vec<usize>) -> [Vec<usize>; 2] {
    let second = group.split_off(group.len().div_ceil(2));
    [second, group]
}

fn set(outcomes: &mut [Result<Vec<f32>, Fault>], at: usize, outcome: Result<Vec<f32>, Fault>) {
    if let Some(place) = outcomes.get_mut(at) {
        *place = outcome;
    }
}

enum Verdict {
    Answered(Vec<Vec<f32>>),
    /// The text at this place of the run, and no other.
    Blamed(usize, Fault),
    /// Some of the texts.
    Unclear,
    /// All of them, whichever they are.
    Lost(Box<dyn Fn() -> Fault>),
}

fn verdict(ran: Ran, texts: usize) -> Verdict {
    let error = match ran {
        Ran::Ended(Ok(outputs)) if outputs.len() != texts => {
            let outputs = outputs.len();
            return Verdict::Lost(Box::new(move || Fault::Miscounted { texts, outputs }));
        }
        Ran::Ended(Ok(outputs)) if outputs.iter().flatten().all(|number| number.is_finite()) => {
            return Verdict::Answered(outputs);
        }
        Ran::Ended(Ok(_)) => return non_finite(texts),
        Ran::Ended(Err(error)) => error,
        Ran::Panicked(words) => {
            return Verdict::Lost(Box::new(move || Fault::Panicked(words.clone())));
        }
    };
    match error {
        // Which text it names is the first that was seen, not the one that spoilt the others.
        EngineError::OutputNonFinite { .. } => non_finite(texts),
        EngineError::TooLong { index, .. } | EngineError::Untokenizable { index, .. }
            if index < texts =>
        {
            Verdict::Blamed(index, Fault::Text(error))
        }
        EngineError::NoSuchOutput { .. } => Verdict::Lost(Box::new(|| Fault::NoSuchOutput)),
        error if texts == 1 => Verdict::Blamed(0, Fault::Failed(error.to_string())),
        _ => Verdict::Unclear,
    }
}

fn non_finite(texts: usize) -> Verdict {
    if texts == 1 { Verdict::Blamed(0, Fault::NonFinite) } else { Verdict::Unclear }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a text does to a run that it is in.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Habit {
        Good,
        /// Gives NaN itself.
        Nan,
        /// Makes everything NaN.
        Spoils,
        Named,
        Fails,
    }

    fn run(habits: &[Habit], group: &[usize]) -> Ran {
        let has = |habit| group.iter().position(|at| habits[*at] == habit);
        if let Some(index) = has(Habit::Named) {
            let problem = "it has no token".to_owned();
            return Ran::Ended(Err(EngineError::Untokenizable { index, problem }));
        }
        if has(Habit::Fails).is_some() {
            return Ran::Ended(Err(EngineError::Run { source: "out of range".into() }));
        }
        let spoilt = has(Habit::Spoils).is_some();
        let output = |at: &usize| {
            let number = f32::from(u16::try_from(*at).unwrap());
            let is_nan = spoilt || habits[*at] == Habit::Nan;
            vec![1.0, if is_nan { f32::NAN } else { number }]
        };
        Ran::Ended(Ok(group.iter().map(output).collect()))
    }

    fn habit() -> impl Strategy<Value = Habit> {
        use Habit::{Fails, Good, Named, Nan, Spoils};
        prop_oneof![20 => Just(Good), 1 => Just(Nan), 1 => Just(Spoils), 1 => Just(Named), 1 => Just(Fails)]
    }

    fn often_bad() -> impl Strategy<Value = Habit> {
        use Habit::{Fails, Good, Named, Nan, Spoils};
        prop_oneof![3 => Just(Good), 1 => Just(Nan), 1 => Just(Spoils), 1 => Just(Named), 1 => Just(Fails)]
    }

    proptest! {
        #[test]
        fn nobody_pays_for_another_and_no_batch_runs_for_ever(
            habits in prop_oneof![
                prop::collection::vec(habit(), 0..40),
                prop::collection::vec(often_bad(), 0..300),
            ],
        ) {
            let mut runs = vec![0; habits.len()];
            let outcomes = judge(habits.len(), |group| {
                for at in group {
                    runs[*at] += 1;
                }
                run(&habits, group)
            });
            prop_assert_eq!(outcomes.len(), habits.len());
            let most = habits.len().max(1).ilog2() + 2;
            prop_assert!(runs.iter().all(|runs| (1..=most).contains(runs)), "{:?}", runs);
            for (at, (habit, outcome)) in habits.iter().zip(&outcomes).enumerate() {
                let number = f32::from(u16::try_from(at).unwrap());
                let is_right = match (habit, outcome) {
                    (Habit::Good, Ok(output)) => *output == vec![1.0, number],
                    (Habit::Nan | Habit::Spoils, Err(Fault::NonFinite))
                    | (Habit::Named, Err(Fault::Text(_)))
                    | (Habit::Fails, Err(Fault::Failed(_))) => true,
                    _ => false,
                };
                prop_assert!(is_right, "{habit:?} got {outcome:?}");
            }
        }
    }

    #[test]
    fn one_text_among_a_full_batch_is_found_in_few_runs() {
        for bad in [Habit::Nan, Habit::Spoils, Habit::Fails, Habit::Named] {
            for at in 0..32 {
                let mut habits = vec![Habit::Good; 32];
                habits[at] = bad;
                let mut runs = 0;
                let outcomes = judge(32, |group| {
                    runs += 1;
                    run(&habits, group)
                });
                let failed: Vec<usize> = (0..32).filter(|at| outcomes[*at].is_err()).collect();
                assert_eq!(failed, [at], "{bad:?}");
                assert!(runs <= 11, "{bad:?}: {runs} runs");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_all_is_not_tried_again() {
        let mut runs = 0;
        let outcomes = judge(3, |_| {
            runs += 1;
            Ran::Panicked("told to".to_owned())
        });
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Fault::Panicked(_)))));
        let outcomes = judge(3, |_| {
            runs += 1;
            Ran::Ended(Ok(vec![vec![1.0]; 2]))
        });
        let miscounted = |outcome: &Result<_, _>| {
            matches!(outcome, Err(Fault::Miscounted { texts: 3, outputs: 2 }))
        };
        assert!(outcomes.iter().all(miscounted));
        let output = lamplighter_engine::Output::Scores;
        let outcomes = judge(3, |_| {
            runs += 1;
            Ran::Ended(Err(EngineError::NoSuchOutput { output }))
        });
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Fault::NoSuchOutput))));
        assert_eq!(runs, 3);
    }
}
