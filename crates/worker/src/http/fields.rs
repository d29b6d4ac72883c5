//! Small fields of a request, bounded while they are read.
//!
//! A field that is wrong is kept as a sentence, because other fields are still to be read and the
//! first one that a person would look at is the one to be told about.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::clip::clip;
use super::error::ApiError;

/// A value that a field may have. Each function says which value its argument is, if any.
pub(super) trait Value: Sized {
    /// What the field must be, after "must be".
    const WHAT: &'static str;
    /// What its values are in JSON.
    const TYPE: Type;

    fn of_text(_text: &str) -> Option<Self> {
        None
    }

    fn of_number(_number: u64) -> Option<Self> {
        None
    }

    fn of_flag(_flag: bool) -> Option<Self> {
        None
    }
}

/// A type of JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Type {
    Text,
    Number,
    Flag,
    Other,
}

/// What a field says, or what is wrong with it.
#[derive(Debug, PartialEq)]
pub(super) struct Field<T>(Result<T, Wrong>);

/// What is wrong with a field: a sentence without its subject.
#[derive(Debug, PartialEq)]
struct Wrong {
    code: &'static str,
    sentence: String,
}

/// What a field says; null and nothing are the same.
pub(super) fn optional<T>(
    field: Option<Field<T>>,
    name: &'static str,
) -> Result<Option<T>, ApiError> {
    let told =
        |wrong: Wrong| ApiError::invalid(name, wrong.code, format!("{name} {}", wrong.sentence));
    field.map(|field| field.0.map_err(told)).transpose()
}

/// What a field says that must be there.
pub(super) fn required<T>(field: Option<Field<T>>, name: &'static str) -> Result<T, ApiError> {
    optional(field, name)?.ok_or_else(|| ApiError::missing(name))
}

impl<'de, T: Value> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<T: Value> FieldVisitor<T> {
    fn judge(value: Option<T>, of: Type, found: impl Display) -> Field<T> {
        let wrong = || {
            let code = if of == T::TYPE { "invalid_value" } else { "invalid_type" };
            Wrong { code, sentence: format!("must be {}; it is {}", T::WHAT, clip(found)) }
        };
        Field(value.ok_or_else(wrong))
    }
}

impl<'de, T: Value> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Field<T>, E> {
        Ok(Self::judge(T::of_text(text), Type::Text, text))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Field<T>, E> {
        Ok(Self::judge(T::of_number(number), Type::Number, number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Field<T>, E> {
        Ok(Self::judge(None, Type::Number, number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Field<T>, E> {
        Ok(Self::judge(None, Type::Number, number))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Field<T>, E> {
        Ok(Self::judge(T::of_flag(flag), Type::Flag, flag))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Field<T>, E> {
        Ok(Self::judge(None, Type::Other, "null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::judge(None, Type::Other, "a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<T>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::judge(None, Type::Other, "an object"))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A name, kept as far as one can be that is served.
#[derive(Debug, PartialEq)]
pub(super) struct Name(pub(super) String);

impl Value for Name {
    const WHAT: &'static str = "a text";
    const TYPE: Type = Type::Text;

    fn of_text(text: &str) -> Option<Self> {
        Some(Self(clip(text)))
    }
}

impl JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

/// What a client calls a request of its own; it comes back as it was.
#[derive(Debug, PartialEq)]
pub(super) struct Id(pub(super) String);

impl Value for Id {
    const WHAT: &'static str = "a text of at most 1024 bytes";
    const TYPE: Type = Type::Text;

    fn of_text(text: &str) -> Option<Self> {
        (text.len() <= 1_024).then(|| Self(text.to_owned()))
    }
}

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 1024})
    }
}

/// A text of any length that a body may have.
impl Value for String {
    const WHAT: &'static str = "a text";
    const TYPE: Type = Type::Text;

    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for bool {
    const WHAT: &'static str = "true or false";
    const TYPE: Type = Type::Flag;

    fn of_flag(flag: bool) -> Option<Self> {
        Some(flag)
    }
}

/// How many of something: 1 or more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Count(pub(super) usize);

impl Value for Count {
    const WHAT: &'static str = "a whole number above 0";
    const TYPE: Type = Type::Number;

    fn of_number(number: u64) -> Option<Self> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        (number > 0).then_some(Self(number))
    }
}

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::input::tests::any_json;
    use super::*;

    fn read<T: Value>(json: &str) -> Result<T, Wrong> {
        serde_json::from_str::<Field<T>>(json).unwrap().0
    }

    fn wrong(code: &'static str, sentence: &str) -> Wrong {
        Wrong { code, sentence: sentence.to_owned() }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_apart_from_a_wrong_value() {
        assert_eq!(read::<Count>("7"), Ok(Count(7)));
        assert_eq!(read::<bool>("true"), Ok(true));
        assert_eq!(read::<Name>("\"a\""), Ok(Name("a".to_owned())));
        let number = "must be a whole number above 0; it is ";
        for (json, code, found) in [
            ("0", "invalid_value", "0"),
            ("-3", "invalid_value", "-3"),
            ("1.5", "invalid_value", "1.5"),
            ("\"7\"", "invalid_type", "7"),
            ("[7]", "invalid_type", "a list"),
            ("{\"a\":7}", "invalid_type", "an object"),
            ("null", "invalid_type", "null"),
            ("true", "invalid_type", "true"),
        ] {
            assert_eq!(
                read::<Count>(json),
                Err(wrong(code, &format!("{number}{found}"))),
                "{json}"
            );
        }
    }

    #[test]
    fn nothing_and_null_are_the_same_and_may_not_be_enough() {
        assert_eq!(optional::<Count>(None, "n").unwrap(), None);
        let error = required::<Count>(None, "n").unwrap_err();
        assert_eq!((error.code, error.param), ("missing_required_parameter", Some("n")));
    }

    proptest! {
        #[test]
        fn any_json_is_a_value_or_a_short_sentence_about_it(json in any_json()) {
            let json = json.to_string();
            let sentences = [
                read::<Count>(&json).err(),
                read::<bool>(&json).err(),
                read::<Name>(&json).err(),
            ];
            for wrong in sentences.into_iter().flatten() {
                prop_assert!(wrong.sentence.starts_with("must be "), "{}", wrong.sentence);
                prop_assert!(wrong.sentence.len() < 300, "{}", wrong.sentence);
            }
        }
    }
}
