//! A writer that is killed at any moment leaves the old file or the new one, whole.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustorch_checkpoint::{Checkpoint, Dtype, Tensor, write};

const CHILD: &str = "RUSTORCH_CHECKPOINT_TO_WRITE";
const KILLS: u64 = 200;
/// Elements of each tensor: a write takes about as long as the moments before a kill.
const ELEMENTS: u64 = 1 << 18;

/// A file whose number is in its state and in each of its bytes.
fn write_number(path: &Path, number: u64) {
    let data = vec![number as u8; 4 * ELEMENTS as usize];
    let dtype = Dtype::from_name("F32").unwrap();
    let tensor = |name| Tensor { name, dtype, shape: &[ELEMENTS], layout: None, data: &data };
    write(path, "the tests", &[tensor("a"), tensor("b")], Some(&number.to_string())).unwrap();
}

/// The number of the file, all of whose bytes must be of one writing.
fn read_number(path: &Path) -> u64 {
    let checkpoint = Checkpoint::open(path).unwrap();
    let number: u64 = checkpoint.state().unwrap().parse().unwrap();
    for name in ["a", "b"] {
        let bytes = checkpoint.read(name).unwrap();
        assert!(bytes.len() as u64 == 4 * ELEMENTS && bytes.iter().all(|&byte| byte == number as u8));
    }
    number
}

#[test]
fn a_killed_writer_leaves_the_old_file_or_the_new_one() {
    if let Some(path) = std::env::var_os(CHILD) {
        // The writer: this test, run again by itself.
        let path = Path::new(&path);
        for number in read_number(path) + 1.. {
            write_number(path, number);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    let begun = Instant::now();
    write_number(&path, 0);
    // Moments spread over several writings, however slow the disk is.
    let span = 4 * begun.elapsed().as_micros() as u64 + 10_000;
    let (mut last, mut during) = (0, 0);
    for kill in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_writer_leaves_the_old_file_or_the_new_one"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its first words come when it begins.
        writer.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        std::thread::sleep(Duration::from_micros(kill * 7919 * 7919 % span));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let number = read_number(&path);
        assert!(number >= last, "an older file came back");
        last = number;
        during += usize::from(std::fs::read_dir(folder.path()).unwrap().count() > 1);
    }
    assert!(last > KILLS / 10, "the writers wrote {last} files, too few to be killed at");
    assert!(during > KILLS as usize / 20, "{during} kills fell into a writing");
    // What the killed ones left goes with the next writing.
    write_number(&path, last + 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
