//! The token that lets somebody change what is served.

use std::path::{Path, PathBuf};

use axum::http::HeaderMap;
use lamplighter_protocol::{Failure, Reason};

use crate::bearer::{Sum, presented};

/// A file with the token in it. It is read for every command, so that a new token counts from the
/// moment that it is written.
#[derive(Clone, Debug)]
pub struct TokenFile(PathBuf);

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token file {} cannot be read: {error}", .path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("the token file {} is empty", .0.display())]
    Empty(PathBuf),
    #[error(
        "the header authorization must be `Bearer` and the token of the worker's \
         --admin-token-file"
    )]
    Wrong,
}

impl TokenFile {
    /// This file, which must have a token by now.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = Self(path.to_owned());
        file.read().map_err(|error| {
            Failure::new(Reason::ArgumentsInvalid, format!("--admin-token-file: {error}"))
        })?;
        Ok(file)
    }

    /// Whether these headers have the token.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), TokenError> {
        let token = self.read()?;
        let right = Sum::of(token.as_bytes());
        if presented(headers).is_some_and(|given| Sum::of(given).is(&right)) {
            Ok(())
        } else {
            Err(TokenError::Wrong)
        }
    }

    fn read(&self) -> Result<String, TokenError> {
        let text = std::fs::read_to_string(&self.0)
            .map_err(|error| TokenError::Read { path: self.0.clone(), error })?;
        let token = text.trim();
        if token.is_empty() {
            return Err(TokenError::Empty(self.0.clone()));
        }
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::AUTHORIZATION;

    use super::*;

    fn with(header: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(header).unwrap())])
    }

    #[test]
    fn only_the_token_of_the_moment_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "wick-and-oil\n").unwrap();
        let file = TokenFile::open(&path).unwrap();
        for right in ["Bearer wick-and-oil", "bearer wick-and-oil", "BEARER  wick-and-oil"] {
            assert!(file.check(&with(right)).is_ok(), "{right}");
        }
        assert!(matches!(file.check(&HeaderMap::new()), Err(TokenError::Wrong)));
        for wrong in
            ["Bearer", "Bearer ", "Basic wick-and-oil", "wick-and-oil", "Bearer wick-and-oi"]
        {
            assert!(matches!(file.check(&with(wrong)), Err(TokenError::Wrong)), "{wrong}");
        }
        std::fs::write(&path, "another").unwrap();
        assert!(file.check(&with("Bearer wick-and-oil")).is_err());
        assert!(file.check(&with("Bearer another")).is_ok());
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(file.check(&with("Bearer ")), Err(TokenError::Empty(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(file.check(&with("Bearer another")), Err(TokenError::Read { .. })));
        let failure = TokenFile::open(&path).unwrap_err();
        assert_eq!(failure.reason, Reason::ArgumentsInvalid);
        assert!(failure.message.contains("--admin-token-file"), "{failure}");
    }
}
