//! Numbers as people read them, the same in the words of operator and worker.

/// A number of bytes in the largest unit that it has one of, with at most one decimal, rounded
/// down: `512 B`, `1.5 KiB`, `2 GiB`.
pub fn bytes_in_words(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_fits_is_taken() {
        for (bytes, words) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (1_587, "1.5 KiB"),
            (91_624_612, "87.3 MiB"),
            (2 << 30, "2 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(bytes_in_words(bytes), words);
        }
    }
}
