//! A checkpoint as its reader sees it: one file, or many with an index.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::destination;
use crate::error::{Error, Result};
use crate::header::{Entry, MOST_HEADER_BYTES};
use crate::metadata::Version;
use crate::read::{Source, Target};
use crate::unique::Unique;

/// The names by which Hugging Face's libraries save a model to a folder.
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// An open checkpoint: its headers are read and checked, its tensors are still in the files.
#[derive(Debug)]
pub struct Checkpoint {
    sources: Vec<Source>,
    /// The source and the entry of each tensor.
    tensors: Vec<(usize, usize)>,
    names: HashMap<String, usize>,
}

impl Checkpoint {
    /// Opens a safetensors file, ours or another's; an index of several (`*.index.json`); or a folder
    /// that holds `model.safetensors` or `model.safetensors.index.json`.
    pub fn open(path: &Path) -> Result<Self> {
        destination::check(path)?;
        if path.is_dir() {
            let index = path.join(INDEX);
            return Self::open(&if index.exists() { index } else { path.join(SINGLE) });
        }
        if path.extension().is_some_and(|extension| extension == "json") {
            return Self::of_shards(path);
        }
        let source = Source::open(path)?;
        let tensors = (0..source.header.entries.len()).map(|entry| (0, entry)).collect();
        Ok(Self::of(vec![source], tensors))
    }

    fn of(sources: Vec<Source>, tensors: Vec<(usize, usize)>) -> Self {
        let name = |&(source, entry): &(usize, usize)| sources[source].header.entries[entry].name.clone();
        let names = tensors.iter().map(name).zip(0..).collect();
        Self { sources, tensors, names }
    }

    fn of_shards(index: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: Unique<String>,
        }
        let length = fs::metadata(index).map_err(Error::io(index))?.len();
        if length > MOST_HEADER_BYTES {
            return Err(Error::corrupt(index, format!("it has {length} bytes; {MOST_HEADER_BYTES} is the most")));
        }
        let mut text = String::new();
        let file = fs::File::open(index).map_err(Error::io(index))?;
        file.take(MOST_HEADER_BYTES).read_to_string(&mut text).map_err(Error::io(index))?;
        let parsed: Result<Index, _> = serde_json::from_str(&text);
        let weights = parsed.map_err(|error| Error::corrupt(index, error.to_string()))?.weight_map.0;

        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (tensor, shard) in weights {
            // A name with a folder in it could reach any file of the machine.
            if shard.is_empty() || shard == "." || shard == ".." || shard.contains(['/', '\\', '\0']) {
                return Err(Error::corrupt(index, format!("{shard:?} is not the name of a file beside it")));
            }
            shards.entry(shard).or_default().push(tensor);
        }
        let folder = index.parent().map(PathBuf::from).unwrap_or_default();
        let (mut sources, mut tensors) = (Vec::new(), Vec::new());
        for (shard, wanted) in shards {
            let source = Source::open(&folder.join(shard))?;
            let entries: HashMap<_, _> =
                source.header.entries.iter().map(|entry| entry.name.as_str()).zip(0..).collect();
            for tensor in wanted {
                let entry = entries.get(tensor.as_str()).copied();
                let reason = || format!("it lacks tensor '{tensor}', which {} places in it", index.display());
                tensors.push((sources.len(), entry.ok_or_else(|| Error::corrupt(&source.path, reason()))?));
            }
            sources.push(source);
        }
        Ok(Self::of(sources, tensors))
    }

    /// The version of the format; [`Version::PLAIN`] for a file of another program.
    pub fn version(&self) -> Version {
        match &self.sources[..] {
            [source] => source.header.version,
            _ => Version::PLAIN,
        }
    }

    /// What wrote the file; empty for other programs, which do not say.
    pub fn writer(&self) -> &str {
        self.only().map_or("", |source| &source.header.writer)
    }

    /// The text that was given to [`crate::write`].
    pub fn state(&self) -> Option<&str> {
        self.only().and_then(|source| source.header.state.as_deref())
    }

    /// Other programs' metadata, key and value.
    pub fn metadata(&self) -> &[(String, String)] {
        self.only().map_or(&[], |source| &source.header.metadata)
    }

    /// The numbers of the storages that layouts name, and their bytes.
    pub fn storages(&self) -> &[(u64, u64)] {
        self.only().map_or(&[], |source| &source.header.storages)
    }

    fn only(&self) -> Option<&Source> {
        if let [source] = &self.sources[..] { Some(source) } else { None }
    }

    /// The tensors, in the order of their bytes in the files.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.tensors.iter().map(|&(source, entry)| &self.sources[source].header.entries[entry])
    }

    /// The place of a tensor among [`Self::tensors`].
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The files, in the order of their tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.path.as_path())
    }

    /// A tensor's bytes in C order, compared with its checksum.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let tensor = self.find(name).ok_or_else(|| Error::Value(format!("there is no tensor '{name}'")))?;
        let (source, entry) = self.tensors[tensor];
        let mut bytes = vec![0; self.sources[source].header.entries[entry].bytes as usize];
        // SAFETY: the vector has the tensor's length.
        unsafe { self.read_to(&[(tensor, bytes.as_mut_ptr())], true)? };
        Ok(bytes)
    }

    /// Reads tensors, by their places, to addresses; with `checked`, compares their bytes with their
    /// checksums. After an error, the memory holds anything.
    ///
    /// # Safety
    /// Each address is valid for writes of its tensor's bytes, which nothing else uses meanwhile.
    pub unsafe fn read_to(&self, targets: &[(usize, *mut u8)], checked: bool) -> Result<()> {
        for (source, targets) in self.by_source(targets)? {
            // SAFETY: the caller's promise.
            unsafe { self.sources[source].read(&targets, checked)? };
        }
        Ok(())
    }

    /// Compares the bytes of tensors, by their places, with their checksums.
    pub fn verify(&self, tensors: &[usize]) -> Result<()> {
        let targets: Vec<_> = tensors.iter().map(|&tensor| (tensor, std::ptr::null_mut())).collect();
        // SAFETY: nothing is written through null.
        unsafe { self.read_to(&targets, true) }
    }

    fn by_source(&self, targets: &[(usize, *mut u8)]) -> Result<BTreeMap<usize, Vec<Target>>> {
        let mut sources: BTreeMap<usize, Vec<Target>> = BTreeMap::new();
        for &(tensor, address) in targets {
            sources.entry(self.place(tensor)?.0).or_default().push(Target { entry: self.tensors[tensor].1, address });
        }
        Ok(sources)
    }

    fn place(&self, tensor: usize) -> Result<(usize, usize)> {
        let place = self.tensors.get(tensor).copied();
        place.ok_or_else(|| Error::Value(format!("there is no tensor {tensor} among {}", self.tensors.len())))
    }

    /// The address of a tensor in memory mapped from its file, without reading it. Writes to it stay in
    /// this process. It is not compared with its checksum ([`Self::verify`] does that), it is aligned
    /// for its type in our files, and it holds while this checkpoint is alive and nobody shortens the
    /// file in place.
    pub fn mapped(&self, tensor: usize) -> Result<*mut u8> {
        let (source, entry) = self.place(tensor)?;
        let source = &self.sources[source];
        source.mapped(&source.header.entries[entry])
    }
}
