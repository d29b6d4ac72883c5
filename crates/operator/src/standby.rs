//! Waiting to lead with open eyes: the watches run and the caches are filled, nothing is reconciled.
//! A replica that takes over then acts at once, and whether it is ready says the same of a replica
//! that leads and of one that waits. controller-runtime does the same:
//! <https://github.com/kubernetes-sigs/controller-runtime/blob/main/pkg/manager/internal.go>.

use std::collections::HashSet;
use std::pin::pin;

use futures::{StreamExt, stream};
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use lamplighter_api::ModelDeployment;

use crate::caches::Queue;

/// The queue of a replica that does not lead yet.
pub struct Standby {
    queue: Queue,
    /// Whom the queue has named. Every object is named when its watch begins, so all of them are
    /// here. Not taken from the cache at the end: it may be in the middle of being filled anew.
    /// Names of deleted objects stay; they cost a few hundred bytes each until this replica leads.
    named: HashSet<ObjectRef<ModelDeployment>>,
}

impl Standby {
    /// Nothing is polled yet.
    pub fn new(queue: Queue) -> Self {
        Self { queue, named: HashSet::new() }
    }

    /// Keeps the watches going until `wanted` is there.
    pub async fn until<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        loop {
            tokio::select! {
                biased;
                outcome = &mut wanted => return outcome,
                next = self.queue.next() => match next {
                    Some(Ok(request)) => drop(self.named.insert(request.obj_ref)),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a watch broke off and is started again");
                    }
                    // Watches never end; if they all did, readiness and the controller say so.
                    None => return wanted.await,
                },
            }
        }
    }

    /// The queue of a replica that leads: everybody who was named, then whoever the watches name.
    pub fn lead(self) -> Queue {
        let Self { mut queue, named } = self;
        queue.push(stream::iter(named).map(ReconcileRequest::from).map(Ok).boxed());
        queue
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::FutureExt;
    use kube::runtime::watcher;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    fn request(name: &str) -> ReconcileRequest<ModelDeployment> {
        ObjectRef::<ModelDeployment>::new(name).within("library").into()
    }

    #[tokio::test]
    async fn whoever_was_named_while_it_waited_is_reconciled_once_it_leads() {
        let (send, mut receive) = mpsc::unbounded_channel();
        let mut queue = Queue::new();
        queue.push(stream::poll_fn(move |context| receive.poll_recv(context)).boxed());
        let mut standby = Standby::new(queue);

        let (elect, elected) = oneshot::channel();
        for name in ["a", "b", "a"] {
            send.send(Ok(request(name))).unwrap();
        }
        send.send(Err(watcher::Error::NoResourceVersion)).unwrap();
        {
            let mut waiting = pin!(standby.until(elected));
            assert!((&mut waiting).now_or_never().is_none(), "it polls, and goes on waiting");
            elect.send(7).unwrap();
            assert_eq!(waiting.await, Ok(7));
        }

        send.send(Ok(request("c"))).unwrap();
        let mut queue = standby.lead();
        let mut named = Vec::new();
        for _ in 0..3 {
            named.push(queue.next().await.unwrap().unwrap().obj_ref.name);
        }
        assert!(queue.next().now_or_never().is_none(), "each once, and the watches go on");
        assert_eq!(BTreeSet::from_iter(named), ["a", "b", "c"].map(str::to_owned).into());
    }
}
