//! What a client sent, short enough to be sent back.

use std::fmt::{self, Display, Write};

/// The longest text of a client that is repeated in an error, in bytes.
const LIMIT: usize = 200;
const ELLIPSIS: char = '…';

/// The beginning of what `value` prints, with an ellipsis if there was more. No more than that
/// is ever printed, however long the value is.
pub(super) fn clip(value: impl Display) -> String {
    let mut clipped = Clipped(String::new());
    if write!(clipped, "{value}").is_err() {
        clipped.0.push(ELLIPSIS);
    }
    clipped.0
}

struct Clipped(String);

impl Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LIMIT - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = text.floor_char_boundary(room);
        self.0.push_str(&text[..end]);
        // Ends the printing.
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_kept_or_its_beginning_is(text in ".{0,150}", times in 0..20_usize) {
            let text = text.repeat(times);
            let clipped = clip(&text);
            if text.len() <= LIMIT {
                prop_assert_eq!(clipped, text);
            } else {
                prop_assert!(clipped.len() <= LIMIT + ELLIPSIS.len_utf8());
                let kept = clipped.strip_suffix(ELLIPSIS);
                prop_assert!(kept.is_some_and(|kept| text.starts_with(kept)));
                prop_assert!(kept.is_some_and(|kept| kept.len() > LIMIT - 4));
            }
        }
    }

    #[test]
    fn printing_ends_when_there_is_enough() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("ä")?;
                }
            }
        }
        assert_eq!(clip(Endless), format!("{}…", "ä".repeat(LIMIT / 2)));
    }
}
