//! What operator and worker tell each other.
//!
//! Four messages cross the boundary, each JSON, each with a golden file in `tests/`:
//!
//! | message | from → to | carried by |
//! |---|---|---|
//! | [`Manifest`] | operator → worker | a ConfigMap mounted at [`place::MANIFEST`] |
//! | [`Report`] | worker → operator | `GET /status` on the admin port |
//! | [`Failure`] | worker → operator | the container's termination message |
//! | [`ResolveRecord`] | `resolve` → operator | the container's termination message |
//!
//! A change here is a change of the contract between two images that may differ in
//! version: fields are added as optional, never renamed, and never change their meaning. What a
//! reader does with what it does not know depends on the direction:
//!
//! * A report, a record or a failure is *read*: unknown fields are ignored, and for unknown states,
//!   phases and reasons each type says what they are read as. An operator that is older than its workers still sees how they do.
//! * A manifest is *obeyed*: a worker refuses one with a field that it does not know, because a
//!   worker that ignored it would serve something else than was asked for. A field that is not
//!   used is not written, so that an older worker refuses only what it really cannot do.

pub mod failure;
pub mod manifest;
pub mod memory;
pub mod place;
pub mod report;
pub mod resolve;
mod words;

pub use failure::{Class, Failure, Reason};
pub use manifest::{
    Case, Check, Device, Manifest, ManifestError, ModelEntry, ModelKey, Precision, Source, Task,
    ValidationMode, ValidationPlan,
};
pub use report::{
    CaseResult, ComparedReport, MemoryReport, ModelFacts, ModelReport, ModelState, Phase,
    PhaseTiming, Report, Revalidation, RuntimeReport, UnaffordableReport, ValidationReport,
    WarmupReport, WorkerState,
};
pub use resolve::{ResolveField, ResolveRecord, ResolveRecordError, ResolveReportError};
pub use words::bytes_in_words;
