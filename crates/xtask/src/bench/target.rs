//! What has to be reached, and whether it was.

use anyhow::{Result, bail};

/// A figure and its bound.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: String,
    /// None where it was not measured.
    pub(crate) found: Option<f64>,
    pub(crate) bound: Bound,
}

/// Which figures are good enough.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, found: f64) -> bool {
        match self {
            Self::AtLeast(least) => found >= least,
            Self::AtMost(most) => found <= most,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

/// Fails if one was not reached or not measured, and names all of these.
pub(crate) fn check(targets: &[Target]) -> Result<()> {
    let missed: Vec<String> = targets
        .iter()
        .filter(|target| !target.found.is_some_and(|found| target.bound.holds(found)))
        .map(|Target { what, found, bound }| {
            let found = found.map_or("not measured".to_owned(), |found| format!("{found:.4}"));
            format!("{what}: {found}, wanted {bound}")
        })
        .collect();
    if !missed.is_empty() {
        bail!("{} of {} targets missed: {}", missed.len(), targets.len(), missed.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(found: Option<f64>, bound: Bound) -> Target {
        Target { what: "speed".to_owned(), found, bound }
    }

    #[test]
    fn what_is_on_its_bound_is_reached_and_what_is_no_number_or_not_there_is_not() {
        let reached = [
            target(Some(1.5), Bound::AtLeast(1.5)),
            target(Some(0.5), Bound::AtMost(0.5)),
            target(Some(2.0), Bound::AtLeast(1.5)),
        ];
        check(&reached).unwrap();
        for (found, bound, told) in [
            (Some(1.49), Bound::AtLeast(1.5), "speed: 1.4900, wanted at least 1.5"),
            (Some(0.51), Bound::AtMost(0.5), "speed: 0.5100, wanted at most 0.5"),
            (Some(f64::NAN), Bound::AtMost(0.5), "speed: NaN, wanted at most 0.5"),
            (None, Bound::AtLeast(1.5), "speed: not measured, wanted at least 1.5"),
        ] {
            let error = check(&[target(Some(9.0), Bound::AtLeast(1.0)), target(found, bound)]);
            let error = error.unwrap_err().to_string();
            assert_eq!(error, format!("1 of 2 targets missed: {told}"));
        }
    }
}
