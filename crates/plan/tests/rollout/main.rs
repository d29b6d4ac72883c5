//! The rollout machine held against tables: one situation, one expected decision. Every order of
//! events is searched in `crates/sim`.

mod build;
mod commands;
mod decide;
mod heading;
mod memory;
mod strategy;
mod wake;
