//! Requests to servers that are no object stores: tried again, and taken up where they broke off.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::again::{may_pass, pause_after, retry_after};
use super::client::ATTEMPTS;
use super::moved::Moved;
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
    /// Where the server sent those who asked for files.
    moved: Moved,
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
    pub(super) fn new(client: reqwest::Client, headers: HeaderMap, uri: String) -> Self {
        Self { client, headers, uri, moved: Moved::default() }
    }

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
                    let (status, after) = (answer.status(), retry_after(&answer));
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

const ENDED: &str = "the answer ended early";

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
    /// Where it came from, if the server was not asked.
    place: Option<Url>,
}

/// Why an answer is none.
enum Unfit {
    /// It is about other contents.
    Changed,
    /// It is not what was asked for.
    Wrong(String),
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
        let came = answer.response.chunk().await;
        let came = came.map_err(|error| chain(&error));
        let mut piece = match came.and_then(|piece| piece.ok_or_else(|| ENDED.to_owned())) {
            Ok(piece) => piece,
            Err(found) => {
                // The server may know a better place.
                if let Some(place) = &answer.place {
                    self.web.moved.refused(&self.url, place, true);
                }
                return Ok(Err(found));
            }
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
        let headers = self.headers();
        if let Some(answer) = self.ask_where_it_was(&headers).await {
            return Ok(Ok(answer));
        }
        let changed = || ArtifactError::ChangedMeanwhile {
            uri: self.web.uri.clone(),
            file: self.wanted.path.to_owned(),
        };
        let asked = self.web.send(&Method::GET, &self.url, &headers).await;
        let response = asked.map_err(|refusal| match refusal {
            // The file has become shorter.
            Refusal::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. } => changed(),
            other => self.web.error(Some(self.wanted.path), other),
        })?;
        let from = response.url().clone();
        match self.judge(response) {
            Ok(answer) => {
                self.web.moved.note(&self.url, &from);
                Ok(Ok(answer))
            }
            Err(Unfit::Changed) => Err(changed()),
            Err(Unfit::Wrong(found)) => Ok(Err(found)),
        }
    }

    /// The answer of the place to which the server sent others before, if it can be used. Who asks is
    /// nobody's business there, as it is not when a client is sent on.
    async fn ask_where_it_was(&self, headers: &HeaderMap) -> Option<Answer> {
        let (moved, url) = (&self.web.moved, &self.url);
        let place = moved.place(url)?;
        let Ok(response) = self.web.client.get(place.clone()).headers(headers.clone()).send().await
        else {
            moved.refused(url, &place, true);
            return None;
        };
        let (status, after) = (response.status(), retry_after(&response));
        if status.is_success() {
            if let Ok(answer) = self.judge(response) {
                moved.answered(url);
                return Some(Answer { place: Some(place), ..answer });
            }
            moved.refused(url, &place, true);
        } else {
            moved.refused(url, &place, may_pass(status));
            if may_pass(status) {
                let pause = after.unwrap_or_else(|| pause_after(self.attempt));
                tokio::time::sleep(pause.min(LONGEST_RETRY_AFTER)).await;
            }
        }
        None
    }

    fn headers(&self) -> HeaderMap {
        let range = format!("bytes={}-{}", self.range.start, self.range.end - 1);
        let if_match = self.wanted.e_tag.map(|e_tag| (IF_MATCH, e_tag.to_owned()));
        let all = [(RANGE, range)].into_iter().chain(if_match);
        all.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
    }

    /// Whether it is an answer to what was asked.
    fn judge(&self, response: Response) -> Result<Answer, Unfit> {
        let e_tag = response.headers().get(ETAG).and_then(|e_tag| e_tag.to_str().ok());
        if let (Some(listed), Some(found)) = (self.wanted.e_tag, e_tag)
            && listed != found
        {
            return Err(Unfit::Changed);
        }
        let range = || response.headers().get(CONTENT_RANGE)?.to_str().ok();
        let (begin, size) = match response.status() {
            StatusCode::PARTIAL_CONTENT => range()
                .and_then(content_range)
                .ok_or_else(|| Unfit::Wrong("a part without Content-Range".to_owned()))?,
            _ => (0, response.content_length()),
        };
        if size.is_some_and(|size| size != self.wanted.size) {
            return Err(Unfit::Changed);
        }
        let start = self.range.start;
        let skip = start.checked_sub(begin).ok_or_else(|| {
            Unfit::Wrong(format!("a part from byte {begin} on, not from {start}"))
        })?;
        Ok(Answer { response, skip, place: None })
    }
}

/// The first byte and the whole size, of `bytes <first>-<last>/<size>`
/// (<https://www.rfc-editor.org/rfc/rfc9110#field.content-range>).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.parse().ok()?;
    Some((first, size.parse().ok()))
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
    fn a_content_range_is_read_or_refused() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes", "bytes */10", "items 5-9/10", "bytes a-9/10", "bytes 5/10"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
