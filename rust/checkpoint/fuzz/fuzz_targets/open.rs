//! Any bytes as a checkpoint: opened, read, mapped and verified, or refused.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rustorch_checkpoint::Checkpoint;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = if PathBuf::from("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    folder.join(format!("rustorch-fuzz-{}", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*PATH, bytes).unwrap();
    let Ok(checkpoint) = Checkpoint::open(&PATH) else { return };
    let names: Vec<String> = checkpoint.tensors().map(|entry| entry.name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        let _ = checkpoint.read(name);
        let _ = checkpoint.mapped(at);
    }
    let _ = checkpoint.verify(&(0..names.len()).collect::<Vec<_>>());
});
