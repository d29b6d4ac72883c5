//! A list of texts beside a query: documents, passages, sentences.
//!
//! As in [`super::input`], what is above a bound is skipped instead of kept.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::ApiError;
use super::input::{MAX_TEXTS, Problem};

/// The texts, or what is wrong with them.
#[derive(Debug, PartialEq)]
pub(super) struct Texts(Result<Vec<String>, Problem>);

impl Texts {
    /// What the field of this name holds, which must be there.
    pub(super) fn required(
        texts: Option<Self>,
        name: &'static str,
    ) -> Result<Vec<String>, ApiError> {
        match texts {
            Some(Self(texts)) => texts.map_err(|problem| problem.of(name)),
            None => Err(ApiError::missing(name)),
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor).map(Self)
    }
}

impl JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A list of texts, each as itself or as an object with the field `text`.",
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_TEXTS,
            "items": {"anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
            ]},
        })
    }
}

struct TextsVisitor;

type Kept<T> = Result<T, Problem>;

fn not_a_list<T>(found: &str) -> Kept<T> {
    Err(Problem::new(format!("is {found}, not a list of texts")))
}

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Kept<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(not_a_list("a text"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(not_a_list("a number"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(not_a_list("a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(not_a_list("a number"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(not_a_list("true or false"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(not_a_list("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(not_a_list("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(Document(text)) = seq.next_element()? {
            let kept = text.map_err(|problem| problem.within(texts.len())).and_then(|text| {
                if texts.len() == MAX_TEXTS {
                    return Err(Problem::new(format!("has more than {MAX_TEXTS} texts")));
                }
                texts.push(text);
                Ok(())
            });
            if let Err(problem) = kept {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Err(problem));
            }
        }
        Ok(if texts.is_empty() { Err(Problem::empty("is empty")) } else { Ok(texts) })
    }
}

/// A text, or an object with the field `text`.
struct Document(Kept<String>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor { fields: true }).map(Self)
    }
}

/// A text alone.
struct Plain(Kept<String>);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor { fields: false }).map(Self)
    }
}

struct DocumentVisitor {
    fields: bool,
}

fn not_a_text(found: &str) -> Kept<String> {
    Err(Problem::new(format!("is {found}, not a text")))
}

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Kept<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object with the field text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Ok(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Ok(text))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(not_a_text("a number"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(not_a_text("a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(not_a_text("a number"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(not_a_text("true or false"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(not_a_text("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(not_a_text("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut text = None;
        while let Some(key) = map.next_key::<Key>()? {
            if key == Key::Text && self.fields {
                text = Some(map.next_value::<Plain>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        match text {
            Some(Ok(text)) => Ok(Ok(text)),
            Some(Err(_)) => Ok(Err(Problem::new("has a field `text` that is no text"))),
            None if self.fields => Ok(Err(Problem::new("is an object without the field `text`"))),
            None => Ok(not_a_text("an object")),
        }
    }
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    Text,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::input::tests::any_json;
    use super::*;

    fn parse(json: &str) -> Result<Vec<String>, Problem> {
        serde_json::from_str::<Texts>(json).unwrap().0
    }

    #[test]
    fn texts_and_objects_with_a_text_are_documents() {
        let read = parse(r#"["a", {"text": "b"}, {"id": [1], "text": "\u00e4"}, ""]"#);
        assert_eq!(read.unwrap(), ["a", "b", "ä", ""]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (json, expected) in [
            ("[]", Problem::empty("is empty")),
            ("\"a\"", Problem::new("is a text, not a list of texts")),
            ("{\"text\": \"a\"}", Problem::new("is an object, not a list of texts")),
            ("[\"a\", 1]", Problem::new("[1] is a number, not a text")),
            ("[[\"a\"]]", Problem::new("[0] is a list, not a text")),
            ("[{\"txt\": \"a\"}]", Problem::new("[0] is an object without the field `text`")),
            ("[{\"text\": 1}]", Problem::new("[0] has a field `text` that is no text")),
            ("[{\"text\": {}}]", Problem::new("[0] has a field `text` that is no text")),
        ] {
            assert_eq!(parse(json), Err(expected), "{json}");
        }
        let many = |count: usize| serde_json::to_string(&vec!["a"; count]).unwrap();
        assert_eq!(parse(&many(MAX_TEXTS)).unwrap().len(), MAX_TEXTS);
        assert!(parse(&many(MAX_TEXTS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_json_is_texts_or_a_sentence_about_it(json in any_json()) {
            if let Ok(texts) = parse(&json.to_string()) {
                prop_assert!(!texts.is_empty());
            }
        }
    }
}
