//! Requests to servers that are no object stores: tried again, and taken up where they broke off.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};

use super::client::{ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE};
use super::{Body, brief};
use crate::error::ArtifactError;

/// The longest that a server may ask to be left alone for. What it asks beyond that is an error
/// that says so: whoever started the fetch can come back later.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How much of the body of a refusal is read.
const MAX_REFUSAL: usize = 2_000;

/// A client with what it sends along.
pub(super) struct Web {
    pub(super) client: reqwest::Client,
    /// As whom: `Authorization` or nothing.
    pub(super) headers: HeaderMap,
    /// The artifact's address, for errors.
    pub(super) uri: String,
}

/// Why there was no answer that could be used.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server said no.
    Status {
        status: StatusCode,
        /// What it said about it.
        words: String,
    },
    /// It cannot be reached, broke off, or went on saying that it cannot now.
    Failed(String),
}

/// Which contents of a file are meant.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The file, for errors.
    pub(super) path: &'a str,
    /// Its whole size.
    pub(super) size: u64,
    /// Its entity tag, if the server compares them.
    pub(super) e_tag: Option<&'a str>,
}

impl Web {
    /// The answer with a status of success.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let mut attempt = 1;
        loop {
            let request = self.client.request(method.clone(), url.clone());
            let sent = request.headers(self.headers.clone()).headers(headers.clone()).send().await;
            let (found, pause) = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let (status, after) = (answer.status(), retry_after(answer.headers()));
                    let words = words(answer).await;
                    if !may_pass(status) {
                        return Err(Refusal::Status { status, words });
                    }
                    (format!("{status}: {words}"), after)
                }
                Err(error) => (chain(&error), None),
            };
            let pause = pause.unwrap_or_else(|| pause_after(attempt));
            if pause > LONGEST_RETRY_AFTER {
                let seconds = pause.as_secs();
                return Err(Refusal::Failed(format!(
                    "{found}; the server asks to come back in {seconds} s"
                )));
            }
            if attempt >= ATTEMPTS {
                return Err(Refusal::Failed(format!("{found}, {attempt} times")));
            }
            tracing::debug!(%url, found, attempt, ?pause, "asking again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// All of a short document.
    pub(super) async fn document(&self, url: &Url, limit: usize) -> Result<Vec<u8>, Refusal> {
        let mut attempt = 1;
        loop {
            let answer = self.send(&Method::GET, url, &HeaderMap::new()).await?;
            match whole(answer, limit).await {
                Err(found) if attempt >= ATTEMPTS => return Err(Refusal::Failed(found)),
                Err(found) => tracing::debug!(%url, found, attempt, "asking again"),
                Ok(document) => return Ok(document),
            }
            tokio::time::sleep(pause_after(attempt)).await;
            attempt += 1;
        }
    }

    /// The bytes of a range, which must not be empty.
    pub(super) fn body<'a>(&'a self, url: Url, wanted: Wanted<'a>, range: Range<u64>) -> Body<'a> {
        let reading = Reading { web: self, url, wanted, range, answer: None, attempt: 1 };
        stream::try_unfold(reading, Reading::next).boxed()
    }

    /// What the server's answer means. `file` is the file that was asked for, if one was.
    pub(super) fn error(&self, file: Option<&str>, refusal: Refusal) -> ArtifactError {
        let uri = self.uri.clone();
        match (refusal, file) {
            (Refusal::Status { status, words }, _)
                if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) =>
            {
                ArtifactError::AuthDenied { uri, found: format!("{status}: {words}") }
            }
            (Refusal::Status { status, .. }, Some(file))
                if [StatusCode::NOT_FOUND, StatusCode::GONE, StatusCode::PRECONDITION_FAILED]
                    .contains(&status) =>
            {
                ArtifactError::ChangedMeanwhile { uri, file: file.to_owned() }
            }
            (Refusal::Status { status, .. }, None)
                if [StatusCode::NOT_FOUND, StatusCode::GONE].contains(&status) =>
            {
                ArtifactError::NotFound { uri }
            }
            (Refusal::Status { status, words }, _) => {
                ArtifactError::Download { uri, found: format!("{status}: {words}") }
            }
            (Refusal::Failed(found), _) => ArtifactError::Download { uri, found },
        }
    }
}

/// A range that is being read.
struct Reading<'a> {
    web: &'a Web,
    url: Url,
    wanted: Wanted<'a>,
    /// What is missing.
    range: Range<u64>,
    answer: Option<Answer>,
    /// Which attempt it is since the last byte.
    attempt: u32,
}

/// An answer, and how many of its bytes come before those that are missing.
struct Answer {
    response: Response,
    skip: u64,
}

impl Reading<'_> {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ArtifactError> {
        while !self.range.is_empty() {
            match self.piece().await? {
                Ok(piece) if !piece.is_empty() => {
                    self.range.start += piece.len() as u64;
                    self.attempt = 1;
                    return Ok(Some((piece, self)));
                }
                Ok(_) => {}
                Err(found) => {
                    self.answer = None;
                    if self.attempt >= ATTEMPTS {
                        let found = format!("{}: {found}", self.wanted.path);
                        return Err(self.web.error(None, Refusal::Failed(found)));
                    }
                    tracing::debug!(url = %self.url, found, "asking for the rest");
                    tokio::time::sleep(pause_after(self.attempt)).await;
                    self.attempt += 1;
                }
            }
        }
        Ok(None)
    }

    /// The next bytes, which may be none; inside, why asking again may help.
    async fn piece(&mut self) -> Result<Result<Bytes, String>, ArtifactError> {
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => match self.ask().await? {
                Ok(answer) => answer,
                Err(found) => return Ok(Err(found)),
            },
        };
        let mut piece = match answer.response.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(Err("the answer ended early".to_owned())),
            Err(error) => return Ok(Err(chain(&error))),
        };
        let skipped = answer.skip.min(piece.len() as u64);
        answer.skip -= skipped;
        // Both fit: they are at most the piece's length, which is in memory.
        let piece_length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        drop(piece.split_to(piece_length(skipped)));
        piece.truncate(piece_length(self.range.end - self.range.start));
        self.answer = Some(answer);
        Ok(Ok(piece))
    }

    async fn ask(&self) -> Result<Result<Answer, String>, ArtifactError> {
        let changed = || ArtifactError::ChangedMeanwhile {
            uri: self.web.uri.clone(),
            file: self.wanted.path.to_owned(),
        };
        let mut headers = HeaderMap::new();
        let range = format!("bytes={}-{}", self.range.start, self.range.end - 1);
        let if_match = self.wanted.e_tag.map(|e_tag| (IF_MATCH, e_tag.to_owned()));
        for (name, value) in [(RANGE, range)].into_iter().chain(if_match) {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        let asked = self.web.send(&Method::GET, &self.url, &headers).await;
        let response = asked.map_err(|refusal| match refusal {
            // The file has become shorter.
            Refusal::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. } => changed(),
            other => self.web.error(Some(self.wanted.path), other),
        })?;
        let e_tag = response.headers().get(ETAG).and_then(|e_tag| e_tag.to_str().ok());
        if let (Some(listed), Some(found)) = (self.wanted.e_tag, e_tag)
            && listed != found
        {
            return Err(changed());
        }
        let (begin, size) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                match response
                    .headers()
                    .get(CONTENT_RANGE)
                    .and_then(|v| content_range(v.to_str().ok()?))
                {
                    Some(found) => found,
                    None => return Ok(Err("a part without Content-Range".to_owned())),
                }
            }
            _ => (0, response.content_length()),
        };
        if size.is_some_and(|size| size != self.wanted.size) {
            return Err(changed());
        }
        match self.range.start.checked_sub(begin) {
            Some(skip) => Ok(Ok(Answer { response, skip })),
            None => Ok(Err(format!("a part from byte {begin} on, not from {}", self.range.start))),
        }
    }
}

/// The first byte and the whole size, of `bytes <first>-<last>/<size>`
/// (<https://www.rfc-editor.org/rfc/rfc9110#field.content-range>).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.parse().ok()?;
    Some((first, size.parse().ok()))
}

/// Whether the same request may be answered better later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY]
            .contains(&status)
}

/// Only seconds: a date would need the server's clock to be right.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn pause_after(attempt: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(attempt.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
}

/// What a refusal says: the Hub's header for it, else the beginning of its body.
async fn words(answer: Response) -> String {
    let header = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
    if let Some(message) = header("x-error-message").or_else(|| header("x-error-code")) {
        return brief(&message);
    }
    match whole(answer, MAX_REFUSAL).await {
        Ok(body) => brief(String::from_utf8_lossy(&body).trim()),
        Err(_) => String::new(),
    }
}

/// The body, or why it cannot be had.
async fn whole(mut answer: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(piece)) if body.len() + piece.len() > limit => {
                return Err(format!("the answer is longer than {limit} bytes"));
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(error) => return Err(chain(&error)),
        }
    }
}

/// An error with its causes: the outermost only says which request failed. Addresses that a
/// server redirected to hold signatures, which are no one's business.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match error.url() {
        Some(url) => format!("request to {} failed", url.host_str().unwrap_or("the server")),
        None => "request failed".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    brief(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let pauses: Vec<u128> = (1..=7).map(|attempt| pause_after(attempt).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, passes) in [
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (501, false),
            (404, false),
            (401, false),
        ] {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), passes, "{status}");
        }
    }

    #[test]
    fn a_content_range_is_read_or_refused() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes", "bytes */10", "items 5-9/10", "bytes a-9/10", "bytes 5/10"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
