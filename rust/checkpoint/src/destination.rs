//! Where a path leads: to a file that may be replaced, or to something that may only be written into.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// As many links as the system follows.
const MOST_LINKS: usize = 40;
/// The most bytes of a file's name that its partial files bear: a name has 255, and theirs is longer.
const MOST_NAME: usize = 180;

pub(crate) enum Destination {
    /// A regular file, or a name that is free; no link.
    File(PathBuf),
    /// Open for writing: a pipe, a device, or a file without a name.
    Stream(File),
}

/// Refuses what the system cannot take for a path.
pub(crate) fn check(path: &Path) -> Result<()> {
    match path.as_os_str().as_bytes().contains(&0) {
        true => Err(Error::Value("a path cannot hold a zero byte".into())),
        false => Ok(()),
    }
}

/// Follows links, to the end, which need not be there.
pub(crate) fn of(path: &Path) -> Result<Destination> {
    check(path)?;
    match fs::metadata(path) {
        Ok(known) if known.is_dir() => Err(Error::io(path)(ErrorKind::IsADirectory.into())),
        // A file that is reached through /proc may have lost its name.
        Ok(known) if known.is_file() => fs::canonicalize(path).map(Destination::File).or_else(|_| stream(path, true)),
        Ok(_) => stream(path, false),
        Err(error) if error.kind() == ErrorKind::NotFound => end_of(path).map(Destination::File),
        Err(error) => Err(Error::io(path)(error)),
    }
}

fn stream(path: &Path, truncate: bool) -> Result<Destination> {
    OpenOptions::new().write(true).truncate(truncate).open(path).map(Destination::Stream).map_err(Error::io(path))
}

/// The free name that a chain of links ends with.
fn end_of(path: &Path) -> Result<PathBuf> {
    let mut end = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&end) else { return Ok(end) };
        end = end.parent().map_or(target.clone(), |folder| folder.join(&target));
    }
    Err(Error::io(path)(std::io::Error::from_raw_os_error(TOO_MANY_LINKS)))
}

/// `ELOOP`, for which Rust has no stable name.
const TOO_MANY_LINKS: i32 = 40;

/// The start of the names of a file's partial files.
pub(crate) fn partial_prefix(name: &str) -> String {
    if name.len() <= MOST_NAME {
        return format!(".{name}.");
    }
    let cut = (0..=MOST_NAME).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    format!(".{}~{:08x}.", &name[..cut], crc32fast::hash(name.as_bytes()))
}
