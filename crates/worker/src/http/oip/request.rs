//! A request for inference: JSON, and maybe bytes of tensors behind it.

use std::borrow::Cow;
use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::tensor;
use crate::http::error::ApiError;
use crate::http::few::Few;
use crate::http::fields::{Field, Id, Name, optional, required};
use crate::http::input::MAX_TEXTS;
use crate::http::parse::{self, Object};

/// How long the JSON is where bytes follow it.
pub(super) const JSON_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

/// Fields that are not known here do not change an answer and are ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InferRequest")]
pub(super) struct Ask {
    /// Comes back with the answer.
    id: Option<Field<Id>>,
    #[schemars(required)]
    inputs: Option<Few<Object<InputTensor>, 4>>,
    /// Which outputs are wanted, and how they are written; all by default.
    outputs: Option<Few<Object<WantedTensor>, 4>>,
    parameters: Option<Object<Parameters>>,
}

/// A tensor that the model reads.
#[derive(Deserialize, JsonSchema)]
struct InputTensor {
    #[schemars(required)]
    name: Option<Field<Name>>,
    /// `[n]` or `[n, 1]`.
    #[schemars(required)]
    shape: Option<Few<u64, 4>>,
    /// `BYTES`.
    #[schemars(required)]
    datatype: Option<Field<Name>>,
    /// Texts, unless bytes of them follow the JSON.
    data: Option<Data>,
    parameters: Option<Object<Parameters>>,
}

/// A tensor that is wanted.
#[derive(Deserialize, JsonSchema)]
struct WantedTensor {
    #[schemars(required)]
    name: Option<Field<Name>>,
    parameters: Option<Object<Parameters>>,
}

/// Those that are known; others are ignored.
#[derive(Default, Deserialize, JsonSchema)]
struct Parameters {
    /// How many bytes of a tensor follow the JSON.
    binary_data_size: Option<u64>,
    /// Whether an output is written as bytes after the JSON.
    binary_data: Option<Field<bool>>,
    /// Whether all outputs are.
    binary_data_output: Option<Field<bool>>,
    /// Not served.
    classification: Option<u64>,
    /// Not served.
    shared_memory_region: Option<Field<Name>>,
}

/// What is asked, once it is known to be whole.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) id: Option<String>,
    pub(super) text: Vec<String>,
    pub(super) text_pair: Option<Vec<String>>,
    pub(super) outputs: Option<Vec<Wanted>>,
    /// Where an output does not say how it is written.
    pub(super) is_binary: bool,
}

/// An output that was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) is_binary: bool,
}

/// Takes a body apart. `headers` say where its JSON ends.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Asked, ApiError> {
    let (json, mut bytes) = match headers.get(JSON_LENGTH) {
        None => (body, &[][..]),
        Some(length) => {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            length.and_then(|length| body.split_at_checked(length)).ok_or_else(|| {
                let message = format!("{JSON_LENGTH} must be a number of bytes of the body");
                ApiError::invalid("inputs", "invalid_value", message)
            })?
        }
    };
    let ask: Ask = parse::object(json)?;
    let (mut text, mut text_pair) = (None, None);
    let inputs = ask.inputs.ok_or_else(|| ApiError::missing("inputs"))?.0;
    for Object(tensor) in inputs {
        let (name, texts) = tensor.read(&mut bytes)?;
        let place = match name.as_str() {
            tensor::TEXT => &mut text,
            tensor::TEXT_PAIR => &mut text_pair,
            _ => {
                return Err(wrong(
                    "inputs",
                    format!("have a tensor {name:?}; known are `text` and `text_pair`"),
                ));
            }
        };
        if place.replace(texts).is_some() {
            return Err(wrong("inputs", format!("have the tensor {name:?} twice")));
        }
    }
    if !bytes.is_empty() {
        let more = bytes.len();
        return Err(wrong("inputs", format!("are followed by {more} bytes of no tensor")));
    }
    let text = text.ok_or_else(|| wrong("inputs", "have no tensor `text`"))?;
    if let Some(pair) = &text_pair
        && pair.len() != text.len()
    {
        let (first, second) = (text.len(), pair.len());
        let sentence = format!("have {first} texts and {second} that are to be their pairs");
        return Err(wrong("inputs", sentence));
    }
    let Object(parameters) = ask.parameters.unwrap_or_default();
    let is_binary = optional(parameters.binary_data_output, "binary_data_output")?;
    let is_binary = is_binary.unwrap_or_default();
    let outputs = ask.outputs.filter(|outputs| !outputs.0.is_empty());
    let outputs = outputs.map(|outputs| {
        let read = outputs.0.into_iter().map(|Object(output)| output.read(is_binary));
        read.collect::<Result<_, _>>()
    });
    let id = optional(ask.id, "id")?.map(|Id(id)| id);
    Ok(Asked { id, text, text_pair, outputs: outputs.transpose()?, is_binary })
}

fn wrong(field: &'static str, sentence: impl fmt::Display) -> ApiError {
    ApiError::invalid(field, "invalid_input", format!("{field} {sentence}"))
}

impl InputTensor {
    /// The tensor's name and texts; what it has of the bytes is taken away from them.
    fn read(self, bytes: &mut &[u8]) -> Result<(String, Vec<String>), ApiError> {
        let Name(name) = required(self.name, "name")?;
        let of =
            |sentence: String| wrong("inputs", format!("have a tensor {name:?} that {sentence}"));
        let Name(datatype) = required(self.datatype, "datatype")?;
        if datatype != tensor::BYTES {
            return Err(of(format!("is of type {datatype:?}; it must be BYTES")));
        }
        let Object(parameters) = self.parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            return Err(of("is in shared memory, which is not served".to_owned()));
        }
        let texts = match (parameters.binary_data_size, self.data) {
            (Some(size), None) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let (own, rest) = bytes.split_at_checked(size).ok_or_else(|| {
                    of(format!("has {size} bytes, more than there are after the JSON"))
                })?;
                *bytes = rest;
                tensor::texts(own).map_err(&of)?
            }
            (None, Some(Data(data))) => data.map_err(&of)?,
            (None, None) => return Err(of("has no data".to_owned())),
            (Some(_), Some(_)) => {
                return Err(of("has data twice: as JSON and as bytes".to_owned()));
            }
        };
        let shape = self.shape.map(|shape| shape.0).unwrap_or_default();
        match shape[..] {
            [count] | [count, 1] if count == texts.len() as u64 => Ok((name, texts)),
            [_] | [_, 1] => Err(of(format!("has {} texts and the shape {shape:?}", texts.len()))),
            _ => Err(of(format!("has the shape {shape:?}; it must be [n] or [n, 1]"))),
        }
    }
}

impl WantedTensor {
    fn read(self, is_binary: bool) -> Result<Wanted, ApiError> {
        let Name(name) = required(self.name, "name")?;
        let Object(parameters) = self.parameters.unwrap_or_default();
        if parameters.classification.is_some_and(|classes| classes > 0) {
            return Err(wrong("outputs", "ask for a classification, which is not served"));
        }
        if parameters.shared_memory_region.is_some() {
            return Err(wrong("outputs", "are to be in shared memory, which is not served"));
        }
        let own = optional(parameters.binary_data, "binary_data")?;
        Ok(Wanted { name, is_binary: own.unwrap_or(is_binary) })
    }
}

/// The elements of a tensor of texts, in one list or in lists of lists.
struct Data(Result<Vec<String>, String>);

impl JsonSchema for Data {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "maxItems": MAX_TEXTS, "items": {"type": "string"}})
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut texts = Vec::new();
        let read = deserializer.deserialize_any(Flat(&mut texts))?;
        Ok(Self(read.map(|()| texts)))
    }
}

/// Adds the texts of a value to a list.
struct Flat<'a>(&'a mut Vec<String>);

impl<'de> de::DeserializeSeed<'de> for Flat<'_> {
    type Value = Result<(), String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn no_text(found: &str) -> Result<(), String> {
    Err(format!("has {found} among its texts"))
}

impl<'de> Visitor<'de> for Flat<'_> {
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.0.len() == MAX_TEXTS {
            return Ok(Err(format!("has more than {MAX_TEXTS} texts")));
        }
        self.0.push(text.to_owned());
        Ok(Ok(()))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(no_text("a number"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(no_text("a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(no_text("a number"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(no_text("true or false"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(no_text("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(no_text("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while let Some(read) = seq.next_element_seed(Flat(&mut *self.0))? {
            if read.is_err() {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(read);
            }
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::input::tests::any_json;

    fn read_json(body: &Value) -> Result<Asked, String> {
        read(&HeaderMap::new(), body.to_string().as_bytes()).map_err(|error| error.message)
    }

    fn text(shape: &Value, data: &Value) -> Value {
        json!({"name": "text", "shape": shape, "datatype": "BYTES", "data": data})
    }

    fn binary(json: &Value, bytes: &[u8]) -> Result<Asked, String> {
        let json = json.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(JSON_LENGTH, HeaderValue::from(json.len()));
        read(&headers, &[json.as_bytes(), bytes].concat()).map_err(|error| error.message)
    }

    #[test]
    fn texts_come_as_json_in_any_nesting_or_as_bytes() {
        let plain = |texts: &[&str]| Asked {
            id: None,
            text: texts.iter().map(ToString::to_string).collect(),
            text_pair: None,
            outputs: None,
            is_binary: false,
        };
        for (shape, data) in [
            (json!([2]), json!(["a", "b"])),
            (json!([2, 1]), json!([["a"], ["b"]])),
            (json!([2, 1]), json!(["a", "b"])),
        ] {
            let asked = read_json(&json!({"inputs": [text(&shape, &data)]}));
            assert_eq!(asked, Ok(plain(&["a", "b"])), "{shape} {data}");
        }
        let tensor = json!({"name": "text", "shape": [2], "datatype": "BYTES",
                            "parameters": {"binary_data_size": 10}});
        let body = json!({"inputs": [tensor], "id": "7",
                          "parameters": {"binary_data_output": true},
                          "outputs": [{"name": "embedding", "parameters": {"binary_data": false}}]});
        let asked = binary(&body, b"\x01\0\0\0a\x01\0\0\0b").unwrap();
        assert_eq!(asked.text, ["a", "b"]);
        assert_eq!(asked.id.as_deref(), Some("7"));
        assert!(asked.is_binary);
        let wanted = Wanted { name: "embedding".to_owned(), is_binary: false };
        assert_eq!(asked.outputs, Some(vec![wanted]));
    }

    #[test]
    fn an_id_comes_back_whole_or_is_refused() {
        let with = |bytes: usize| {
            let tensor = text(&json!([1]), &json!(["a"]));
            read_json(&json!({"id": "i".repeat(bytes), "inputs": [tensor]}))
        };
        for bytes in [0, 260, 1_024] {
            assert_eq!(with(bytes).unwrap().id, Some("i".repeat(bytes)));
        }
        let problem = with(1_025).unwrap_err();
        assert!(problem.contains("id must be a text of at most 1024 bytes"), "{problem}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let one = text(&json!([1]), &json!(["a"]));
        let with = |field: &str, value: Value| {
            let mut tensor = one.clone();
            tensor[field] = value;
            json!({"inputs": [tensor]})
        };
        for (body, says) in [
            (json!({}), "inputs is missing"),
            (json!({"inputs": []}), "no tensor `text`"),
            (json!({"inputs": [one, one]}), "\"text\" twice"),
            (with("name", json!("input_ids")), "known are `text` and `text_pair`"),
            (with("name", json!("text_pair")), "no tensor `text`"),
            (with("datatype", json!("INT64")), "must be BYTES"),
            (with("shape", json!([2])), "1 texts and the shape [2]"),
            (with("shape", json!([1, 2])), "must be [n] or [n, 1]"),
            (with("data", json!(["a", 1])), "a number among its texts"),
            (with("data", Value::Null), "has no data"),
            (with("parameters", json!({"binary_data_size": 5})), "data twice"),
            (with("parameters", json!({"shared_memory_region": "x"})), "shared memory"),
            (json!({"inputs": [["text", [1], "BYTES", ["a"]]]}), "expected a JSON object"),
            (json!({"inputs": vec![one.clone(); 5]}), "more than 4 elements"),
            (
                json!({"inputs": [one], "outputs": [{"name": "x", "parameters": {"classification": 2}}]}),
                "classification",
            ),
        ] {
            let problem = read_json(&body).unwrap_err();
            assert!(problem.contains(says), "{body}: {problem}");
        }
        let bytes = json!({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES",
                           "parameters": {"binary_data_size": 5}}]});
        assert!(binary(&bytes, b"\x01\0\0\0").unwrap_err().contains("more than there are"));
        assert!(binary(&bytes, b"\x01\0\0\0ab").unwrap_err().contains("1 bytes of no tensor"));
        assert!(binary(&bytes, b"\x02\0\0\0a").unwrap_err().contains("ends within text 0"));
        let mut headers = HeaderMap::new();
        for length in ["900", "-1", "x"] {
            headers.insert(JSON_LENGTH, HeaderValue::from_static(length));
            let problem = read(&headers, b"{}").unwrap_err().message;
            assert!(problem.contains("must be a number of bytes"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn any_json_is_a_request_or_a_sentence_about_it(data in any_json(), field in 0..5_usize) {
            let mut tensor = text(&json!([1]), &json!(["a"]));
            let fields = ["name", "shape", "datatype", "data", "parameters"];
            tensor[fields[field]] = data;
            if let Err(problem) = read_json(&json!({"inputs": [tensor]})) {
                prop_assert!(problem.len() < 700, "{problem}");
            }
        }
    }
}
