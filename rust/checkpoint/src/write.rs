//! Writing: beside the old file, then in its place at once, and on the disk before it is said to be.

use std::collections::HashSet;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::destination::{self, Destination};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::header::{Entry, Header, MOST_HEADER_BYTES, tensor_bytes};
use crate::layout::{self, Layout};
use crate::metadata::Version;

/// Bytes that are hashed and written at a time, so that they are written from the cache.
const BLOCK: usize = 256 * 1024;
const PARTIAL: &str = ".partial";

/// A tensor to write: its elements in C order, dense.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [u64],
    /// How it lay in memory, where that is to come back.
    pub layout: Option<Layout>,
    pub data: &'a [u8],
}

/// Writes a checkpoint to `path`: the file there is the old one or the new one at any moment, also
/// when the process is killed or the machine stops; when this returns, it is the new one for good.
///
/// `state` is the caller's text, given back as it is. A file that is replaced keeps its permissions;
/// a symbolic link stays, and the file that it names is replaced or made. What is no regular file, a pipe
/// or a device, is never replaced: the bytes are written into it, one after another.
///
/// ```
/// use rustorch_checkpoint::{Checkpoint, Dtype, Tensor, write};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("model.safetensors");
/// let data: Vec<u8> = [1f32, 2.0, 3.0].into_iter().flat_map(f32::to_le_bytes).collect();
/// let weight = Tensor { name: "weight", dtype: Dtype::from_name("F32").unwrap(), shape: &[3], layout: None, data: &data };
/// write(&path, "an example", &[weight], Some("{\"step\": 7}")).unwrap();
///
/// let checkpoint = Checkpoint::open(&path).unwrap();
/// assert_eq!(checkpoint.state(), Some("{\"step\": 7}"));
/// assert_eq!(checkpoint.read("weight").unwrap(), data);
/// ```
pub fn write(path: &Path, writer: &str, tensors: &[Tensor<'_>], state: Option<&str>) -> Result<()> {
    let (mut header, order) = header(writer, tensors, state)?;
    let path = match destination::of(path)? {
        Destination::File(path) => path,
        Destination::Stream(mut stream) => {
            return pour(&mut stream, &mut header, &order, tensors).map_err(Error::io(path));
        }
    };
    let name = path.file_name().ok_or_else(|| Error::Value(format!("{} names no file", path.display())))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let prefix = destination::partial_prefix(&name.to_string_lossy());
    remove_abandoned(&folder, &prefix);

    let mut file = partial(&folder, &prefix).map_err(Error::io(&path))?;
    if let Ok(old) = fs::metadata(&path) {
        file.as_file().set_permissions(old.permissions()).map_err(Error::io(&path))?;
    }
    fill(&mut file, &mut header, &order, tensors).map_err(Error::io(&path))?;
    file.persist(&path).map_err(|failed| Error::io(&path)(failed.error))?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(Error::io(&folder))
}

/// A new file, locked, so that a later writer knows that it is not abandoned.
fn partial(folder: &Path, prefix: &str) -> std::io::Result<NamedTempFile> {
    loop {
        // The mode is that of any new file, under the user's umask.
        let mode = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(prefix).suffix(PARTIAL).permissions(mode).tempfile_in(folder)?;
        match file.as_file().try_lock() {
            // Another writer took it for abandoned before it was locked.
            Err(TryLockError::WouldBlock) => {}
            Ok(()) if file.as_file().metadata()?.nlink() == 0 => {}
            // Not every file system can lock; then nothing is ever taken for abandoned.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
}

/// Checks all that is to be written. Gives the header, without checksums yet, and the tensors' order:
/// the most aligned first, so that each lies in the file as its type asks.
fn header(writer: &str, tensors: &[Tensor<'_>], state: Option<&str>) -> Result<(Header, Vec<usize>)> {
    let mut names = HashSet::new();
    for tensor in tensors {
        let Tensor { name, dtype, shape, data, .. } = tensor;
        if *name == "__metadata__" || !names.insert(*name) {
            return Err(Error::Value(format!("a tensor cannot be named '{name}' in a file, or two cannot be")));
        }
        if tensor_bytes(shape, *dtype) != Some(data.len() as u64) {
            let (bytes, dtype) = (data.len(), dtype.name());
            return Err(Error::Value(format!("tensor '{name}' of shape {shape:?} and type {dtype} has {bytes} bytes")));
        }
    }
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&tensor| std::cmp::Reverse(tensors[tensor].dtype.alignment()));
    let mut start = 0;
    let mut entries = Vec::with_capacity(tensors.len());
    for &tensor in &order {
        let Tensor { name, dtype, shape, layout, data } = &tensors[tensor];
        let bytes = data.len() as u64;
        entries.push(Entry {
            name: name.to_string(),
            dtype: *dtype,
            shape: shape.to_vec(),
            start,
            bytes,
            layout: layout.clone(),
            crc32: None,
        });
        start += bytes;
    }
    let storages =
        layout::storages(entries.iter().map(|entry| {
            (entry.name.as_str(), entry.shape.as_slice(), entry.dtype.size() as u64, entry.layout.as_ref())
        }));
    let header = Header {
        version: Version::CURRENT,
        writer: writer.into(),
        entries,
        storages: storages.map_err(Error::Value)?,
        state: state.map(str::to_string),
        metadata: Vec::new(),
    };
    let bytes = header.render().map_err(|error| Error::Value(error.to_string()))?.len() as u64;
    if bytes > MOST_HEADER_BYTES {
        return Err(Error::Value(format!("the header would take {bytes} bytes; {MOST_HEADER_BYTES} is the most")));
    }
    Ok((header, order))
}

/// Writes the tensors, hashing them on the way, and the header before them.
fn fill(file: &mut NamedTempFile, header: &mut Header, order: &[usize], tensors: &[Tensor<'_>]) -> std::io::Result<()> {
    // A checksum has a fixed length: so has the header.
    let mut place = header.render()?.len();
    file.seek(SeekFrom::Start(place as u64))?;
    for (entry, &tensor) in header.entries.iter_mut().zip(order) {
        let mut hasher = crc32fast::Hasher::new();
        let mut rest = tensors[tensor].data;
        while !rest.is_empty() {
            // Blocks end where pages do: the system then keeps large pieces, which it reads faster too.
            let (block, after) = rest.split_at(rest.len().min(BLOCK - place % BLOCK));
            hasher.update(block);
            file.as_file_mut().write_all(block)?;
            (place, rest) = (place + block.len(), after);
        }
        entry.crc32 = Some(hasher.finalize());
    }
    file.seek(SeekFrom::Start(0))?;
    file.as_file_mut().write_all(&header.render()?)?;
    file.as_file().sync_all()
}

/// Writes from the first byte to the last, for what cannot go back: hashes everything before.
fn pour(stream: &mut File, header: &mut Header, order: &[usize], tensors: &[Tensor<'_>]) -> std::io::Result<()> {
    for (entry, &tensor) in header.entries.iter_mut().zip(order) {
        entry.crc32 = Some(crc32fast::hash(tensors[tensor].data));
    }
    stream.write_all(&header.render()?)?;
    order.iter().try_for_each(|&tensor| stream.write_all(tensors[tensor].data))
}

/// Removes what writers of the same file left behind when they were killed: partial files that no
/// living process has locked.
fn remove_abandoned(folder: &Path, prefix: &str) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix)
            && name.ends_with(PARTIAL)
            && let Ok(open) = File::open(file.path())
            && open.try_lock().is_ok()
        {
            let _ = fs::remove_file(file.path());
        }
    }
}
