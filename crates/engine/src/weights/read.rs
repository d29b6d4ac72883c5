//! From files into memory, by several threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Floats, Stored, Values, Weights, header};
use crate::Dtype;
use crate::error::EngineError;

/// How much is read and widened at a time: a request that a network file system fills well, in a
/// buffer that stays in a core's caches.
const PIECE: usize = 1 << 20;

/// Reads the given safetensors files of the folder `dir` with `threads` threads; `progress` hears
/// of bytes as they are read.
///
/// Tensors of a module's own `<module>/model.safetensors` are called `<module>/<tensor>`: several
/// modules of one kind have tensors of the same names.
///
/// Numbers are read and widened, not mapped: a mapped file that is cut short by another process,
/// or a network volume that goes away, ends this process with a signal instead of an error.
pub fn read(
    dir: &Path,
    files: &[&str],
    threads: NonZeroUsize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Weights, EngineError> {
    let mut placed = Vec::new();
    let mut names = BTreeMap::new();
    let mut bytes = 0;
    let mut sources = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let path = dir.join(file);
        let (handle, size, tensors) = open(file, &path).map_err(|failed| failed.at(&path))?;
        for Placed { name, .. } in &tensors {
            if let Some(other) = names.insert(name.clone(), *file) {
                let problem = format!("{name} is also in {other}");
                return Err(EngineError::HeaderInvalid { file: (*file).to_owned(), problem });
            }
        }
        placed.extend(tensors.into_iter().map(|tensor| Placed { source: number, ..tensor }));
        sources.push(Source { path, handle });
        bytes += size;
    }
    fill(&sources, &mut placed, threads, progress)?;
    let tensors = placed.into_iter().map(|Placed { name, stored, .. }| (name, stored)).collect();
    Ok(Weights { tensors, bytes })
}

pub(super) enum Failed {
    Io(io::Error),
    Engine(EngineError),
}

impl Failed {
    fn at(self, path: &Path) -> EngineError {
        match self {
            Self::Io(source) => EngineError::Read { path: path.to_owned(), source },
            Self::Engine(error) => error,
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Source {
    path: PathBuf,
    handle: File,
}

/// A tensor and where its bytes are.
struct Placed {
    name: String,
    stored: Stored,
    source: usize,
    /// Its first byte in the file.
    offset: u64,
}

/// A file's handle, its size in bytes, and its tensors with room for their numbers.
fn open(file: &str, path: &Path) -> Result<(File, u64, Vec<Placed>), Failed> {
    let mut handle = File::open(path)?;
    let size = handle.metadata()?.len();
    let (metadata, begin) = header::read(file, size, &mut handle)?;
    let module = file.strip_suffix("/model.safetensors");
    let placed = metadata.offset_keys().into_iter().filter_map(|name| {
        let info = metadata.info(&name)?;
        let (from, to) = info.data_offsets;
        let stored = Stored {
            file: file.to_owned(),
            shape: info.shape.clone(),
            values: room(info.dtype, to - from),
        };
        let name = module.map_or(name.clone(), |module| format!("{module}/{name}"));
        Some(Placed { name, stored, source: 0, offset: begin + from as u64 })
    });
    let placed = placed.collect();
    Ok((handle, size, placed))
}

/// Zeros, of which the operating system makes memory when they are written over.
fn room(dtype: safetensors::Dtype, bytes: usize) -> Values {
    let dtype = match dtype {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::BF16,
        other => return Values::Other(other),
    };
    Values::Floats(Floats { dtype, values: vec![0.0; bytes / dtype.size()], non_finite: None })
}

/// A part of a tensor.
struct Piece<'a> {
    /// The tensor's place in the list.
    tensor: usize,
    source: &'a Source,
    offset: u64,
    dtype: Dtype,
    /// Where in the tensor the part begins.
    first: usize,
    values: &'a mut [f32],
}

/// Reads the numbers of all tensors, in the order in which they lie in their files.
fn fill(
    sources: &[Source],
    placed: &mut [Placed],
    threads: NonZeroUsize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), EngineError> {
    let mut pieces = Vec::new();
    for (tensor, Placed { stored, source, offset, .. }) in placed.iter_mut().enumerate() {
        let (Values::Floats(Floats { dtype, values, .. }), Some(source)) =
            (&mut stored.values, sources.get(*source))
        else {
            continue;
        };
        let (dtype, numbers) = (*dtype, PIECE / dtype.size());
        pieces.extend(values.chunks_mut(numbers).enumerate().map(|(number, values)| Piece {
            tensor,
            source,
            offset: *offset + (number * PIECE) as u64,
            dtype,
            first: number * numbers,
            values,
        }));
    }
    let threads = threads.get().min(pieces.len());
    let queue = Mutex::new(pieces.into_iter());
    let found =
        std::thread::scope(|scope| {
            // Where no further thread can be had, those that there are do it.
            let reader =
                |_| std::thread::Builder::new().spawn_scoped(scope, || work(&queue, progress)).ok();
            let readers: Vec<_> = (1..threads).map_while(reader).collect();
            let mut found = vec![work(&queue, progress)];
            found.extend(readers.into_iter().map(|reader| {
                reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }));
            found
        });
    for of_thread in found {
        for (tensor, index) in of_thread? {
            if let Values::Floats(Floats { non_finite, .. }) = &mut placed[tensor].stored.values {
                *non_finite = Some(non_finite.map_or(index, |other| other.min(index)));
            }
        }
    }
    Ok(())
}

/// Takes pieces until there are none, or until one cannot be read, which leaves none to the other
/// threads either. Says in which tensors a number is not finite, and where the first is.
fn work<'a>(
    queue: &Mutex<impl Iterator<Item = Piece<'a>>>,
    progress: &dyn Fn(u64),
) -> Result<Vec<(usize, usize)>, EngineError> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut buffer = vec![0; PIECE];
    let mut found = Vec::new();
    while let Some(Piece { tensor, source, offset, dtype, first, values }) = next() {
        let bytes = &mut buffer[..values.len() * dtype.size()];
        if let Err(error) = source.handle.read_exact_at(bytes, offset) {
            while next().is_some() {}
            return Err(EngineError::Read { path: source.path.clone(), source: error });
        }
        dtype.decode(bytes, values);
        found.extend(first_non_finite(values).map(|index| (tensor, first + index)));
        progress(bytes.len() as u64);
    }
    Ok(found)
}

/// Looks at all of them at once before it looks for the one: there hardly ever is one.
fn first_non_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    let all = values.iter().fold(true, |all, value| all & (value.to_bits() & EXPONENT != EXPONENT));
    if all { None } else { values.iter().position(|value| !value.is_finite()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use safetensors::tensor::TensorView;

    use super::*;

    /// Several pieces, the last of them short, and a neighbour on either side.
    const LONG: usize = PIECE / 4 * 2 + 5;

    fn written(dir: &Path, values: &[f32]) {
        let bytes = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let (long, halves, words) = (bytes(values), vec![0x00, 0x3c, 0x80, 0x3f], vec![7_u8; 8]);
        let view = |dtype, shape: usize, data| TensorView::new(dtype, vec![shape], data).unwrap();
        let tensors = HashMap::from([
            ("a", view(safetensors::Dtype::F16, 2, &halves)),
            ("b", view(safetensors::Dtype::F32, values.len(), &long)),
            ("c", view(safetensors::Dtype::BF16, 2, &halves)),
            ("d", view(safetensors::Dtype::I64, 1, &words)),
        ]);
        safetensors::serialize_to_file(tensors, None, &dir.join("w")).unwrap();
    }

    fn floats<'a>(weights: &'a Weights, name: &str) -> &'a Floats {
        match &weights.tensors[name].values {
            Values::Floats(floats) => floats,
            Values::Other(other) => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn any_number_of_threads_reads_the_same_and_tells_of_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "any numbers will do")]
        let mut values: Vec<f32> = (0..LONG).map(|index| index as f32 * 0.5).collect();
        values[LONG - 2] = f32::NAN;
        values[PIECE / 4 + 1] = f32::INFINITY;
        written(dir.path(), &values);
        for threads in [1, 2, 7] {
            let heard = AtomicU64::new(0);
            let progress = |bytes| {
                heard.fetch_add(bytes, Ordering::Relaxed);
            };
            let threads = NonZeroUsize::new(threads).unwrap();
            let weights = read(dir.path(), &["w"], threads, &progress).unwrap();
            let of_floats = (LONG * 4 + 2 * 4) as u64;
            assert_eq!(heard.into_inner(), of_floats);
            let long = floats(&weights, "b");
            let same = long.values.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && long.values.len() == LONG);
            assert_eq!(long.non_finite, Some(PIECE / 4 + 1), "the first of the two");
            assert_eq!(floats(&weights, "a").values, [1.0, 1.875]);
            assert_eq!(floats(&weights, "c").values, [0.007_812_5, 1.0]);
            assert_eq!(floats(&weights, "a").non_finite, None);
        }
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &vec![1.0; LONG]);
        let path = dir.path().join("w");
        let (handle, size, mut placed) = open("w", &path).ok().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(size - 20).unwrap();
        let sources = [Source { path: path.clone(), handle }];
        let threads = NonZeroUsize::new(3).unwrap();
        let error = fill(&sources, &mut placed, threads, &|_| {}).unwrap_err();
        assert!(matches!(error, EngineError::Read { path: named, .. } if named == path));
    }
}
