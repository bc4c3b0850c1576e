//! The element types of safetensors, those of whole bytes.

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dtype {
    name: &'static str,
    size: usize,
}

const DTYPES: [Dtype; 17] = [
    Dtype { name: "BOOL", size: 1 },
    Dtype { name: "U8", size: 1 },
    Dtype { name: "I8", size: 1 },
    Dtype { name: "F8_E5M2", size: 1 },
    Dtype { name: "F8_E4M3", size: 1 },
    Dtype { name: "F8_E8M0", size: 1 },
    Dtype { name: "I16", size: 2 },
    Dtype { name: "U16", size: 2 },
    Dtype { name: "F16", size: 2 },
    Dtype { name: "BF16", size: 2 },
    Dtype { name: "I32", size: 4 },
    Dtype { name: "U32", size: 4 },
    Dtype { name: "F32", size: 4 },
    Dtype { name: "I64", size: 8 },
    Dtype { name: "U64", size: 8 },
    Dtype { name: "F64", size: 8 },
    Dtype { name: "C64", size: 8 },
];

impl Dtype {
    /// The type of a name as safetensors spells it: `F32`, `BF16`, `I64`, `BOOL`.
    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.into_iter().find(|dtype| dtype.name == name)
    }

    pub fn name(self) -> &'static str {
        self.name
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        self.size
    }

    /// What the address of a tensor in a file is a multiple of. A C64 is two floats.
    pub(crate) fn alignment(self) -> usize {
        if self.name == "C64" { 4 } else { self.size }
    }

    /// Whether only the bytes 0 and 1 are values of the type.
    pub(crate) fn is_bool(self) -> bool {
        self.name == "BOOL"
    }
}
