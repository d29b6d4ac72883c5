//! Leader election by a Lease: of several operators exactly one works.
//!
//! The rules are those of client-go's leader election
//! (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>): a candidate takes a Lease over
//! only after it has itself seen the same record for the whole lease duration, so the clocks
//! of two machines are never compared; every write carries the `resourceVersion` that was
//! read, so of two writers one gets a conflict; and a leader that cannot renew in time stops
//! before anybody else may begin.

mod keep;
mod step;

pub use keep::*;
pub use step::*;
