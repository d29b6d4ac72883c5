//! Leader election by a Lease: of several operators exactly one works. The rules are those of
//! client-go's leader election (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>).
//!
//! # Guarantee
//!
//! At most one replica leads at any time, as long as clocks do not run apart by more than the
//! ratio of lease duration and renew deadline (15 s and 10 s by default). They may show any time:
//! no timestamp of another replica is ever compared with the own clock. A replica takes over only
//! what it has itself seen unchanged for the whole lease duration, and every write carries the
//! resourceVersion that the decision was made on, so of two that try one is refused. A merge
//! patch without that precondition would let both win.
//!
//! # Caveat
//!
//! A leader that is suspended between the check of its deadline and a write cannot be stopped by
//! a Lease. Therefore writes to existing objects carry preconditions of their own.
//!
//! [`next`] decides and is pure; [`Keeper`] acts.

mod keep;
mod step;

pub use keep::{Keeper, Leadership, LeaseError, identity};
pub use step::{Holder, LeaseStep, Observed, Seen, Timing, TimingError, is_expired, next};
