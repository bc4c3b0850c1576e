//! The header of a safetensors file: read with suspicion, written in one form.
//!
//! A file is the header's length (8 bytes, little-endian), the header (JSON) and the tensors' bytes,
//! which cover the rest without a gap. safetensors' own reader accepts keys given twice and shapes
//! whose product overflows past an empty dimension; this one does not.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;
use crate::layout::{self, Layout};
use crate::metadata::{self, HEADER_KEY, KEY, Metadata, STATE_KEY, Version};
use crate::unique::Unique;

/// Bytes of a header at most, as safetensors has it.
pub const MOST_HEADER_BYTES: u64 = 100_000_000;
/// Dimensions of a tensor at most, as PyTorch has it.
pub const MOST_DIMENSIONS: usize = 64;
/// The tensors' bytes begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    /// Where its bytes begin, counted from the end of the header.
    pub start: u64,
    pub bytes: u64,
    /// How it lay in memory, where that was other than dense and alone.
    pub layout: Option<Layout>,
    /// Of its bytes; files of other programs have none.
    pub crc32: Option<u32>,
}

/// All that a file says about its tensors.
#[derive(Clone, Debug)]
pub struct Header {
    pub version: Version,
    pub writer: String,
    /// In the order of their bytes.
    pub entries: Vec<Entry>,
    /// Sizes of the storages that layouts name.
    pub storages: Vec<(u64, u64)>,
    /// The caller's text.
    pub state: Option<String>,
    /// Other programs' metadata.
    pub metadata: Vec<(String, String)>,
}

/// A tensor's value in the header; the order of the fields is that of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// A value of the header: the metadata, or a tensor.
#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Metadata(Unique<String>),
    Item(Item),
}

impl Header {
    /// Reads a header's JSON; `data` is how many bytes follow it. An error is a reason.
    pub fn parse(json: &[u8], data: u64) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(json).map_err(|_| "the header is not UTF-8")?;
        if !text.starts_with('{') {
            return Err("the header does not begin with '{'".into());
        }
        let pairs: Unique<Box<serde_json::value::RawValue>> =
            serde_json::from_str(text).map_err(|error| format!("the header is not JSON: {error}"))?;
        let mut metadata = Unique::<String>::default();
        let mut entries = Vec::with_capacity(pairs.0.len());
        for (name, raw) in pairs.0 {
            if name == "__metadata__" {
                let read = serde_json::from_str(raw.get());
                metadata = read.map_err(|error| format!("the header's metadata are unsound: {error}"))?;
            } else {
                entries.push(entry(name, raw.get())?);
            }
        }
        covered(&mut entries, data)?;
        let mut header = Self {
            version: Version::PLAIN,
            writer: String::new(),
            entries,
            storages: Vec::new(),
            state: None,
            metadata: Vec::new(),
        };
        header.take_metadata(metadata, json)?;
        Ok(header)
    }

    fn take_metadata(&mut self, metadata: Unique<String>, json: &[u8]) -> Result<(), Refusal> {
        let (ours, others) =
            metadata.0.into_iter().partition::<Vec<_>, _>(|(key, _)| [KEY, STATE_KEY, HEADER_KEY].contains(&&**key));
        self.metadata = others;
        if ours.is_empty() {
            return Ok(());
        }
        let mut ours: HashMap<String, String> = ours.into_iter().collect();
        let mut take = |key: &str| ours.remove(key).ok_or_else(|| format!("the metadata lack the key {key:?}"));
        let text = take(KEY)?;
        // First of all the version: a newer file may break any other rule.
        #[derive(Deserialize)]
        struct Versioned {
            version: Version,
        }
        let unsound = |error: serde_json::Error| format!("the metadata under \"{KEY}\" are unsound: {error}");
        let Versioned { version } = serde_json::from_str(&text).map_err(unsound)?;
        if version.major > Version::CURRENT.major {
            return Err(Refusal::Newer(version));
        }
        if version.major != Version::CURRENT.major {
            return Err(format!("there is no format version {version}").into());
        }
        check_header(json, &take(HEADER_KEY)?)?;
        let Metadata { writer, tensors, .. } = serde_json::from_str(&text).map_err(unsound)?;
        self.version = version;
        self.writer = writer;
        self.state = ours.remove(STATE_KEY);
        let mut notes: HashMap<_, _> = tensors.0.into_iter().collect();
        for entry in &mut self.entries {
            let note = notes.remove(&entry.name);
            let note = note.ok_or_else(|| format!("nothing is noted about tensor '{}'", entry.name))?;
            entry.crc32 = Some(note.crc32.0);
            entry.layout = note.layout;
        }
        if let Some(name) = notes.keys().next() {
            return Err(format!("tensor '{name}' is noted, but not there").into());
        }
        self.storages = layout::storages(self.entries.iter().map(|entry| {
            (entry.name.as_str(), entry.shape.as_slice(), entry.dtype.size() as u64, entry.layout.as_ref())
        }))?;
        Ok(())
    }

    /// The header's bytes with their length, from offsets that are filled in already.
    pub(crate) fn render(&self) -> serde_json::Result<Vec<u8>> {
        let metadata = Metadata {
            version: self.version,
            writer: self.writer.clone(),
            tensors: Unique(
                (self.entries.iter())
                    .map(|entry| {
                        let crc32 = metadata::Crc(entry.crc32.unwrap_or_default());
                        (entry.name.clone(), metadata::Note { crc32, layout: entry.layout.clone() })
                    })
                    .collect(),
            ),
        };
        // Hugging Face's libraries ask for the format.
        let mut texts = vec![("format".to_string(), "pt".to_string())];
        texts.push((HEADER_KEY.into(), "00000000".into()));
        texts.push((KEY.into(), serde_json::to_string(&metadata)?));
        texts.extend(self.state.as_ref().map(|state| (STATE_KEY.into(), state.clone())));
        let mut pairs = vec![("__metadata__".to_string(), Value::Metadata(Unique(texts)))];
        pairs.extend(self.entries.iter().map(|entry| {
            let item = Item {
                dtype: entry.dtype.name().into(),
                shape: entry.shape.clone(),
                data_offsets: [entry.start, entry.start + entry.bytes],
            };
            (entry.name.clone(), Value::Item(item))
        }));
        let mut json = serde_json::to_vec(&Unique(pairs))?;
        json.resize((json.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
        if let Some(place) = header_crc_place(&json) {
            let crc = format!("{:08x}", crc32fast::hash(&json));
            json[place..place + 8].copy_from_slice(crc.as_bytes());
        }
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        Ok(bytes)
    }
}

/// Why a header is refused.
#[derive(Debug)]
pub enum Refusal {
    Unsound(String),
    Newer(Version),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Unsound(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Unsound(reason.into())
    }
}

/// Checks a tensor by itself.
fn entry(name: String, json: &str) -> Result<Entry, String> {
    let item: Item = serde_json::from_str(json).map_err(|error| format!("tensor '{name}' is unsound: {error}"))?;
    let Some(dtype) = Dtype::from_name(&item.dtype) else {
        return Err(format!("tensor '{name}' is of an unknown type, {:?}", item.dtype));
    };
    let [start, end] = item.data_offsets;
    let bytes = tensor_bytes(&item.shape, dtype);
    let bytes = bytes.ok_or_else(|| format!("tensor '{name}' has an impossible shape, {:?}", item.shape))?;
    if end.checked_sub(start) != Some(bytes) {
        let (shape, dtype) = (&item.shape, dtype.name());
        return Err(format!("tensor '{name}' of shape {shape:?} and type {dtype} does not fit bytes {start} to {end}"));
    }
    Ok(Entry { name, dtype, shape: item.shape, start, bytes, layout: None, crc32: None })
}

/// Bytes of a dense tensor; None where a number overflows or there are too many dimensions. The
/// product without its zeros counts: an empty tensor's strides must not overflow either.
pub(crate) fn tensor_bytes(shape: &[u64], dtype: Dtype) -> Option<u64> {
    if shape.len() > MOST_DIMENSIONS {
        return None;
    }
    let mut product = dtype.size() as u64;
    for &size in shape {
        product = product.checked_mul(size.max(1))?;
    }
    if product > i64::MAX as u64 {
        return None;
    }
    Some(if shape.contains(&0) { 0 } else { product })
}

/// Sorts the tensors by their bytes, which must follow one another to the file's end.
fn covered(entries: &mut [Entry], data: u64) -> Result<(), String> {
    entries.sort_by_key(|entry| (entry.start, entry.bytes));
    let mut end = 0;
    for entry in entries.iter() {
        if entry.start != end {
            let Entry { name, start, .. } = entry;
            return Err(format!("tensor '{name}' begins at byte {start}, and the one before it ends at {end}"));
        }
        end += entry.bytes;
    }
    if end == data {
        return Ok(());
    }
    Err(format!("the tensors take {end} bytes, and {data} follow the header"))
}

/// Where the eight digits of the header's CRC-32 stand. Quotes within JSON strings are escaped, so the
/// key with its quotes stands only where it is a key.
fn header_crc_place(json: &[u8]) -> Option<usize> {
    let key = format!("\"{HEADER_KEY}\":\"");
    let at = json.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    (json.len() >= at + 8).then_some(at)
}

fn check_header(json: &[u8], noted: &str) -> Result<(), String> {
    let expected = metadata::crc_from(noted).ok_or("the header's CRC-32 is not eight hexadecimal digits")?;
    let place = header_crc_place(json).ok_or("the header's CRC-32 is not where it is written")?;
    let mut hasher = crc32fast::Hasher::new();
    for part in [&json[..place], b"00000000", &json[place + 8..]] {
        hasher.update(part);
    }
    let found = hasher.finalize();
    if found == expected.0 {
        return Ok(());
    }
    Err(format!("its header has changed since it was written: its CRC-32 is {found:08x}, and {noted} is noted"))
}
