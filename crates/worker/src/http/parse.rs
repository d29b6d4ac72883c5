//! JSON, without keeping the runtime's threads from other requests.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::aside::aside;
use super::error::ApiError;

/// What the bytes say.
pub(super) async fn parse<T: DeserializeOwned + Send + 'static>(
    bytes: Bytes,
) -> Result<T, ApiError> {
    aside(bytes.len(), move || object(&bytes)).await
}

/// What the bytes say, which must be an object.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let read = serde_json::from_slice::<Object<T>>(bytes);
    read.map(|Object(said)| said).map_err(|error| ApiError::malformed(&error))
}

/// Something with fields, as an object alone: serde would also take a list for it, by the order in which
/// the fields stand in the code.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Asked {
        model: Option<String>,
        inner: Option<Object<Inner>>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Inner {
        text: String,
    }

    #[test]
    fn what_has_fields_is_an_object_and_no_list() {
        let inner = Some(Object(Inner { text: "b".to_owned() }));
        let asked = Asked { model: Some("a".to_owned()), inner };
        let read = |json: &str| object::<Asked>(json.as_bytes()).map_err(|error| error.message);
        assert_eq!(read(r#"{"model": "a", "x": [], "inner": {"text": "b"}}"#), Ok(asked));
        assert_eq!(read("{}"), Ok(Asked { model: None, inner: None }));
        for json in [r#"["a", null]"#, "[]", "\"a\"", "7", r#"{"inner": ["b"]}"#] {
            let problem = read(json).unwrap_err();
            assert!(problem.contains("expected a JSON object"), "{json}: {problem}");
        }
        assert!(read("").unwrap_err().contains("EOF"));
    }
}
