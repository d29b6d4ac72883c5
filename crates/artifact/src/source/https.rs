//! `https://`: a folder of a web server.
//!
//! A web server lists nothing, so the folder has a `SHA256SUMS` with all of the artifact's files.

use std::ops::Range;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED,
};
use reqwest::{Method, StatusCode, Url};

use super::client::client;
use super::settings::{Environment, Settings, both};
use super::web::{Refusal, Wanted, Web};
use super::{Activity, Author, Body, Listing, Object, Source, Stated, check_length};
use crate::digest::Sha256Sum;
use crate::error::ArtifactError;
use crate::sums::{self, MAX_SUMS, SUMS_FILE};

/// As in Secrets of the type `kubernetes.io/basic-auth`
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#basic-authentication-secret>).
const USER: &str = "username";
const PASSWORD: &str = "password";
/// A bearer token.
const TOKEN: &str = "token";
const NAMES: [&str; 3] = [USER, PASSWORD, TOKEN];

/// How many files are asked for their sizes at a time.
const FILES_AT_A_TIME: usize = 8;

/// A folder of a web server.
struct Site {
    web: Web,
    base: Url,
}

/// A client for a folder, and the server's address. Nothing is sent yet.
pub(super) fn open(
    base: &str,
    credentials: Option<&Path>,
    environment: Environment<'_>,
) -> Result<(Box<dyn Source>, String), ArtifactError> {
    let settings = Settings::read(credentials, &NAMES, environment)?;
    let url = Url::parse(base).map_err(|error| ArtifactError::LocationInvalid {
        uri: base.to_owned(),
        problem: error.to_string(),
    })?;
    let store = url.origin().ascii_serialization();
    let (client, headers) = (client(&settings, base)?, authorization(&settings)?);
    let web = Web::new(client, headers, base.to_owned());
    Ok((Box::new(Site { web, base: url }), store))
}

/// Only from the folder: no variable of the environment has these names.
fn authorization(settings: &Settings<'_>) -> Result<HeaderMap, ArtifactError> {
    let login = both((USER, settings.file(USER)), (PASSWORD, settings.file(PASSWORD)))?;
    let (setting, value) = match (settings.file(TOKEN), login) {
        (None, None) => return Ok(HeaderMap::new()),
        (Some(token), _) => (TOKEN, format!("Bearer {token}")),
        (None, Some((user, password))) => {
            (PASSWORD, format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
        }
    };
    secret_header(setting, &value)
}

/// One header with a secret, which is never printed.
pub(super) fn secret_header(setting: &str, value: &str) -> Result<HeaderMap, ArtifactError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| ArtifactError::SettingInvalid {
        setting: setting.to_owned(),
        problem: "it cannot stand in a header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

impl Source for Site {
    fn list<'a>(&'a self, activity: &'a Activity) -> BoxFuture<'a, Result<Listing, ArtifactError>> {
        self.list_sums(activity).boxed()
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Body<'a>, ArtifactError>> {
        let wanted =
            Wanted { path: &object.path, size: object.size, e_tag: object.e_tag.as_deref() };
        let body = self.url(&object.path).map(|url| self.web.body(url, wanted, range));
        async move { body }.boxed()
    }
}

impl Site {
    async fn list_sums(&self, activity: &Activity) -> Result<Listing, ArtifactError> {
        let limit = usize::try_from(MAX_SUMS).unwrap_or(usize::MAX);
        let text = match self.web.document(&self.url(SUMS_FILE)?, limit).await {
            Err(Refusal::Status { status: StatusCode::NOT_FOUND, .. }) => {
                return Err(ArtifactError::FileMissing {
                    file: SUMS_FILE.to_owned(),
                    remedy: "a web server does not list its files, so write one beside them: \
                             find . -type f -exec sha256sum {} + > SHA256SUMS",
                });
            }
            text => text.map_err(|refusal| self.web.error(None, refusal))?,
        };
        activity.heard(text.len() as u64);
        let mut listed = sums::parse(&text).map_err(|problem| ArtifactError::SumsInvalid {
            file: SUMS_FILE.to_owned(),
            problem,
        })?;
        check_length(&self.web.uri, listed.len())?;
        // It lists itself as it was while it was empty, or not at all.
        listed.insert(SUMS_FILE.to_owned(), Sha256Sum::of_bytes(&text));
        let files = listed.into_iter().map(|(path, sum)| self.look_at(path, sum, activity));
        let objects = stream::iter(files).buffered(FILES_AT_A_TIME).try_collect().await?;
        Ok(Listing { objects, commit: None })
    }

    async fn look_at(
        &self,
        path: String,
        sum: Sha256Sum,
        activity: &Activity,
    ) -> Result<Object, ArtifactError> {
        let url = self.url(&path)?;
        let answer = match self.web.send(&Method::HEAD, &url, &HeaderMap::new()).await {
            Err(Refusal::Status { status: StatusCode::NOT_FOUND, .. }) => {
                return Err(sums::missing(path));
            }
            answer => answer.map_err(|refusal| self.web.error(Some(&path), refusal))?,
        };
        activity.heard(0);
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        // A client sees an answer to HEAD as one without a body, whatever its length says.
        let size = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let size = size.ok_or_else(|| ArtifactError::Download {
            uri: self.web.uri.clone(),
            found: format!("the server does not say how long {path} is"),
        })?;
        Ok(Object {
            size,
            // A weak one says that the contents mean the same, not that they are the same.
            e_tag: header(ETAG).filter(|e_tag| !e_tag.starts_with("W/")).map(str::to_owned),
            version: header(LAST_MODIFIED).map(str::to_owned),
            sha256: Some(Stated { sum, by: Author::SumsFile }),
            is_whole: header(ACCEPT_RANGES) != Some("bytes"),
            path,
            ..Object::default()
        })
    }

    fn url(&self, path: &str) -> Result<Url, ArtifactError> {
        below(&self.base, path).ok_or_else(|| ArtifactError::PathRefused {
            uri: self.web.uri.clone(),
            path: path.to_owned(),
            problem: "it cannot be part of a web address",
        })
    }
}

/// The address of a path below a base; each component is encoded, so that none leads elsewhere.
pub(super) fn below(base: &Url, path: &str) -> Option<Url> {
    if path.split('/').any(|component| [".", ".."].contains(&component)) {
        return None;
    }
    let mut url = base.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::{folder, variables};
    use super::*;

    #[test]
    fn a_path_stays_below_its_base() {
        let base = Url::parse("https://models.example/a/").unwrap();
        for (path, expected) in [
            ("config.json", Some("https://models.example/a/config.json")),
            ("1_Pooling/a b?c#d%2e", Some("https://models.example/a/1_Pooling/a%20b%3Fc%23d%252e")),
            ("../x", None),
            ("a/../x", None),
        ] {
            assert_eq!(below(&base, path).as_ref().map(Url::as_str), expected, "{path}");
        }
    }

    #[test]
    fn who_asks_is_decided_by_the_folder() {
        let header = |files: &[(&str, &str)]| {
            let folder = folder(files);
            let environment = variables(&[("token", "from-the-environment")]);
            let settings = Settings::read(Some(folder.path()), &NAMES, &environment).unwrap();
            let headers = authorization(&settings)?;
            Ok(headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()))
        };
        let found: Result<_, ArtifactError> = header(&[(TOKEN, "t")]);
        assert_eq!(found.unwrap().as_deref(), Some("Bearer t"));
        // The example of https://www.rfc-editor.org/rfc/rfc7617#section-2.
        let login = header(&[(USER, "Aladdin"), (PASSWORD, "open sesame")]).unwrap();
        assert_eq!(login.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        for (files, setting) in [(vec![(USER, "a")], PASSWORD), (vec![(TOKEN, "a\nb")], TOKEN)] {
            let error = header(&files).unwrap_err();
            assert!(error.to_string().contains(&format!("setting {setting} ")), "{error}");
        }
    }
}
