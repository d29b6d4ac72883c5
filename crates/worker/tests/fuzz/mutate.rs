//! Damage to bytes, drawn by lot from a seed.

/// Numbers by lot (`SplitMix64`, <https://doi.org/10.1145/2714064.2660195>).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`; 0 where that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap().max(1);
        usize::try_from(self.next() % limit).unwrap()
    }

    pub(crate) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let begin = self.below(length + 1);
        let end = begin + self.below((length - begin).min(most) + 1);
        begin..end
    }
}

/// Where readers of numbers change their minds.
const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "1e30",
    "0.5",
    "null",
];
/// What stands where something else was expected.
const PIECES: [&str; 12] =
    ["{}", "[]", "\"\"", "true", "[[[[", "{\"a\":", "\\u0000", "\u{feff}", "..", "/", "\0", "🦀"];

/// One to four kinds of damage, one on top of the other. `other` is another file of the same kind.
pub(crate) fn mutate(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        damage(random, &mut bytes, other);
    }
    bytes
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let length = bytes.len();
    match random.below(11) {
        0 => bytes.truncate(random.below(length + 1)),
        1 => {
            if let Some(byte) = bytes.get_mut(random.below(length)) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(random.below(length)) {
                *byte = *random.one_of(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'}', b',', b'-']);
            }
        }
        3 => {
            let range = random.range(length, 64);
            let copy = bytes[range].to_vec();
            let at = random.below(length + 1);
            bytes.splice(at..at, copy);
        }
        4 => drop(bytes.drain(random.range(length, 256))),
        5 => {
            let piece = random.range(other.len(), 512);
            let range = random.range(length, 512);
            bytes.splice(range, other[piece].iter().copied());
        }
        // The length of a header stands in the first eight bytes.
        6 => {
            let lengths = [0, 1, 2, 7, length as u64, u64::MAX, 1 << 40, 100_000_001];
            let text = random.one_of(&lengths).to_le_bytes();
            let room = length.min(text.len());
            bytes[..room].copy_from_slice(&text[..room]);
        }
        7 => {
            let at = random.below(length + 1);
            bytes.splice(at..at, random.one_of(&PIECES).bytes());
        }
        8 => {
            let at = random.below(length + 1);
            let deep = random.one_of(&["[", "{\"a\":"]).repeat(random.below(3000));
            bytes.splice(at..at, deep.into_bytes());
        }
        _ => number(random, bytes),
    }
}

/// Puts another number in the place of one.
fn number(random: &mut Random, bytes: &mut Vec<u8>) {
    let from = random.below(bytes.len());
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let Some(begin) = (from..bytes.len()).find(|at| is_digit(*at)) else {
        return;
    };
    let end = (begin..bytes.len()).find(|at| !is_digit(*at)).unwrap_or(bytes.len());
    let number = random.one_of(&NUMBERS);
    bytes.splice(begin..end, number.bytes());
}
