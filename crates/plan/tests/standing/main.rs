//! How pods stand, held against a table.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod build;
mod table;
