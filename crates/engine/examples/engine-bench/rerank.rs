//! A model that gives a query and a passage a score.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use lamplighter_engine::{Output, Text, Tokens};
use serde_json::{Value, json};

use crate::Meter;
use crate::compute::Compute;
use crate::workload::Query;

pub(crate) struct Rerank<'a> {
    pub(crate) compute: Compute<'a>,
    pub(crate) queries: Vec<Query>,
}

impl Rerank<'_> {
    /// One query after the other, each with all its passages at once.
    pub(crate) fn answer(&self, asked: &str) -> Result<Value> {
        let texts = match asked {
            "R" => false,
            "Rt" => true,
            _ => bail!("an unknown workload"),
        };
        let tokens: Vec<Vec<Tokens>> = self.queries.iter().map(tokens).collect();
        let mut millis = Vec::new();
        let meter = Meter::start()?;
        for (query, tokens) in self.queries.iter().zip(&tokens) {
            let begun = Instant::now();
            if texts {
                self.compute.run(&self.compute.split(&pairs(query))?, Output::Scores)?;
            } else {
                self.compute.run(tokens, Output::Scores)?;
            }
            millis.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let mut answer = meter.rates(tokens.iter().flatten().map(|pair| pair.ids.len()).sum())?;
        answer["millis"] = json!(millis);
        Ok(answer)
    }

    /// Of all queries one after the other, as the head gives them.
    pub(crate) fn scores(&self) -> Result<Vec<Vec<f32>>> {
        let mut scores = Vec::new();
        for query in &self.queries {
            let tokens = tokens(query);
            ensure!(self.compute.split(&pairs(query))? == tokens, "the tokenizer has other tokens");
            scores.extend(self.compute.run(&tokens, Output::Scores)?);
        }
        Ok(scores)
    }
}

fn tokens(query: &Query) -> Vec<Tokens> {
    let of_pair = |ids: &Vec<u32>| Tokens { second: Some(query.second), ..Tokens::of(ids.clone()) };
    query.ids.iter().map(of_pair).collect()
}

fn pairs(query: &Query) -> Vec<Text<'_>> {
    query.passages.iter().map(|passage| Text::Pair(&query.text, passage)).collect()
}
