//! Whether a model can do what it is listed for.

use lamplighter_engine::Gives;
use lamplighter_protocol::{Failure, Reason, Task};

/// What a model of this kind is used for, if nobody says it.
pub(crate) fn of(gives: &Gives) -> Task {
    match gives {
        Gives::Vectors { .. } => Task::Embedding,
        Gives::Scores { labels, .. } if labels.len() == 1 => Task::Rerank,
        Gives::Scores { .. } => Task::Classification,
    }
}

/// A score for one label may be how well two texts go together, or how much of something there is
/// in one: which of the two, only the task says.
pub(crate) fn check(task: Task, architecture: &str, gives: &Gives) -> Result<(), Failure> {
    let expected = match (task, gives) {
        (Task::Embedding, Gives::Vectors { .. }) | (Task::Classification, Gives::Scores { .. }) => {
            return Ok(());
        }
        (Task::Rerank, Gives::Scores { labels, .. }) if labels.len() == 1 => return Ok(()),
        (Task::Embedding, Gives::Scores { .. }) => "a model that gives vectors",
        (Task::Rerank, _) => "a model with a head for one score",
        (Task::Classification, Gives::Vectors { .. }) => "a model with a head for scores",
    };
    let found = match gives {
        Gives::Vectors { dimensions, .. } => {
            format!("{architecture}, which gives vectors of {dimensions} dimensions")
        }
        Gives::Scores { labels, .. } => {
            format!("{architecture}, which gives scores for {} labels", labels.len())
        }
    };
    let message = format!(
        "the task {task} needs {expected}, this is {found}; set the task {}, or serve another \
         artifact",
        of(gives),
    );
    Err(Failure {
        expected: Some(expected.to_owned()),
        found: Some(found),
        ..Failure::new(Reason::TaskMismatch, message)
    })
}

#[cfg(test)]
mod tests {
    use lamplighter_engine::{Pooling, Scale};

    use super::*;

    fn scores(labels: usize) -> Gives {
        Gives::Scores { labels: vec!["a".to_owned(); labels], scale: Scale::Raw }
    }

    #[test]
    fn a_model_does_what_it_gives() {
        let vectors = Gives::Vectors {
            dimensions: 384,
            pooling: Pooling::Mean,
            normalized: true,
            matryoshka: Vec::new(),
        };
        let (embedding, rerank, classes) = (Task::Embedding, Task::Rerank, Task::Classification);
        for (gives, fitting) in
            [(vectors, &[embedding][..]), (scores(1), &[rerank, classes]), (scores(3), &[classes])]
        {
            for task in [embedding, rerank, classes] {
                let checked = check(task, "BertModel", &gives);
                assert_eq!(checked.is_ok(), fitting.contains(&task), "{task} {gives:?}");
                if let Err(failure) = checked {
                    assert_eq!(failure.reason, Reason::TaskMismatch);
                    assert!(failure.message.contains("BertModel"), "{failure}");
                }
            }
            assert!(check(of(&gives), "BertModel", &gives).is_ok(), "{gives:?}");
        }
    }
}
