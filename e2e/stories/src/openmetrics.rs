//! A check of metrics text against the `OpenMetrics` format.
//!
//! Covers what scrapers trip over
//! (<https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>): the
//! end mark, one declared type a family, every sample of a declared family with a suffix that
//! its type allows, well-formed labels, numbers, and no sample twice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};

/// What a valid text holds.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Type by family.
    pub families: BTreeMap<String, String>,
    /// Value by sample, which is the name with its labels as printed.
    pub samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads and checks a text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let body = text.strip_suffix("# EOF\n").context("the text does not end with # EOF")?;
        let mut metrics = Self::default();
        let mut described = BTreeSet::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                metrics.comment(comment, &mut described).with_context(|| line.to_owned())?;
            } else {
                metrics.sample(line).with_context(|| line.to_owned())?;
            }
        }
        Ok(metrics)
    }

    /// The sum of all samples of a name, whatever their labels.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self
            .samples
            .iter()
            .filter(|(sample, _)| name_of(sample) == name)
            .map(|(_, value)| value);
        let first = *values.next()?;
        Some(values.fold(first, |sum, value| sum + value))
    }

    fn comment<'a>(
        &mut self,
        comment: &'a str,
        described: &mut BTreeSet<(&'a str, &'a str)>,
    ) -> anyhow::Result<()> {
        let mut words = comment.splitn(3, ' ');
        let (Some(keyword), Some(family), Some(rest)) = (words.next(), words.next(), words.next())
        else {
            bail!("a comment needs a keyword, a family and a text");
        };
        ensure!(described.insert((keyword, family)), "said twice");
        match keyword {
            "TYPE" => {
                ensure!(suffixes(rest).is_some(), "{rest} is not a type");
                self.families.insert(family.to_owned(), rest.to_owned());
            }
            "HELP" => {}
            "UNIT" => ensure!(family.ends_with(&format!("_{rest}")), "the unit is not in the name"),
            other => bail!("{other} is not a keyword"),
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> anyhow::Result<()> {
        let (sample, rest) = cut(line)?;
        let value = rest.split(' ').next().unwrap_or_default();
        let value: f64 = value.parse().with_context(|| format!("{value:?} is not a number"))?;
        let name = name_of(sample);
        ensure!(
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':'),
            "{name:?} is not a name"
        );
        let declared = self.families.iter().any(|(family, kind)| {
            name.strip_prefix(family.as_str()).is_some_and(|suffix| {
                suffixes(kind).is_some_and(|allowed| allowed.contains(&suffix))
            })
        });
        ensure!(declared, "no family is declared that {name} belongs to");
        ensure!(
            self.samples.insert(sample.to_owned(), value).is_none(),
            "the sample is there twice"
        );
        Ok(())
    }
}

/// The suffixes of a type's samples; none for a type that does not exist.
fn suffixes(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "counter" => &["_total", "_created"],
        "gauge" | "unknown" | "stateset" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_count", "_sum", "_created"],
        "gaugehistogram" => &["_bucket", "_gcount", "_gsum"],
        "summary" => &["", "_count", "_sum", "_created"],
        _ => return None,
    })
}

fn name_of(sample: &str) -> &str {
    sample.split('{').next().unwrap_or(sample)
}

/// Cuts a line into the sample (name and labels) and the rest, and checks the labels.
fn cut(line: &str) -> anyhow::Result<(&str, &str)> {
    let Some(open) = line.find('{').filter(|open| !line[..*open].contains(' ')) else {
        return line.split_once(' ').context("a sample needs a value");
    };
    let mut at = open + 1;
    if line[at..].starts_with('}') {
        return line
            .split_at(at + 1)
            .1
            .strip_prefix(' ')
            .map(|rest| (&line[..=at], rest))
            .context("a sample needs a value");
    }
    loop {
        let (name, value) = line[at..].split_once("=\"").context("a label needs a quoted value")?;
        ensure!(
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "{name:?} is not a label's name"
        );
        at += name.len() + 2 + end_of_quoted(value)? + 1;
        match line.as_bytes().get(at) {
            Some(b',') => at += 1,
            Some(b'}') => {
                let rest = line[at + 1..].strip_prefix(' ').context("a sample needs a value")?;
                return Ok((&line[..=at], rest));
            }
            _ => bail!("labels end with a brace"),
        }
    }
}

/// Where the closing quote is.
fn end_of_quoted(text: &str) -> anyhow::Result<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return Ok(at),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    bail!("a label's value has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP lit Lamps that are lit.\n# TYPE lit gauge\nlit{street=\"a, \\\"b\\\" {c}\",side=\"left\"} 2\nlit{street=\"d\"} 1.5\n# TYPE steps counter\nsteps_total 7\n# EOF\n";

    #[test]
    fn a_good_text_is_read_whole() {
        let metrics = Metrics::parse(GOOD).unwrap();
        assert_eq!(metrics.families.len(), 2);
        assert_eq!(metrics.samples.len(), 3);
        assert_eq!(metrics.sum("lit"), Some(3.5));
        assert_eq!(metrics.sum("steps_total"), Some(7.0));
        assert_eq!(metrics.sum("absent"), None);
    }

    #[test]
    fn each_kind_of_bad_text_is_refused() {
        for (bad, why) in [
            ("lit 1\n# EOF\n", "no family is declared"),
            ("# TYPE lit gauge\nlit 1\n", "# EOF"),
            ("# TYPE lit gauge\nlit one\n# EOF\n", "not a number"),
            ("# TYPE lit lamp\n# EOF\n", "not a type"),
            ("# TYPE lit gauge\n# TYPE lit gauge\n# EOF\n", "said twice"),
            ("# TYPE steps counter\nsteps 1\n# EOF\n", "no family is declared"),
            ("# TYPE lit gauge\nlit 1\nlit 2\n# EOF\n", "twice"),
            ("# TYPE lit gauge\nlit{a=\"b} 2\n# EOF\n", "no end"),
            ("# TYPE lit gauge\nlit{a=\"b\" 2\n# EOF\n", "brace"),
        ] {
            let error = format!("{:#}", Metrics::parse(bad).unwrap_err());
            assert!(error.contains(why), "{bad:?} gave {error}");
        }
    }
}
