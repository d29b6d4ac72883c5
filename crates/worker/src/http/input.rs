//! What is to be embedded: a text, texts, tokens, or lists of tokens.
//!
//! It is bounded while it is read, because a short body can name very many small things: what
//! is above a bound is skipped instead of kept.

use std::borrow::Cow;
use std::fmt;

use lamplighter_engine::TooLong;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::ask::Question;
use super::clip::clip;
use super::error::{ApiError, about};

/// The most texts of one request, as OpenAI has it
/// (<https://platform.openai.com/docs/api-reference/embeddings/create>).
pub(super) const MAX_TEXTS: usize = 2_048;
/// More tokens than any model here reads in one text.
const MAX_TOKENS: usize = 131_072;

/// What was asked.
#[derive(Debug, PartialEq)]
pub(super) enum Input {
    Texts(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

impl Input {
    pub(super) fn into_question(self, too_long: TooLong) -> Question {
        match self {
            Self::Texts(texts) => Question::singles(texts, too_long),
            Self::Tokens(lists) => Question::Tokens(lists, too_long),
        }
    }
}

/// What is wrong with a field: a sentence without its subject.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    sentence: String,
    /// There is nothing in it.
    is_empty: bool,
}

impl Problem {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_empty: false }
    }

    pub(super) fn empty(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_empty: true }
    }

    /// The same of the element `index`.
    pub(super) fn within(self, index: usize) -> Self {
        Self { sentence: about(format_args!("[{index}]"), &self.sentence), ..self }
    }

    /// The problem of a field of this name.
    pub(super) fn of(&self, name: &'static str) -> ApiError {
        if self.is_empty {
            ApiError::empty(name, &self.sentence)
        } else {
            ApiError::invalid(name, "invalid_input", about(name, &self.sentence))
        }
    }
}

/// What was asked, or what is wrong with it: other fields are still to be read.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed(Result<Input, Problem>);

impl Parsed {
    /// What the field of this name holds, which must be there.
    pub(super) fn required(parsed: Option<Self>, name: &'static str) -> Result<Input, ApiError> {
        match parsed {
            Some(Self(input)) => input.map_err(|problem| problem.of(name)),
            None => Err(ApiError::missing(name)),
        }
    }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let input = match Item::deserialize(deserializer)? {
            Item::Text(text) if text.is_empty() => Err(Problem::empty("is an empty text")),
            Item::Text(text) => Ok(Input::Texts(vec![text])),
            Item::List(List::Empty) => Err(Problem::empty("is empty")),
            Item::List(List::Texts(texts)) => Ok(Input::Texts(texts)),
            Item::List(List::Tokens(tokens)) => Ok(Input::Tokens(vec![tokens])),
            Item::List(List::Lists(lists)) => Ok(Input::Tokens(lists)),
            Item::Wrong(problem) => Err(problem),
            Item::Token(_) => Err(Problem::new("is a number; put tokens into a list")),
        };
        Ok(Self(input))
    }
}

impl JsonSchema for Parsed {
    fn schema_name() -> Cow<'static, str> {
        "Input".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let tokens = json_schema!({"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}});
        json_schema!({
            "description": "A text, a list of texts, a text as a list of its tokens, or a list of those.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "maxItems": MAX_TEXTS, "items": {"type": "string", "minLength": 1}},
                tokens,
                {"type": "array", "minItems": 1, "maxItems": MAX_TEXTS, "items": tokens},
            ],
        })
    }
}

/// Any JSON value, as far as it can be part of an input.
enum Item {
    Text(String),
    Token(u32),
    List(List),
    Wrong(Problem),
}

enum List {
    Empty,
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts, a list of tokens, or a list of lists of tokens")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Item, E> {
        Ok(Item::Text(text))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Item, E> {
        Ok(u32::try_from(number).map_or_else(|_| not_a_token(&number), Item::Token))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Item, E> {
        Ok(not_a_token(&number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Item, E> {
        Ok(not_a_token(&number))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Item, E> {
        Ok(Item::Wrong(Problem::new("is true or false, not a text or tokens")))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Item, E> {
        Ok(Item::Wrong(Problem::new("is null")))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Item::Wrong(Problem::new("is an object, not a text or tokens")))
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

fn not_a_token(number: &dyn fmt::Display) -> Item {
    Item::Wrong(Problem::new(format!("is {}, which is not a token", clip(number))))
}

impl List {
    fn push(&mut self, item: Item, index: usize) -> Result<(), Problem> {
        let too_many = || Problem::new(format!("has more than {MAX_TEXTS} texts"));
        let problem = |sentence| Err(Problem::new(sentence).within(index));
        match (&mut *self, item) {
            (Self::Empty, Item::Token(token)) => *self = Self::Tokens(vec![token]),
            (Self::Tokens(tokens), Item::Token(token)) => {
                if tokens.len() == MAX_TOKENS {
                    let sentence = format!("has more than {MAX_TOKENS} tokens in a text");
                    return Err(Problem::new(sentence));
                }
                tokens.push(token);
            }
            (_, Item::Text(text)) if text.is_empty() => {
                return Err(Problem::empty("is an empty text").within(index));
            }
            (Self::Empty, Item::Text(text)) => *self = Self::Texts(vec![text]),
            (Self::Texts(texts), Item::Text(text)) => {
                if texts.len() == MAX_TEXTS {
                    return Err(too_many());
                }
                texts.push(text);
            }
            (_, Item::List(Self::Empty)) => return Err(Problem::empty("is empty").within(index)),
            (Self::Empty, Item::List(Self::Tokens(tokens))) => *self = Self::Lists(vec![tokens]),
            (Self::Lists(lists), Item::List(Self::Tokens(tokens))) => {
                if lists.len() == MAX_TEXTS {
                    return Err(too_many());
                }
                lists.push(tokens);
            }
            (_, Item::Wrong(problem)) => return Err(problem.within(index)),
            (_, Item::List(Self::Texts(_) | Self::Lists(_))) => {
                return problem("is a list of other things than tokens");
            }
            _ => return problem("is of another kind than the ones before"),
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> Result<Input, String> {
        serde_json::from_str::<Parsed>(json).unwrap().0.map_err(|problem| problem.sentence)
    }

    fn count(input: &Input) -> usize {
        match input {
            Input::Texts(texts) => texts.len(),
            Input::Tokens(lists) => lists.len(),
        }
    }

    #[test]
    fn the_four_forms_are_understood() {
        let texts = |texts: &[&str]| Input::Texts(texts.iter().map(ToString::to_string).collect());
        for (json, expected) in [
            (r#""a lamp""#, texts(&["a lamp"])),
            (r#""\u00e4""#, texts(&["ä"])),
            (r#"["a", "b"]"#, texts(&["a", "b"])),
            ("[1, 2]", Input::Tokens(vec![vec![1, 2]])),
            ("[[1, 2], [3]]", Input::Tokens(vec![vec![1, 2], vec![3]])),
        ] {
            assert_eq!(parse(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (json, expected) in [
            ("\"\"", "is an empty text"),
            ("[]", "is empty"),
            ("null", "is null"),
            ("true", "is true or false"),
            ("7", "is a number"),
            ("{\"a\": [1]}", "is an object"),
            (r#"["a", ""]"#, "[1] is an empty text"),
            (r#"["a", 1]"#, "[1] is of another kind"),
            (r#"[1, "a"]"#, "[1] is of another kind"),
            ("[1, [2]]", "[1] is of another kind"),
            ("[[1], 2]", "[1] is of another kind"),
            (r#"[["a"]]"#, "[0] is a list of other things"),
            ("[[[1]]]", "[0] is a list of other things"),
            ("[[1], []]", "[1] is empty"),
            ("[[]]", "[0] is empty"),
            ("[-1]", "[0] is -1, which is not a token"),
            ("[1.5]", "[0] is 1.5, which is not a token"),
            ("[4294967296]", "[0] is 4294967296"),
            ("[1, null]", "[1] is null"),
            ("[[1, true]]", "[0][1] is true or false"),
        ] {
            let problem = parse(json).unwrap_err();
            assert!(problem.starts_with(expected), "{json}: {problem}");
        }
    }

    #[test]
    fn a_place_stands_beside_the_name_that_it_belongs_to() {
        let said = |json: &str| {
            let Parsed(parsed) = serde_json::from_str::<Parsed>(json).unwrap();
            parsed.unwrap_err().of("input").message
        };
        assert_eq!(said("[1, null]"), "input[1] is null");
        assert_eq!(said(r#"["a", ""]"#), "input[1] is an empty text");
        assert_eq!(said("[]"), "input is empty");
        assert_eq!(said("null"), "input is null");
    }

    #[test]
    fn bounds_hold_exactly() {
        let texts = |count: usize| serde_json::to_string(&vec!["a"; count]).unwrap();
        assert_eq!(count(&parse(&texts(MAX_TEXTS)).unwrap()), MAX_TEXTS);
        assert!(parse(&texts(MAX_TEXTS + 1)).unwrap_err().contains("2048 texts"));
        let lists = |count: usize| serde_json::to_string(&vec![[1]; count]).unwrap();
        assert_eq!(count(&parse(&lists(MAX_TEXTS)).unwrap()), MAX_TEXTS);
        assert!(parse(&lists(MAX_TEXTS + 1)).unwrap_err().contains("2048 texts"));
        let tokens = |count: usize| serde_json::to_string(&vec![1; count]).unwrap();
        assert!(parse(&tokens(MAX_TOKENS)).is_ok());
        assert!(parse(&tokens(MAX_TOKENS + 1)).unwrap_err().contains("131072 tokens"));
    }

    /// Any value, also one that nobody would send.
    pub(in super::super) fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(serde_json::Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_an_input_or_a_sentence_about_it(json in any_json()) {
            match parse(&json.to_string()) {
                Ok(input) => prop_assert!(count(&input) > 0),
                Err(problem) => {
                    let subject_follows = ["is ", "[", "has "];
                    prop_assert!(subject_follows.iter().any(|start| problem.starts_with(start)), "{problem}");
                },
            }
        }
    }
}
