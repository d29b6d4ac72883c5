//! Memory of numbers that is used again.

/// Bytes of a line of the cache.
const LINE: usize = 64;
/// Memory that grows when more is asked for than ever before, and otherwise stays as it is: no page of
/// it is given back and taken anew. It begins with a line of the cache, so that no vector lies across
/// two lines.
#[derive(Debug, Default)]
pub(crate) struct Buffer<T = f32> {
    numbers: Vec<T>,
    start: usize,
}

impl<T: Clone + Default> Buffer<T> {
    /// Numbers that may lie before the first whole line.
    const SLACK: usize = LINE / size_of::<T>() - 1;

    /// Of so many zeros.
    pub(crate) fn zeros(count: usize) -> Self {
        let numbers = vec![T::default(); count + Self::SLACK];
        let start = numbers.as_ptr().align_offset(LINE).min(Self::SLACK);
        Self { numbers, start }
    }

    /// So many numbers; whatever was left there.
    pub(crate) fn take(&mut self, count: usize) -> &mut [T] {
        if self.numbers.len() < count + Self::SLACK {
            *self = Self::zeros(count);
        }
        &mut self.numbers[self.start..][..count]
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(self.numbers.as_slice()) as u64
    }

    /// The first of what was taken.
    pub(crate) fn get(&self, count: usize) -> &[T] {
        &self.numbers[self.start..][..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_line_and_moves_only_to_grow() {
        let mut buffer = Buffer::<f32>::default();
        for (count, moves) in [(5, true), (3, false), (0, false), (5, false), (4096, true)] {
            let before = buffer.numbers.as_ptr();
            let numbers = buffer.take(count);
            assert_eq!(numbers.len(), count);
            assert_eq!(numbers.as_ptr().align_offset(LINE), 0);
            numbers.fill(1.0);
            assert_eq!(buffer.get(count), vec![1.0; count]);
            assert_eq!(buffer.numbers.as_ptr() != before, moves, "{count}");
        }
    }
}
