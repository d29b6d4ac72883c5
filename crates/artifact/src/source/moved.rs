//! Where a server sent whoever asked for a file: the next parts of it are asked for there. A server that
//! only knows where files are counts how often it is asked, and refuses those who ask for thousands of
//! parts (<https://huggingface.co/docs/hub/rate-limits>).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::Url;

/// Of each file by its address.
#[derive(Default)]
pub(super) struct Moved(Mutex<HashMap<Url, Known>>);

/// What is known of a file.
#[derive(Default)]
struct Known {
    place: Option<Url>,
    /// It was had from a place without the server.
    was_had: bool,
    /// Its places are good for one request each.
    only_once: bool,
}

impl Moved {
    /// Where the file was last, if that is known.
    pub(super) fn place(&self, url: &Url) -> Option<Url> {
        self.lock().get(url)?.place.clone()
    }

    /// The answer to a request to the server came from there. Of a place of the server's own nothing is
    /// noted: who asks would have to say who he is.
    pub(super) fn note(&self, url: &Url, from: &Url) {
        if url.origin() != from.origin() {
            let mut files = self.lock();
            let known = files.entry(url.clone()).or_default();
            if !known.only_once {
                known.place.get_or_insert_with(|| from.clone());
            }
        }
    }

    /// The file was had at a place.
    pub(super) fn answered(&self, url: &Url) {
        self.lock().entry(url.clone()).or_default().was_had = true;
    }

    /// There was no answer at a place, which may pass or not. An address that was good for several requests
    /// has run out, and the server knows another.
    pub(super) fn refused(&self, url: &Url, place: &Url, may_pass: bool) {
        let mut files = self.lock();
        let known = files.entry(url.clone()).or_default();
        // Others may have heard of another place meanwhile.
        if known.place.as_ref() == Some(place) {
            known.place = None;
            known.only_once = !may_pass && !known.was_had;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Url, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_file_is_asked_for_where_it_was_until_it_is_refused_there() {
        let file = url("https://hub.example/file");
        let [first, second, third] =
            ["https://a.example/1", "https://a.example/2", "https://a.example/3"].map(url);
        let moved = Moved::default();
        moved.note(&file, &url("https://hub.example/elsewhere"));
        assert_eq!(moved.place(&file), None, "the server itself has it");
        moved.note(&file, &first);
        moved.note(&file, &second);
        assert_eq!(moved.place(&file), Some(first.clone()));
        moved.refused(&file, &first, true);
        assert_eq!(moved.place(&file), None);
        moved.note(&file, &second);
        moved.refused(&file, &first, false);
        assert_eq!(moved.place(&file), Some(second.clone()), "who was refused was late");
        // An address that was good runs out, and so may the next one before it is used again.
        moved.answered(&file);
        for place in [&second, &third] {
            moved.note(&file, place);
            moved.refused(&file, place, false);
            assert_eq!(moved.place(&file), None);
        }
        moved.note(&file, &first);
        assert_eq!(moved.place(&file), Some(first));
    }

    #[test]
    fn what_is_refused_at_once_was_meant_for_one_request_and_so_is_the_next_one() {
        let (file, place) = (url("https://hub.example/file"), url("https://a.example/1"));
        let moved = Moved::default();
        moved.note(&file, &place);
        moved.refused(&file, &place, false);
        moved.note(&file, &place);
        assert_eq!(moved.place(&file), None);
    }
}
