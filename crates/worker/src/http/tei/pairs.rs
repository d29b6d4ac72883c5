//! What is to be judged: a text, a pair of texts, or a list of lists of one or two texts
//! (<https://github.com/huggingface/text-embeddings-inference/blob/v1.9.3/router/src/http/types.rs>,
//! `PredictInput`).
//!
//! As in [`crate::http::input`], what is above a bound is skipped instead of kept.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::http::error::ApiError;
use crate::http::input::{MAX_TEXTS, Problem};
use crate::run::OwnedText;

/// What is judged.
#[derive(Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) texts: Vec<OwnedText>,
    /// It was no list, and the answer is none either.
    pub(super) is_one: bool,
}

/// What is judged, or what is wrong with it.
#[derive(Debug, PartialEq)]
pub(super) struct Inputs(Result<Judged, Problem>);

impl Inputs {
    /// What the field of this name holds, which must be there.
    pub(super) fn required(inputs: Option<Self>, name: &'static str) -> Result<Judged, ApiError> {
        match inputs {
            Some(Self(inputs)) => inputs.map_err(|problem| problem.of(name)),
            None => Err(ApiError::missing(name)),
        }
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let judged = match Item::deserialize(deserializer)? {
            Item::Text(text) => one(vec![text]),
            Item::List(List::Texts(texts)) => one(texts),
            Item::List(List::Lists(texts)) => Ok(Judged { texts, is_one: false }),
            Item::List(List::Empty) => Err(Problem::empty("is empty")),
            Item::Wrong(problem) => Err(problem),
        };
        Ok(Self(judged))
    }
}

impl JsonSchema for Inputs {
    fn schema_name() -> Cow<'static, str> {
        "PredictInputs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pair = json_schema!({
            "type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}
        });
        json_schema!({
            "description": "A text, a pair of texts, or a list of lists of one or two texts.",
            "anyOf": [
                {"type": "string"},
                pair,
                {"type": "array", "minItems": 1, "maxItems": MAX_TEXTS, "items": pair},
            ],
        })
    }
}

fn one(texts: Vec<String>) -> Result<Judged, Problem> {
    Ok(Judged { texts: vec![text_of(texts)?], is_one: true })
}

/// One text or two.
fn text_of(texts: Vec<String>) -> Result<OwnedText, Problem> {
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next(), texts.next()) {
        (Some(first), ..) if first.is_empty() => Err(Problem::empty("is an empty text")),
        (Some(first), None, _) => Ok(OwnedText::One(first.into())),
        (Some(first), Some(second), None) => Ok(OwnedText::Pair(first.into(), second.into())),
        (None, ..) => Err(Problem::empty("is empty")),
        (_, _, Some(_)) => Err(Problem::new(
            "has more than two texts; put each text, or each pair, into a list of its own",
        )),
    }
}

/// Any JSON value, as far as it can be part of what is judged.
enum Item {
    Text(String),
    List(List),
    Wrong(Problem),
}

enum List {
    Empty,
    /// At most three: that there are too many of them is all that matters then.
    Texts(Vec<String>),
    Lists(Vec<OwnedText>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

fn wrong(found: &str) -> Item {
    Item::Wrong(Problem::new(format!("is {found}, not a text or a list of texts")))
}

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a pair of texts, or a list of lists of one or two texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Item, E> {
        Ok(Item::Text(text))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Item, E> {
        Ok(wrong("a number"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Item, E> {
        Ok(wrong("a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Item, E> {
        Ok(wrong("a number"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Item, E> {
        Ok(wrong("true or false"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Item, E> {
        Ok(wrong("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(wrong("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item, A::Error> {
        let mut list = List::Empty;
        let mut index = 0;
        while let Some(item) = seq.next_element()? {
            if let Err(problem) = list.push(item, index) {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Item::Wrong(problem));
            }
            index += 1;
        }
        Ok(Item::List(list))
    }
}

impl List {
    fn push(&mut self, item: Item, index: usize) -> Result<(), Problem> {
        match (&mut *self, item) {
            (Self::Empty, Item::Text(text)) => *self = Self::Texts(vec![text]),
            (Self::Texts(texts), Item::Text(text)) => {
                if texts.len() < 3 {
                    texts.push(text);
                }
            }
            (Self::Empty | Self::Lists(_), Item::List(Self::Texts(texts))) => {
                let text = text_of(texts).map_err(|problem| problem.within(index))?;
                match self {
                    Self::Lists(lists) if lists.len() == MAX_TEXTS => {
                        return Err(Problem::new(format!("has more than {MAX_TEXTS} texts")));
                    }
                    Self::Lists(lists) => lists.push(text),
                    Self::Empty | Self::Texts(_) => *self = Self::Lists(vec![text]),
                }
            }
            (_, Item::List(Self::Empty)) => return Err(Problem::empty("is empty").within(index)),
            (_, Item::List(Self::Lists(_))) => {
                return Err(Problem::new("is a list of lists").within(index));
            }
            (_, Item::Wrong(problem)) => return Err(problem.within(index)),
            _ => return Err(Problem::new("is of another kind than the ones before").within(index)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::input::tests::any_json;

    fn parse(json: &str) -> Result<Judged, Problem> {
        serde_json::from_str::<Inputs>(json).unwrap().0
    }

    fn single(text: &str) -> OwnedText {
        OwnedText::One(text.into())
    }

    fn pair(first: &str, second: &str) -> OwnedText {
        OwnedText::Pair(first.into(), second.into())
    }

    #[test]
    fn the_forms_are_understood() {
        for (json, texts, is_one) in [
            (r#""a""#, vec![single("a")], true),
            (r#"["a"]"#, vec![single("a")], true),
            (r#"["a", "b"]"#, vec![pair("a", "b")], true),
            (r#"[["a"], ["b", "c"]]"#, vec![single("a"), pair("b", "c")], false),
            (r#"[["a", ""]]"#, vec![pair("a", "")], false),
        ] {
            assert_eq!(parse(json), Ok(Judged { texts, is_one }), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let three = "has more than two texts; put each text, or each pair, into a list of its own";
        for (json, expected) in [
            ("\"\"", Problem::empty("is an empty text")),
            ("[]", Problem::empty("is empty")),
            ("[[]]", Problem::empty("[0] is empty")),
            ("[[\"a\"], [\"\"]]", Problem::empty("[1] is an empty text")),
            (r#"["a", "b", "c", "d"]"#, Problem::new(three)),
            (r#"[["a", "b", "c"]]"#, Problem::new(format!("[0] {three}"))),
            (r#"["a", ["b"]]"#, Problem::new("[1] is of another kind than the ones before")),
            (r#"[["a"], "b"]"#, Problem::new("[1] is of another kind than the ones before")),
            (r#"[[["a"]]]"#, Problem::new("[0] is a list of lists")),
            ("7", Problem::new("is a number, not a text or a list of texts")),
            ("[[null]]", Problem::new("[0][0] is null, not a text or a list of texts")),
        ] {
            assert_eq!(parse(json), Err(expected), "{json}");
        }
        let many = |count: usize| serde_json::to_string(&vec![["a"]; count]).unwrap();
        assert_eq!(parse(&many(MAX_TEXTS)).unwrap().texts.len(), MAX_TEXTS);
        assert!(parse(&many(MAX_TEXTS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_json_is_judged_or_a_sentence_about_it(json in any_json()) {
            if let Ok(judged) = parse(&json.to_string()) {
                prop_assert!(!judged.texts.is_empty());
                prop_assert!(!judged.is_one || judged.texts.len() == 1);
            }
        }
    }
}
