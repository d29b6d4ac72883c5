//! Work of a load on threads that may block.

use lamplighter_engine::EngineError;
use lamplighter_protocol::{Failure, Phase};

use crate::failure;
use crate::memory::Reserved;

/// Does a phase's work. What it takes of the worker's memory goes with it and comes back with what it
/// made: who waits may give up, and the thread goes on none the less.
pub(super) async fn holding<T: Send + 'static>(
    reserved: Reserved,
    phase: Phase,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<(T, Reserved), Failure> {
    tokio::task::spawn_blocking(move || work().map(|made| (made, reserved)))
        .await
        .map_err(|lost| failure::of_lost_task(&lost))?
        .map_err(|error| failure::of_engine(&error, phase))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::memory::Room;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn memory_of_a_load_that_was_given_up_is_free_when_its_thread_is_done_and_not_before() {
        let room = Arc::new(Room::new(Some(100 << 20)));
        let reserved = room.reserve(60 << 20, 0).unwrap();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let reading = tokio::spawn(holding(reserved, Phase::Read, move || {
            begun.send(()).unwrap();
            released.recv_timeout(DEADLINE).unwrap();
            Ok(())
        }));
        begins.await.unwrap();
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled());
        assert!(room.reserve(60 << 20, 0).is_err(), "the thread reads on");
        release.send(()).unwrap();
        let freed = async {
            while room.reserve(60 << 20, 0).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, freed).await.expect("its memory is given back");
    }

    #[tokio::test]
    async fn work_gives_its_memory_back_with_what_it_made_or_by_itself_when_it_failed() {
        let room = Arc::new(Room::new(Some(100 << 20)));
        let reserved = room.reserve(60 << 20, 0).unwrap();
        let (made, reserved) = holding(reserved, Phase::Build, || Ok(7)).await.unwrap();
        assert_eq!(made, 7);
        assert!(room.reserve(60 << 20, 0).is_err());
        let fails = || Err(EngineError::Run { source: "out of range".into() });
        holding::<()>(reserved, Phase::WarmUp, fails).await.unwrap_err();
        room.reserve(60 << 20, 0).unwrap();
    }
}
