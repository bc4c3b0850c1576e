//! What our files say beyond safetensors: a versioned JSON text under `rustorch` in the header's
//! metadata, and the caller's own under `rustorch.state`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::layout::Layout;
use crate::unique::Unique;

/// The key of [`Metadata`] in the header's string-to-string metadata.
pub(crate) const KEY: &str = "rustorch";
/// The key of the caller's text.
pub(crate) const STATE_KEY: &str = "rustorch.state";
/// The key of the header's own CRC-32, eight hexadecimal digits; it is taken with zeros in their place.
pub(crate) const HEADER_KEY: &str = "rustorch.header_crc32";

/// The version of the format. A new minor version adds what older readers may ignore; a new major
/// version is one that they must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// What this release writes. Version 0 is a plain safetensors file, without our metadata.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };
    pub const PLAIN: Self = Self { major: 0, minor: 0 };
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (major, minor) = text.split_once('.').unwrap_or((&text, ""));
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err(D::Error::custom(format_args!("{text:?} is no version: expected two numbers, as in 1.0"))),
        }
    }
}

/// A CRC-32 as eight hexadecimal digits: of a fixed length, so that it can be filled in later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crc(pub u32);

impl Serialize for Crc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:08x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Crc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        crc_from(&text).ok_or_else(|| D::Error::custom(format_args!("{text:?} is no CRC-32")))
    }
}

pub(crate) fn crc_from(text: &str) -> Option<Crc> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits).map(Crc)
}

/// The text under `rustorch`. Fields that a newer minor version adds are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub version: Version,
    /// Which program wrote the file, and with what: `rustorch 0.1.0, torch 2.15.0`.
    pub writer: String,
    pub tensors: Unique<Note>,
}

/// What is noted beside a tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Of the tensor's bytes in the file.
    pub crc32: Crc,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}
