//! Small worlds with a name.

mod blue_green;
mod choice;
mod people;
mod rolling;
mod trouble;

use crate::scenario::Scenario;

/// Every world that is explored.
pub fn all() -> Vec<Scenario> {
    [rolling::worlds(), blue_green::worlds(), choice::worlds(), people::worlds(), trouble::worlds()]
        .concat()
}

/// The world of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|world| world.name == name)
}
