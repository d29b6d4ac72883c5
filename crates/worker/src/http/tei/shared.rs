//! Fields that most routes of this family have.

use std::borrow::Cow;

use lamplighter_engine::TooLong;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::http::error::ApiError;
use crate::http::fields::{Field, Name, Type, Value, optional};

/// Which end of a text is cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Left,
    Right,
}

impl Value for Direction {
    const WHAT: &'static str = "Left or Right";
    const TYPE: Type = Type::Text;

    fn of_text(text: &str) -> Option<Self> {
        match text {
            "Left" | "left" => Some(Self::Left),
            "Right" | "right" => Some(Self::Right),
            _ => None,
        }
    }
}

impl JsonSchema for Direction {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Direction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["Left", "Right", "left", "right"]})
    }
}

/// What becomes of texts that are too long: they are cut unless the client forbids it.
pub(super) fn too_long(
    truncate: Option<Field<bool>>,
    direction: Option<Field<Direction>>,
) -> Result<TooLong, ApiError> {
    let truncate = optional(truncate, "truncate")?.unwrap_or(true);
    let direction = optional(direction, "truncation_direction")?;
    Ok(match direction {
        _ if !truncate => TooLong::Refuse,
        Some(Direction::Left) => TooLong::CutStart,
        Some(Direction::Right) | None => TooLong::CutEnd,
    })
}

/// A prompt that the artifact does not have here must not be left out in silence: the vectors would
/// be others.
pub(super) fn no_prompt(prompt: Option<Field<Name>>) -> Result<(), ApiError> {
    match optional(prompt, "prompt_name")? {
        None => Ok(()),
        Some(Name(name)) => {
            let message = format!(
                "prompt_name is {name:?}, and prompts of artifacts are not read here; put the \
                 prompt before the text"
            );
            Err(ApiError::invalid("prompt_name", "unsupported_value", message))
        }
    }
}
