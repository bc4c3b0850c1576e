//! Damaged and hostile files: each is refused or read as it is, and none makes the reader panic,
//! loop, or ask for memory that the file's own size does not bear out.

use std::fs;
use std::io::Write;
use std::path::Path;

use rustorch_checkpoint::{Checkpoint, Dtype, Error, Layout, Tensor, write};

fn small(path: &Path) -> Vec<u8> {
    let floats: Vec<u8> = (0..24).collect();
    let tensor =
        |name, dtype, shape, data| Tensor { name, dtype: Dtype::from_name(dtype).unwrap(), shape, layout: None, data };
    let layout = Some(Layout { storage: 0, offset: 0, strides: vec![1, 2] });
    let tensors = [
        Tensor { layout, ..tensor("weight", "F32", &[2, 3], &floats) },
        tensor("steps", "I64", &[2], &floats[..16]),
        tensor("mask", "BOOL", &[3], &[1, 0, 1]),
        tensor("empty", "F64", &[0, 7], &[]),
    ];
    write(path, "the tests", &tensors, Some("{\"step\":3}")).unwrap();
    fs::read(path).unwrap()
}

/// Opens and reads all of it.
fn read_all(path: &Path) -> Result<(), Error> {
    let checkpoint = Checkpoint::open(path)?;
    let names: Vec<String> = checkpoint.tensors().map(|entry| entry.name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        checkpoint.read(name)?;
        checkpoint.mapped(at)?;
    }
    let storage: u64 = checkpoint.storages().iter().map(|(_, bytes)| bytes).sum();
    let length = fs::metadata(path).unwrap().len();
    assert!(storage <= 64 * length, "{storage} bytes for a file of {length}");
    Ok(())
}

/// A plain file with this header and this many bytes after it.
fn with_header(path: &Path, json: &str, data: usize) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(json.len() as u64).to_le_bytes()).unwrap();
    file.write_all(json.as_bytes()).unwrap();
    file.write_all(&vec![0; data]).unwrap();
}

#[test]
fn a_changed_bit_is_noticed_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let sound = small(&path);
    read_all(&path).unwrap();
    for byte in 0..sound.len() {
        for bit in [0, 3, 7] {
            let mut damaged = sound.clone();
            damaged[byte] ^= 1 << bit;
            fs::write(&path, &damaged).unwrap();
            assert!(read_all(&path).is_err(), "bit {bit} of byte {byte} was not noticed");
        }
    }
}

#[test]
fn a_file_that_is_cut_short_or_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let sound = small(&path);
    for length in 0..sound.len() {
        fs::write(&path, &sound[..length]).unwrap();
        assert!(matches!(read_all(&path), Err(Error::Corrupt { .. })), "{length} bytes");
    }
    fs::write(&path, [&sound[..], &[0]].concat()).unwrap();
    assert!(matches!(read_all(&path), Err(Error::Corrupt { .. })));
    assert!(matches!(Checkpoint::open(folder.path().join("none").as_path()), Err(Error::Io { .. })));
    assert!(matches!(Checkpoint::open(Path::new("/dev/null")), Err(Error::Corrupt { .. })));
}

#[test]
fn a_newer_major_version_is_refused_by_name_and_a_newer_minor_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let text = |version: &str| {
        format!(
            r#"{{"__metadata__":{{"rustorch":"{{\"version\":\"{version}\",\"writer\":\"x\",\"tensors\":{{}},\"new\":1}}","rustorch.header_crc32":"00000000"}}}}"#
        )
    };
    let newer = text("2.7");
    with_header(&path, &newer, 0);
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(error, Error::Newer { .. }));
    assert!(error.to_string().contains("2.7") && error.to_string().contains("update rustorch"), "{error}");
    let minor = text("1.9");
    let crc = crc32fast::hash(minor.as_bytes());
    with_header(&path, &minor.replace("\"00000000\"", &format!("\"{crc:08x}\"")), 0);
    assert_eq!(Checkpoint::open(&path).unwrap().version().minor, 9);
    for wrong in ["0.1", "1", "x.y", "", "-1.0", "99999999999.0"] {
        with_header(&path, &text(wrong), 0);
        assert!(matches!(Checkpoint::open(&path), Err(Error::Corrupt { .. })), "{wrong}");
    }
}

#[test]
fn hostile_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let one = |item: &str| format!(r#"{{"x":{item}}}"#);
    let sound = one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#);
    with_header(&path, &sound, 4);
    read_all(&path).unwrap();
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let many = format!("[{}1]", "1,".repeat(64));
    for (json, data) in [
        // Twice the same name, or the same field.
        (
            r#"{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
            0,
        ),
        (r#"{"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0),
        (r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0),
        (r#"{"__metadata__":{"a":1}}"#, 0),
        (r#"{"__metadata__":{"rustorch":"{}"}}"#, 0),
        (r#"{"__metadata__":{"rustorch.state":"{}"}}"#, 0),
        // Gaps, overlaps, and bytes that nobody claims.
        (&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#), 8),
        (&sound, 5),
        (&sound, 3),
        (
            r#"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
            3,
        ),
        // Numbers that do not fit.
        (&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#), 4),
        (&one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#), 4),
        (&one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#), 4),
        (&one(r#"{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}"#), 4),
        (&one(r#"{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}"#), 0),
        (&one(r#"{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}"#), 0),
        (&one(r#"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}"#), 4),
        (&one(&format!(r#"{{"dtype":"U8","shape":{many},"data_offsets":[0,1]}}"#)), 1),
        // Other shapes of JSON.
        (&one(r#"{"dtype":"F31","shape":[1],"data_offsets":[0,4]}"#), 4),
        (&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}"#), 4),
        (&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0]}"#), 4),
        (&one("null"), 0),
        (&deep, 0),
        (" {}", 0),
        ("[]", 0),
        ("{} x", 0),
        ("", 0),
    ] {
        with_header(&path, json, data);
        assert!(matches!(read_all(&path), Err(Error::Corrupt { .. })), "{json:.200}");
    }
    // A boolean is 0 or 1, also in another program's file.
    with_header(&path, &one(r#"{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}"#), 0);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[2]).unwrap();
    assert!(matches!(read_all(&path), Err(Error::Corrupt { .. })));
}

/// A generator of pseudo-random numbers, the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// What a header is made of, to be put where it does not belong.
const WORDS: [&str; 16] = [
    "18446744073709551615",
    "9223372036854775807",
    "-1",
    "0",
    "1e308",
    "null",
    "[]",
    "{}",
    "\"",
    "\\u0000",
    ",",
    "]",
    "\"__metadata__\":{}",
    "\"shape\":[0]",
    "\"rustorch\":",
    "\"dtype\":\"F32\",",
];

#[test]
fn a_hundred_thousand_mutated_files_are_refused_or_read() {
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
    let path = folder.path().join("file");
    let ours = small(&path);
    let plain = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"U8","shape":[],"data_offsets":[24,25]}}"#;
    with_header(&path, plain, 25);
    let seeds = [ours, fs::read(&path).unwrap()];
    let mut random = Random(20);
    let mut read = 0;
    for case in 0..100_000 {
        let mut bytes = seeds[case % 2].clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.below(256) as u8,
                2 => drop(bytes.drain(at..(at + random.below(8)).min(bytes.len()))),
                3 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
                4 => {
                    let end = (at + random.below(40)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    drop(bytes.splice(to..to, part));
                }
                _ => {
                    if let Some(digit) = (at..bytes.len()).find(|&at| bytes[at].is_ascii_digit()) {
                        bytes[digit] = b'0' + random.below(10) as u8;
                    }
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        // Most mutations end at the header's length: half of them get the right one.
        if bytes.len() > 8 && random.below(2) == 0 {
            let data = if case % 2 == 0 { 43 } else { 25 };
            let header = (bytes.len() as u64 - 8).saturating_sub(data);
            bytes[..8].copy_from_slice(&header.to_le_bytes());
        }
        fs::write(&path, &bytes).unwrap();
        read += usize::from(read_all(&path).is_ok());
    }
    // Those whose mutations a plain file does not notice, such as another digit in a name.
    assert!(read > 100 && read < 50_000, "{read} of 100,000 were read");
}
