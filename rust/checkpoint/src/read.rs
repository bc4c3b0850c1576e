//! Reading one file: its header at once, its tensors when asked for, by a few threads.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use memmap2::{MmapMut, MmapOptions};

use crate::error::{Error, Result};
use crate::header::{Entry, Header, MOST_HEADER_BYTES, Refusal};

/// Bytes that a thread takes at a time.
const PIECE: u64 = 4 << 20;
/// Bytes that are read and hashed at a time, so that they are hashed from the cache.
const BLOCK: usize = 512 * 1024;
/// More threads than this only wait for memory.
const MOST_THREADS: usize = 4;

/// An open safetensors file whose header was checked.
#[derive(Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    pub header: Header,
    file: File,
    /// Where the tensors' bytes begin.
    data: u64,
    map: OnceLock<MmapMut>,
}

/// Where a tensor's bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub entry: usize,
    /// Null to read and check only.
    pub address: *mut u8,
}

// SAFETY: an address only; who makes one says for how long it is valid, and for whom.
unsafe impl Sync for Target {}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        // Opening a pipe or a device could wait for ever.
        let kind = fs::metadata(path).map_err(Error::io(path))?;
        if kind.is_dir() {
            return Err(Error::io(path)(std::io::ErrorKind::IsADirectory.into()));
        }
        if !kind.is_file() {
            return Err(Error::corrupt(path, "it is not a regular file"));
        }
        let mut file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(Error::corrupt(path, format!("it has {length} bytes, too few for a header")));
        }
        file.read_exact(&mut size).map_err(Error::io(path))?;
        let size = u64::from_le_bytes(size);
        if size > MOST_HEADER_BYTES || size > length - 8 {
            return Err(Error::corrupt(path, format!("its header would take {size} bytes of {length}")));
        }
        let mut json = vec![0; size as usize];
        file.read_exact(&mut json).map_err(Error::io(path))?;
        let header = Header::parse(&json, length - 8 - size).map_err(|refusal| match refusal {
            Refusal::Unsound(reason) => Error::corrupt(path, reason),
            Refusal::Newer(found) => Error::Newer { path: path.into(), found },
        })?;
        Ok(Self { path: path.into(), header, file, data: 8 + size, map: OnceLock::new() })
    }

    /// Reads tensors to their targets; with `checked`, compares their bytes with what was written.
    /// Where that fails, the targets hold anything.
    ///
    /// # Safety
    /// Every address is null or valid for writes of its tensor's bytes, which nothing else uses.
    pub unsafe fn read(&self, targets: &[Target], checked: bool) -> Result<()> {
        let mut pieces = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            let bytes = self.header.entries[target.entry].bytes;
            pieces.extend((0..bytes).step_by(PIECE as usize).map(|from| (at, from, PIECE.min(bytes - from))));
        }
        let hashes: Vec<Mutex<Option<crc32fast::Hasher>>> = pieces.iter().map(|_| Mutex::default()).collect();
        let failure: Mutex<Option<Error>> = Mutex::default();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut scratch = Vec::new();
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                let Some(&(at, from, bytes)) = pieces.get(piece) else { return };
                // SAFETY: pieces of a target are disjoint, and within it.
                match unsafe { self.read_piece(targets[at], from, bytes, checked, &mut scratch) } {
                    Ok(hasher) => *lock(&hashes[piece]) = Some(hasher),
                    Err(error) => {
                        next.store(pieces.len(), Ordering::Relaxed);
                        lock(&failure).get_or_insert(error);
                    }
                }
            }
        };
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..available.min(MOST_THREADS).min(pieces.len()) {
                // Where the system gives no thread, this one does all of it.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        if let Some(error) = lock(&failure).take() {
            return Err(error);
        }
        if checked { self.compare(targets, &pieces, hashes) } else { Ok(()) }
    }

    /// # Safety
    /// As of [`Self::read`], for `bytes` bytes from byte `from` of the target's tensor.
    unsafe fn read_piece(
        &self,
        target: Target,
        from: u64,
        bytes: u64,
        checked: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<crc32fast::Hasher> {
        let entry = &self.header.entries[target.entry];
        let mut hasher = crc32fast::Hasher::new();
        scratch.resize(BLOCK, 0);
        for done in (0..bytes).step_by(BLOCK) {
            let block = &mut scratch[..BLOCK.min((bytes - done) as usize)];
            self.file.read_exact_at(block, self.data + entry.start + from + done).map_err(|error| {
                match error.kind() {
                    ErrorKind::UnexpectedEof => Error::corrupt(&self.path, "it became shorter while it was read"),
                    _ => Error::io(&self.path)(error),
                }
            })?;
            if entry.dtype.is_bool() && block.iter().any(|&byte| byte > 1) {
                return Err(Error::corrupt(&self.path, format!("'{}' holds bytes that are no booleans", entry.name)));
            }
            if checked {
                hasher.update(block);
            }
            if !target.address.is_null() {
                // SAFETY: the block's place in the target, by the caller's promise.
                unsafe { copy_past_caches(block, target.address.wrapping_add((from + done) as usize)) };
            }
        }
        Ok(hasher)
    }

    /// Compares each target's hash, put together from its pieces in order, with the noted one.
    fn compare(
        &self,
        targets: &[Target],
        pieces: &[(usize, u64, u64)],
        hashes: Vec<Mutex<Option<crc32fast::Hasher>>>,
    ) -> Result<()> {
        let mut found: Vec<_> = targets.iter().map(|_| crc32fast::Hasher::new()).collect();
        for (&(at, ..), hash) in pieces.iter().zip(hashes) {
            if let Some(hash) = hash.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
                found[at].combine(&hash);
            }
        }
        for (target, hash) in targets.iter().zip(found) {
            let entry = &self.header.entries[target.entry];
            let hash = hash.finalize();
            if let Some(expected) = entry.crc32
                && hash != expected
            {
                let (path, tensor) = (self.path.clone(), entry.name.clone());
                return Err(Error::Checksum { path, tensor, expected, found: hash });
            }
        }
        Ok(())
    }

    /// The address of a tensor in memory that is mapped from the file, privately: a write to it stays
    /// in this process. It holds while this is alive, and while nobody shortens the file.
    pub fn mapped(&self, entry: &Entry) -> Result<*mut u8> {
        if self.map.get().is_none() {
            // SAFETY: the mapping is reached through addresses only, never through a slice.
            let map = unsafe { MmapOptions::new().map_copy(&self.file) }.map_err(Error::io(&self.path))?;
            if (map.len() as u64) < self.data + self.header.entries.iter().map(|entry| entry.bytes).sum::<u64>() {
                return Err(Error::corrupt(&self.path, "it became shorter while it was read"));
            }
            let _ = self.map.set(map);
        }
        let base = self.map.get().map_or(std::ptr::null(), |map| map.as_ptr());
        Ok(base.cast_mut().wrapping_add((self.data + entry.start) as usize))
    }
}

/// Copies a block to where it is not read soon: a whole one goes around the caches, which saves reading
/// the lines that it overwrites.
///
/// # Safety
/// `to` is valid for writes of the block's bytes, which may be uninitialised.
unsafe fn copy_past_caches(block: &[u8], to: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    if block.len() == BLOCK && to.addr().is_multiple_of(16) {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        for at in (0..BLOCK).step_by(16) {
            // SAFETY: 16 bytes of the block, and of its place by the caller's promise, which is aligned.
            unsafe { _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(block.as_ptr().add(at).cast())) };
        }
        // SAFETY: every x86-64 has it. Such writes are ordered with others by it alone.
        unsafe { _mm_sfence() };
        return;
    }
    // SAFETY: the caller's promise; a block is memory of our own.
    unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), to, block.len()) };
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
