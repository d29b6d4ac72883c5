//! Who may ask: keys from a file, one a line.
//!
//! The file is read again while the worker serves, so that keys can be replaced: add the new one,
//! let clients change over, remove the old one. Keys are kept and compared as their SHA-256, and
//! appear in no log.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::HeaderName;

use crate::bearer::{self, Sum};
use crate::reload::{self, Contents};

/// Where clients put a key that cannot set `Authorization`.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The most keys of a file.
const MOST: usize = 1_000;

/// The keys that are in force.
#[derive(Debug, Default)]
pub struct Keys(RwLock<Vec<Sum>>);

/// Why a file of keys is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the file of keys cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The file is no text.
    #[error("the file of keys is not UTF-8")]
    NotText,
    /// A worker without a key would answer nobody.
    #[error("the file of keys holds no key; put one on each line")]
    Empty,
    /// There are too many.
    #[error("the file of keys holds more than {MOST} keys")]
    TooMany,
    /// A line that cannot be sent.
    #[error("line {0} of the file of keys cannot stand in a header; a key is one word of ASCII")]
    NotAKey(usize),
}

impl Keys {
    /// Reads a file, and goes on to read it for as long as the process runs.
    ///
    /// Must be called inside a tokio runtime.
    pub fn from_file(path: PathBuf) -> Result<Arc<Self>, KeysError> {
        let paths = vec![path];
        let contents = reload::read(&paths)?;
        let keys = Arc::new(Self::default());
        keys.take(&contents)?;
        let taking = Arc::clone(&keys);
        let take = move |contents: &Contents| taking.take(contents);
        tokio::spawn(reload::keep_up(paths, contents, reload::EVERY, "API keys", take));
        Ok(keys)
    }

    /// The keys of a text in the format of the file.
    pub fn from_text(text: &str) -> Result<Arc<Self>, KeysError> {
        Ok(Arc::new(Self(RwLock::new(sums(text)?))))
    }

    fn take(&self, contents: &Contents) -> Result<(), KeysError> {
        let bytes = contents.0.first().map(Vec::as_slice).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| KeysError::NotText)?;
        let sums = sums(text)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sums;
        Ok(())
    }

    /// Whether a request has a key that is in force.
    pub(super) fn hold(&self, headers: &HeaderMap) -> bool {
        // None is left out after another was right.
        presented(headers).fold(false, |any, key| any | self.holds(key))
    }

    fn holds(&self, key: &[u8]) -> bool {
        let sum = Sum::of(key);
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Every byte of every key is looked at, so that the time says nothing.
        let found = keys.iter().map(|known| u8::from(known.is(&sum)));
        std::hint::black_box(found.fold(0, |any, one| any | one)) == 1
    }
}

/// Lines without those that are empty or begin with `#`.
fn sums(text: &str) -> Result<Vec<Sum>, KeysError> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let sums = keys.map(|(number, key)| {
        let is_a_key = key.bytes().all(|byte| byte.is_ascii_graphic());
        if is_a_key { Ok(Sum::of(key.as_bytes())) } else { Err(KeysError::NotAKey(number)) }
    });
    let sums: Vec<Sum> = sums.collect::<Result<_, _>>()?;
    match sums.len() {
        0 => Err(KeysError::Empty),
        many if many > MOST => Err(KeysError::TooMany),
        _ => Ok(sums),
    }
}

/// `Authorization: Bearer KEY` and `x-api-key: KEY`. Either may be somebody else's: SDKs always send the
/// first, and so do gateways and meshes.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let own = headers.get(X_API_KEY).map(|value| value.as_bytes().trim_ascii());
    bearer::presented(headers).into_iter().chain(own)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_key_is_taken_from_either_header_and_no_other() {
        let keys = Keys::from_text("# for the search team\nwick\n\n  oil  \n").unwrap();
        for (name, value, holds) in [
            ("authorization", "Bearer wick", true),
            ("authorization", "bearer  oil", true),
            ("x-api-key", "oil", true),
            ("authorization", "Bearer Wick", false),
            ("authorization", "Bearer wic", false),
            ("authorization", "Bearer wick oil", false),
            ("authorization", "Bearer", false),
            ("authorization", "Bearer ", false),
            ("authorization", "Basic wick", false),
            ("authorization", "wick", false),
            ("x-api-key", "", false),
            ("x-api-key", "# for the search team", false),
            ("api-key", "wick", false),
        ] {
            assert_eq!(keys.hold(&with(name, value)), holds, "{name}: {value}");
        }
        assert!(!keys.hold(&HeaderMap::new()));
    }

    #[test]
    fn of_two_keys_either_may_be_somebody_elses() {
        let keys = Keys::from_text("wick").unwrap();
        for (bearer, own, holds) in [
            ("Bearer mesh.jwt", "wick", true),
            ("Bearer wick", "mesh", true),
            ("Basic d2ljaw==", "wick", true),
            ("Bearer wick", "wick", true),
            ("Bearer mesh.jwt", "mesh", false),
            ("Bearer", "", false),
        ] {
            let mut headers = with("authorization", bearer);
            headers.extend(with("x-api-key", own));
            assert_eq!(keys.hold(&headers), holds, "{bearer} {own}");
        }
    }

    #[test]
    fn a_file_that_would_let_nobody_in_or_everybody_is_refused() {
        assert!(matches!(Keys::from_text(""), Err(KeysError::Empty)));
        assert!(matches!(Keys::from_text("# a\n\n"), Err(KeysError::Empty)));
        assert!(matches!(Keys::from_text("a\nb c\n"), Err(KeysError::NotAKey(2))));
        assert!(matches!(Keys::from_text("é"), Err(KeysError::NotAKey(1))));
        assert!(matches!(Keys::from_text(&"a\n".repeat(MOST + 1)), Err(KeysError::TooMany)));
        let error = Keys::from_text("secret wick").unwrap_err().to_string();
        assert!(!error.contains("wick"), "{error}");
    }

    proptest! {
        #[test]
        fn only_the_keys_of_the_file_are_keys(
            keys in prop::collection::vec("[!-\"$-~][!-~]{0,20}", 1..20),
            other in "[!-~]{1,20}",
        ) {
            let held = Keys::from_text(&keys.join("\n")).unwrap();
            for key in &keys {
                prop_assert!(held.hold(&with("x-api-key", key)));
            }
            prop_assert_eq!(held.hold(&with("x-api-key", &other)), keys.contains(&other));
        }
    }
}
