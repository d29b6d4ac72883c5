//! Whether and when a server that had no answer is asked again.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::client::{FIRST_PAUSE, LONGEST_PAUSE};

/// What is left of what may be asked.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whether the same request may be answered better later.
pub(super) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY]
            .contains(&status)
}

/// How long a server that had no answer wants to be left alone.
pub(super) fn retry_after(answer: &Response) -> Option<Duration> {
    after(answer.status(), answer.headers())
}

/// Only seconds: a date would need the server's clock to be right. The Hub does not say it itself, but when
/// it counts anew.
fn after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let stated = text(&RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    let is_limited = status == StatusCode::TOO_MANY_REQUESTS;
    // Of a second that is counted in whole ones, the rest may be to come.
    let anew =
        || is_limited.then(|| text(&RATE_LIMIT).and_then(reset))?.map(|t| t.saturating_add(1));
    stated.or_else(anew).map(Duration::from_secs)
}

/// In how many seconds it is counted anew, of `"resolvers";r=0;t=55`, where nothing is left of what may be
/// asked until then
/// (<https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-09.html>).
fn reset(text: &str) -> Option<u64> {
    let used_up = text.split(',').filter_map(|policy| {
        let of = |name: &str| {
            let mut parameters = policy.split(';').filter_map(|one| one.trim().split_once('='));
            parameters.find(|(found, _)| *found == name)?.1.parse::<u64>().ok()
        };
        (of("r")? == 0).then(|| of("t"))?
    });
    used_up.max()
}

pub(super) fn pause_after(attempt: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(attempt.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
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
    fn a_server_is_left_alone_for_as_long_as_it_says() {
        let of = |status, headers: &[(&HeaderName, &str)]| {
            let headers =
                headers.iter().map(|(name, text)| ((*name).clone(), text.parse().unwrap()));
            super::after(status, &headers.collect()).map(|pause| pause.as_secs())
        };
        let after = |headers: &[(&HeaderName, &str)]| of(StatusCode::TOO_MANY_REQUESTS, headers);
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(&RETRY_AFTER, " 7 ")]), Some(7));
        assert_eq!(after(&[(&RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT")]), None);
        for (text, expected) in [
            (r#""resolvers";r=0;t=55"#, Some(56)),
            (r#""resolvers"; r=0; t=55"#, Some(56)),
            (r#""api";r=0;t=5, "resolvers";r=0;t=9"#, Some(10)),
            (r#""api";r=3;t=55"#, None),
            (r#""api";r=0"#, None),
            ("r", None),
        ] {
            assert_eq!(after(&[(&RATE_LIMIT, text)]), expected, "{text}");
            assert_eq!(after(&[(&RATE_LIMIT, text), (&RETRY_AFTER, "7")]), Some(7), "{text}");
            assert_eq!(of(StatusCode::BAD_GATEWAY, &[(&RATE_LIMIT, text)]), None, "{text}");
        }
    }
}
