//! The checkpoints' side of the door.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustorch_checkpoint::{self as files, Dtype, Error, Layout};
use rustorch_kernels::error::Error as KernelError;

#[cxx::bridge(namespace = "rustorch::ffi")]
mod ffi {
    /// A tensor in a file, or one to write.
    struct StoredTensor {
        name: String,
        dtype: String,
        shape: Vec<u64>,
        bytes: u64,
        /// Whether the next three say how it lay in memory.
        has_layout: bool,
        storage: u64,
        offset: u64,
        strides: Vec<u64>,
        /// Whether its bytes have a checksum, and which.
        has_crc32: bool,
        crc32: u32,
    }

    /// A storage that layouts name, and its size.
    struct StoredStorage {
        number: u64,
        bytes: u64,
    }

    extern "Rust" {
        /// An open checkpoint.
        type CheckpointFile;

        /// # Safety
        /// Each address is valid for reads of its tensor's bytes.
        unsafe fn checkpoint_write(
            path: &[u8],
            writer: &str,
            tensors: &[StoredTensor],
            addresses: &[usize],
            state: &str,
        ) -> Result<()>;
        fn checkpoint_open(path: &[u8]) -> Result<Box<CheckpointFile>>;
        fn version(self: &CheckpointFile) -> String;
        fn writer(self: &CheckpointFile) -> String;
        /// The caller's text; empty for files of other programs.
        fn state(self: &CheckpointFile) -> String;
        /// Other programs' metadata: keys and values in turn.
        fn metadata(self: &CheckpointFile) -> Vec<String>;
        fn files(self: &CheckpointFile) -> Vec<String>;
        fn tensors(self: &CheckpointFile) -> Vec<StoredTensor>;
        fn storages(self: &CheckpointFile) -> Vec<StoredStorage>;
        /// # Safety
        /// Each address is valid for writes of the bytes of the tensor at its place in `tensors`.
        unsafe fn read(self: &CheckpointFile, tensors: &[usize], addresses: &[usize], checked: bool) -> Result<()>;
        fn verify(self: &CheckpointFile, tensors: &[usize]) -> Result<()>;
        /// The address of a tensor in memory mapped from its file, valid while this is alive.
        fn mapped(self: &CheckpointFile, tensor: usize) -> Result<usize>;
    }
}

struct CheckpointFile(files::Checkpoint);

/// An error on its way to C++: a letter for the exception, then the text; for the system's errors
/// the number and the path (see `csrc/checkpoint/module.cpp`).
struct Crossing(String);

impl std::fmt::Display for Crossing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<Error> for Crossing {
    fn from(error: Error) -> Self {
        Self(match &error {
            Error::Io { path, source } => {
                let number = source.raw_os_error().unwrap_or_else(|| number(source.kind()));
                format!("O{number} {}", path.display())
            }
            Error::Value(_) => format!("V{error}"),
            Error::Corrupt { .. } | Error::Checksum { .. } | Error::Newer { .. } => format!("C{error}"),
        })
    }
}

/// The system's number of an error that comes without one: found before the system was asked, or
/// wrapped in another.
fn number(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::NotFound => libc::ENOENT,
        ErrorKind::PermissionDenied => libc::EACCES,
        ErrorKind::IsADirectory => libc::EISDIR,
        ErrorKind::NotADirectory => libc::ENOTDIR,
        ErrorKind::ReadOnlyFilesystem => libc::EROFS,
        ErrorKind::StorageFull => libc::ENOSPC,
        ErrorKind::QuotaExceeded => libc::EDQUOT,
        ErrorKind::InvalidFilename => libc::ENAMETOOLONG,
        _ => libc::EIO,
    }
}

/// Runs `body`; a panic becomes an error.
fn guarded<R>(body: impl FnOnce() -> files::Result<R>) -> Result<R, Crossing> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.map_err(Crossing::from),
        Err(payload) => Err(Crossing(format!("R{}", KernelError::from_panic(payload)))),
    }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

unsafe fn checkpoint_write(
    path: &[u8],
    writer: &str,
    tensors: &[ffi::StoredTensor],
    addresses: &[usize],
    state: &str,
) -> Result<(), Crossing> {
    guarded(|| {
        let mut described = Vec::with_capacity(tensors.len());
        for (tensor, &address) in tensors.iter().zip(addresses) {
            let dtype = Dtype::from_name(&tensor.dtype);
            let layout = tensor.has_layout.then(|| Layout {
                storage: tensor.storage,
                offset: tensor.offset,
                strides: tensor.strides.clone(),
            });
            described.push(files::Tensor {
                name: &tensor.name,
                dtype: dtype.ok_or_else(|| Error::Value(format!("a file has no type {:?}", tensor.dtype)))?,
                shape: &tensor.shape,
                layout,
                data: match tensor.bytes as usize {
                    0 => &[],
                    // SAFETY: the caller's promise; the address of a tensor with elements is not null.
                    bytes => unsafe { std::slice::from_raw_parts(address as *const u8, bytes) },
                },
            });
        }
        files::write(as_path(path), writer, &described, Some(state))
    })
}

fn checkpoint_open(path: &[u8]) -> Result<Box<CheckpointFile>, Crossing> {
    guarded(|| files::Checkpoint::open(as_path(path)).map(|checkpoint| Box::new(CheckpointFile(checkpoint))))
}

impl CheckpointFile {
    fn version(&self) -> String {
        self.0.version().to_string()
    }

    fn writer(&self) -> String {
        self.0.writer().to_string()
    }

    fn state(&self) -> String {
        self.0.state().unwrap_or_default().to_string()
    }

    fn metadata(&self) -> Vec<String> {
        self.0.metadata().iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect()
    }

    fn files(&self) -> Vec<String> {
        self.0.files().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    fn tensors(&self) -> Vec<ffi::StoredTensor> {
        let stored = |entry: &files::Entry| ffi::StoredTensor {
            name: entry.name.clone(),
            dtype: entry.dtype.name().into(),
            shape: entry.shape.clone(),
            bytes: entry.bytes,
            has_layout: entry.layout.is_some(),
            storage: entry.layout.as_ref().map_or(0, |layout| layout.storage),
            offset: entry.layout.as_ref().map_or(0, |layout| layout.offset),
            strides: entry.layout.as_ref().map_or_else(Vec::new, |layout| layout.strides.clone()),
            has_crc32: entry.crc32.is_some(),
            crc32: entry.crc32.unwrap_or_default(),
        };
        self.0.tensors().map(stored).collect()
    }

    fn storages(&self) -> Vec<ffi::StoredStorage> {
        self.0.storages().iter().map(|&(number, bytes)| ffi::StoredStorage { number, bytes }).collect()
    }

    unsafe fn read(&self, tensors: &[usize], addresses: &[usize], checked: bool) -> Result<(), Crossing> {
        guarded(|| {
            let targets: Vec<_> =
                tensors.iter().zip(addresses).map(|(&tensor, &address)| (tensor, address as *mut u8)).collect();
            // SAFETY: the caller's promise.
            unsafe { self.0.read_to(&targets, checked) }
        })
    }

    fn verify(&self, tensors: &[usize]) -> Result<(), Crossing> {
        guarded(|| self.0.verify(tensors))
    }

    fn mapped(&self, tensor: usize) -> Result<usize, Crossing> {
        guarded(|| self.0.mapped(tensor).map(|address| address as usize))
    }
}
