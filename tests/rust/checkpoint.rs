//! Checkpoints written and read back, against the safetensors crate and plain bytes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustorch_checkpoint::{Checkpoint, Dtype, Error, Layout, Tensor, Version, write};
use safetensors::SafeTensors;

fn dtype(name: &str) -> Dtype {
    Dtype::from_name(name).unwrap()
}

/// Bytes that differ from tensor to tensor and from place to place.
fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|at| ((at * 31 + seed * 17) ^ (at >> 8)) as u8).collect()
}

fn tensor<'a>(name: &'a str, dtype_name: &str, shape: &'a [u64], data: &'a [u8]) -> Tensor<'a> {
    Tensor { name, dtype: dtype(dtype_name), shape, layout: None, data }
}

/// Names, types, shapes and bytes of hostile sizes.
fn samples() -> Vec<(String, &'static str, Vec<u64>, Vec<u8>)> {
    let mut made = Vec::new();
    let types = [
        "U8", "F32", "F64", "BF16", "I64", "F8_E5M2", "F8_E4M3", "F8_E8M0", "I8", "I16", "U16", "F16", "I32", "U32",
        "U64", "C64",
    ];
    for (seed, name) in types.into_iter().enumerate() {
        for shape in [vec![], vec![0], vec![3, 0, 5], vec![1], vec![13], vec![7, 1, 11]] {
            let count = shape.iter().product::<u64>() as usize * dtype(name).size();
            made.push((format!("{name} {shape:?} \"\\\u{e9}\u{1}"), name, shape, bytes(count, seed)));
        }
    }
    // More than one piece, and no multiple of one.
    made.push(("large".into(), "F32", vec![2_500_007], bytes(10_000_028, 5)));
    made.push(("flags".into(), "BOOL", vec![5], vec![0, 1, 1, 0, 1]));
    made
}

fn write_samples(path: &Path, state: Option<&str>) -> Vec<(String, &'static str, Vec<u64>, Vec<u8>)> {
    let samples = samples();
    let tensors: Vec<_> = samples.iter().map(|(name, dtype, shape, data)| tensor(name, dtype, shape, data)).collect();
    write(path, "the tests", &tensors, state).unwrap();
    samples
}

#[test]
fn what_is_written_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let state = "{\"text\": \"quotes \\\" and \u{1F980} and \\u0000\"}";
    let samples = write_samples(&path, Some(state));
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!((checkpoint.version(), checkpoint.writer()), (Version::CURRENT, "the tests"));
    assert_eq!(checkpoint.state(), Some(state));
    assert_eq!(checkpoint.tensors().len(), samples.len());
    for (name, dtype, shape, data) in &samples {
        let at = checkpoint.find(name).unwrap();
        let entry = checkpoint.tensors().nth(at).unwrap();
        assert_eq!((entry.dtype.name(), &entry.shape), (*dtype, shape));
        assert_eq!(entry.crc32, Some(crc32fast::hash(data)));
        assert_eq!(&checkpoint.read(name).unwrap(), data, "{name}");
        let mapped = checkpoint.mapped(at).unwrap();
        assert_eq!(mapped as usize % entry.dtype.size().min(8), 0, "{name} is misaligned");
        // SAFETY: a tensor of the open checkpoint, which nobody shortens.
        assert_eq!(unsafe { std::slice::from_raw_parts(mapped, data.len()) }, data);
    }
    checkpoint.verify(&(0..samples.len()).collect::<Vec<_>>()).unwrap();
    assert!(matches!(checkpoint.read("no such"), Err(Error::Value(_))));
    assert!(checkpoint.verify(&[samples.len()]).is_err());
}

#[test]
fn safetensors_reads_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let samples = write_samples(&path, Some("{}"));
    let file = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(theirs.len(), samples.len());
    for (name, dtype, shape, data) in &samples {
        let view = theirs.tensor(name).unwrap();
        assert_eq!(format!("{:?}", view.dtype()), *dtype);
        assert_eq!(view.shape().iter().map(|&size| size as u64).collect::<Vec<_>>(), *shape);
        assert_eq!(view.data(), data);
    }
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
}

#[test]
fn we_read_what_safetensors_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.safetensors");
    let (a, b) = (bytes(24, 1), bytes(6, 2));
    let views = [
        ("a", safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 3], &a).unwrap()),
        ("b", safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![3], &b).unwrap()),
    ];
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!((checkpoint.version(), checkpoint.state()), (Version::PLAIN, None));
    assert_eq!(checkpoint.metadata(), [("format".to_string(), "pt".to_string())]);
    assert_eq!(checkpoint.read("a").unwrap(), a);
    assert_eq!(checkpoint.read("b").unwrap(), b);
}

/// A file of each version of the format, as it was written at its time.
#[test]
fn files_of_every_version_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    for version in 0..=Version::CURRENT.major {
        let checkpoint = Checkpoint::open(&golden.join(format!("version_{version}.safetensors"))).unwrap();
        assert_eq!(checkpoint.version().major, version);
        let weight: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
        assert_eq!(checkpoint.read("weight").unwrap(), weight);
        checkpoint.verify(&[0, 1]).unwrap();
    }
}

#[test]
fn layouts_come_back_and_ask_for_no_more_than_their_bytes_are_worth() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layouts.safetensors");
    let data = bytes(24, 0);
    let with = |strides: &[u64], storage, offset| Tensor {
        layout: Some(Layout { storage, offset, strides: strides.to_vec() }),
        ..tensor("x", "F32", &[2, 3], &data)
    };
    let transposed = with(&[1, 2], 0, 0);
    let part = Tensor { name: "y", ..with(&[3, 1], 0, 8) };
    write(&path, "", &[transposed.clone(), part], None).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.storages(), [(0, 32)]);
    let entry = checkpoint.tensors().nth(checkpoint.find("x").unwrap()).unwrap();
    assert_eq!(entry.layout, transposed.layout);
    for wrong in [
        with(&[1], 0, 0),
        with(&[3, 1], 0, 2),
        with(&[1000, 1], 0, 0),
        with(&[u64::MAX, 1], 0, 0),
        with(&[1, 1], 0, u64::MAX - 3),
    ] {
        assert!(matches!(write(&path, "", &[wrong], None), Err(Error::Value(_))));
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept.safetensors");
    let data = bytes(4, 0);
    write(&path, "", &[tensor("old", "F32", &[1], &data)], None).unwrap();
    let one = tensor("one", "F32", &[1], &data);
    for refused in [
        vec![one.clone(), one.clone()],
        vec![tensor("__metadata__", "F32", &[1], &data)],
        vec![tensor("short", "F32", &[2], &data)],
        vec![tensor("long", "U8", &[3], &data)],
        vec![tensor("vast", "F32", &[u64::MAX, 0, u64::MAX], &[])],
    ] {
        assert!(matches!(write(&path, "", &refused, None), Err(Error::Value(_))));
    }
    assert!(Checkpoint::open(&path).unwrap().find("old").is_some());
    let missing = folder.path().join("no folder/x.safetensors");
    assert!(matches!(write(&missing, "", std::slice::from_ref(&one), None), Err(Error::Io { .. })));
    assert!(matches!(write(folder.path(), "", &[one], None), Err(Error::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a partial file was left");
}

#[test]
fn a_replaced_file_keeps_its_permissions_and_a_link_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("file"), folder.path().join("link"));
    let data = bytes(4, 0);
    write(&path, "", &[], None).unwrap();
    // The umask is this process's, so another new file tells what is usual.
    fs::write(folder.path().join("usual"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&folder.path().join("usual")));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    write(&link, "", &[tensor("new", "F32", &[1], &data)], None).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&path) & 0o777, 0o640);
    assert_ne!(fs::metadata(&path).unwrap().ino(), before, "the file was written in place");
    assert!(Checkpoint::open(&path).unwrap().find("new").is_some());
}

#[test]
fn a_link_whose_file_is_not_there_yet_makes_it_and_links_in_a_circle_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    symlink("sub/second", at("first")).unwrap();
    symlink("file", at("sub/second")).unwrap();
    write(&at("first"), "", &[], None).unwrap();
    assert!(fs::symlink_metadata(at("sub/file")).unwrap().is_file());
    for link in ["first", "sub/second"] {
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link} was replaced");
    }
    symlink("round", at("a")).unwrap();
    symlink("a", at("round")).unwrap();
    symlink("no folder/file", at("lost")).unwrap();
    for refused in ["a", "lost"] {
        assert!(matches!(write(&at(refused), "", &[], None), Err(Error::Io { .. })));
        assert!(fs::symlink_metadata(at(refused)).unwrap().is_symlink(), "{refused} was replaced");
    }
}

#[test]
fn a_pipe_is_written_into_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, link, file) = (folder.path().join("pipe"), folder.path().join("link"), folder.path().join("file"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink(&pipe, &link).unwrap();
    let samples = write_samples(&file, Some("{}"));
    for path in [&pipe, &link] {
        let read = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_samples(path, Some("{}"));
        assert_eq!(read.join().unwrap(), fs::read(&file).unwrap());
        assert!(!fs::metadata(&pipe).unwrap().is_file(), "the pipe was replaced");
    }
    assert!(!samples.is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "a partial file was left");
}

#[test]
fn names_as_long_as_a_file_may_have_are_written_and_a_zero_byte_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x".repeat(255), "x".repeat(250), "\u{e9}".repeat(127)] {
        let path = folder.path().join(&name);
        write(&path, "", &[], None).unwrap();
        write(&path, "", &[], None).unwrap();
        assert!(Checkpoint::open(&path).is_ok());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    assert!(matches!(write(&folder.path().join("x".repeat(256)), "", &[], None), Err(Error::Io { .. })));
    let cut = folder.path().join("a\0b");
    assert!(matches!(write(&cut, "", &[], None), Err(Error::Value(_))));
    assert!(matches!(Checkpoint::open(&cut), Err(Error::Value(_))));
}

#[test]
fn what_a_killed_writer_left_is_removed_and_a_living_ones_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let (dead, alive) = (folder.path().join(".file.dead.partial"), folder.path().join(".file.alive.partial"));
    let other = folder.path().join(".other.dead.partial");
    for path in [&dead, &alive, &other] {
        fs::write(path, "some bytes").unwrap();
    }
    let living = fs::File::open(&alive).unwrap();
    living.lock().unwrap();
    write(&path, "", &[], None).unwrap();
    assert_eq!([dead.exists(), alive.exists(), other.exists()], [false, true, true]);
}

#[test]
fn shards_are_found_by_an_index_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (a, b) = (bytes(8, 1), bytes(12, 2));
    write(&at("one.safetensors"), "", &[tensor("a", "F64", &[1], &a), tensor("unused", "F32", &[2], &a)], None)
        .unwrap();
    write(&at("two.safetensors"), "", &[tensor("b", "F32", &[3], &b)], None).unwrap();
    let index = at("model.safetensors.index.json");
    let open = |text: &str| {
        fs::write(&index, text).unwrap();
        Checkpoint::open(folder.path())
    };
    let sound = r#"{"metadata": {"total_size": 20}, "weight_map": {"b": "two.safetensors", "a": "one.safetensors"}}"#;
    let checkpoint = open(sound).unwrap();
    assert_eq!(checkpoint.tensors().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((checkpoint.read("a").unwrap(), checkpoint.read("b").unwrap()), (a, b));
    assert_eq!(Checkpoint::open(&index).unwrap().tensors().len(), 2);
    for unsound in [
        "",
        "[]",
        "{}",
        r#"{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}"#,
        r#"{"weight_map": {"b": "one.safetensors"}}"#,
        r#"{"weight_map": {"a": "../one.safetensors"}}"#,
        r#"{"weight_map": {"a": "/etc/passwd"}}"#,
        r#"{"weight_map": {"a": ".."}}"#,
        r#"{"weight_map": {"a": "sub\\one.safetensors"}}"#,
        r#"{"weight_map": {"a": ""}}"#,
        r#"{"weight_map": {"a": 3}}"#,
    ] {
        assert!(matches!(open(unsound), Err(Error::Corrupt { .. })), "{unsound}");
    }
    assert!(matches!(open(r#"{"weight_map": {"a": "three.safetensors"}}"#), Err(Error::Io { .. })));
    fs::remove_file(&index).unwrap();
    assert!(matches!(Checkpoint::open(folder.path()), Err(Error::Io { .. })));
    fs::rename(at("two.safetensors"), at("model.safetensors")).unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap().find("b").is_some());
}
