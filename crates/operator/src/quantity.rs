//! Amounts as Kubernetes writes them.

/// The whole number that a quantity stands for, rounded up; None where it is no quantity, or a
/// negative one, or too large.
///
/// The form is that of
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
pub fn whole(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !number(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if integer.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("0{integer}{fraction}").parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(factor)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let value = if exponent < 0 { scaled.div_ceil(power) } else { scaled.checked_mul(power)? };
    u64::try_from(value).ok()
}

/// A factor, and a power of ten.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    let binary = |power: u32| Some((1_u128 << (10 * power), 0));
    let decimal = |exponent| Some((1, exponent));
    match suffix {
        "" => decimal(0),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("256Mi", Some(256 << 20)),
            ("1.5Gi", Some(3 << 29)),
            (".5Ki", Some(512)),
            ("+1k", Some(1_000)),
            ("128974848000m", Some(128_974_848)),
            ("1001m", Some(2)),
            ("129e6", Some(129_000_000)),
            ("1E3", Some(1_000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("25e-1", Some(3)),
            ("100Ei", None),
            ("1e40", None),
            ("-1", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1kb", None),
            ("Mi", None),
        ] {
            assert_eq!(whole(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9.+eEinumkKMGTP-]{0,40}|\\PC{0,20}") {
            let _read = whole(&text);
        }

        #[test]
        fn whole_mebibytes_are_read_back(mebibytes in 0..1_u64 << 40) {
            prop_assert_eq!(whole(&format!("{mebibytes}Mi")), Some(mebibytes << 20));
        }
    }
}
