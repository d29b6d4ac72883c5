//! How a model's answers are checked before it serves.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Questions with known answers; a pod whose model answers one of them wrongly never serves.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode != 'Disabled' || !has(self.cases) || self.cases.size() == 0")
        .message("cases: with mode: Disabled no case runs; remove the cases or set mode: Required")
)]
pub struct Validation {
    /// `Required`: at least one case, here or in the artifact's `golden.json`, must run and
    /// every case must pass. `Disabled`: the answers are not checked and the condition
    /// `Validated` says so.
    #[serde(default)]
    pub mode: ValidationMode,

    /// The cases, run in this order. The artifact's `golden.json`, if there is one, runs too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub cases: Vec<ValidationCase>,
}

/// Whether a model without a checked answer may serve.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum ValidationMode {
    /// Without a case the model never becomes ready.
    #[default]
    Required,
    /// Answers are not checked.
    Disabled,
}

/// One question with its expected answer: either `similarity` or `ranking`.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.similarity) != has(self.ranking)")
        .message("a validation case needs exactly one of similarity and ranking")
)]
pub struct ValidationCase {
    /// The name of the case in reports and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The cosine of the vectors of two texts lies within bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,

    /// Passages ordered by falling cosine to a query; of a `Rerank` model, by falling score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
}

/// The cosine of the vectors of two texts lies within bounds.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.atLeast) || has(self.atMost)")
        .message("similarity: needs atLeast, atMost or both; without a bound every answer would pass"),
    validation = Rule::new("!has(self.atLeast) || !has(self.atMost) || !self.atLeast.matches('^-?[0-9.]+$') || !self.atMost.matches('^-?[0-9.]+$') || double(self.atLeast) <= double(self.atMost)")
        .message("similarity: atLeast must not be greater than atMost; no answer could pass")
)]
pub struct Similarity {
    /// The two texts.
    #[schemars(length(min = 2, max = 2), inner(length(min = 1, max = 4096)))]
    pub texts: Vec<String>,

    /// The smallest allowed cosine, a decimal from -1 to 1 in quotes, for example `"0.6"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(r"self.matches('^-?(0([.][0-9]{1,12})?|1([.]0{1,12})?)$')")
        .message("atLeast: must be a decimal from -1 to 1, for example \"0.6\""))]
    pub at_least: Option<String>,

    /// The largest allowed cosine, a decimal from -1 to 1 in quotes, for example `"0.3"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(r"self.matches('^-?(0([.][0-9]{1,12})?|1([.]0{1,12})?)$')")
        .message("atMost: must be a decimal from -1 to 1, for example \"0.3\""))]
    pub at_most: Option<String>,
}

/// Passages ordered by falling cosine to a query; of a `Rerank` model, by falling score.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.order.size() == self.passages.size() && self.order.all(i, i < self.passages.size() && self.order.exists_one(j, j == i))")
        .message("ranking: order must list every index of passages exactly once, counted from 0, best first")
)]
pub struct Ranking {
    /// The query.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,

    /// The passages.
    #[schemars(length(min = 2, max = 32), inner(length(min = 1, max = 4096)))]
    pub passages: Vec<String>,

    /// The indices of `passages`, counted from 0, the most similar passage first.
    #[schemars(length(min = 2, max = 32), inner(range(min = 0, max = 31)))]
    pub order: Vec<i32>,
}
