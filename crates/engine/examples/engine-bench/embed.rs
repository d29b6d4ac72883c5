//! A model that gives vectors.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use lamplighter_engine::{Output, Text, Tokens};
use serde_json::{Value, json};

use crate::Meter;
use crate::compute::Compute;
use crate::workload::Workload;

pub(crate) struct Embed<'a> {
    pub(crate) compute: Compute<'a>,
    pub(crate) workloads: BTreeMap<&'static str, Workload>,
}

impl Embed<'_> {
    pub(crate) fn answer(&self, asked: &str) -> Result<Value> {
        let name = asked.trim_end_matches('t');
        let workload = self.workloads.get(name).context("an unknown workload")?;
        if name == "W3" {
            return self.latencies(workload, name != asked);
        }
        let meter = Meter::start()?;
        if name == asked {
            self.compute.run(&tokens(workload), Output::Vector)?;
        } else {
            let texts: Vec<Text<'_>> = workload.texts.iter().map(|text| Text::One(text)).collect();
            self.compute.run(&self.compute.split(&texts)?, Output::Vector)?;
        }
        meter.rates(workload.tokens())
    }

    /// Of W1.
    pub(crate) fn vectors(&self) -> Result<Vec<Vec<f32>>> {
        let workload = self.workloads.get("W1").context("an unknown workload")?;
        self.compute.run(&tokens(workload), Output::Vector)
    }

    fn latencies(&self, workload: &Workload, texts: bool) -> Result<Value> {
        let engine = self.compute.engine;
        let mut millis = Vec::new();
        for (ids, text) in workload.ids.iter().zip(&workload.texts) {
            let tokens = [Tokens::of(ids.clone())];
            let begun = Instant::now();
            if texts {
                engine.embed(&engine.tokenize(&[text])?)?;
            } else {
                engine.embed(&tokens)?;
            }
            millis.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(json!({"millis": millis}))
    }
}

fn tokens(workload: &Workload) -> Vec<Tokens> {
    workload.ids.iter().map(|ids| Tokens::of(ids.clone())).collect()
}
