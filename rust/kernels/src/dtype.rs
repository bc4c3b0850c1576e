//! The element types of a tensor.

/// An element type; the discriminants are PyTorch's `c10::ScalarType` codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DType {
    U8 = 0,
    I8 = 1,
    I16 = 2,
    I32 = 3,
    I64 = 4,
    F16 = 5,
    F32 = 6,
    F64 = 7,
    C64 = 9,
    C128 = 10,
    Bool = 11,
    BF16 = 15,
}

/// PyTorch's name of a `c10::ScalarType` code, for messages: dtypes whose elements are only moved too.
pub const fn name_of_code(code: u8) -> &'static str {
    match code {
        8 => "complex32",
        23 => "float8_e5m2",
        24 => "float8_e4m3fn",
        25 => "float8_e5m2fnuz",
        26 => "float8_e4m3fnuz",
        27 => "uint16",
        28 => "uint32",
        29 => "uint64",
        44 => "float8_e8m0fnu",
        _ => match DType::from_code(code) {
            Some(dtype) => dtype.name(),
            None => "an unknown dtype",
        },
    }
}

impl DType {
    /// The dtype of a `c10::ScalarType` code, where Rust has it.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::I16,
            3 => Self::I32,
            4 => Self::I64,
            5 => Self::F16,
            6 => Self::F32,
            7 => Self::F64,
            9 => Self::C64,
            10 => Self::C128,
            11 => Self::Bool,
            15 => Self::BF16,
            _ => return None,
        })
    }

    /// Bytes an element.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 | Self::C64 => 8,
            Self::C128 => 16,
        }
    }

    /// PyTorch's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::C64 => "complex64",
            Self::C128 => "complex128",
            Self::Bool => "bool",
            Self::BF16 => "bfloat16",
        }
    }

    /// The dtype that PyTorch calls so.
    pub fn of_name(name: &str) -> Option<Self> {
        (0..=u8::MAX).filter_map(Self::from_code).find(|dtype| dtype.name() == name)
    }

    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    pub const fn is_complex(self) -> bool {
        matches!(self, Self::C64 | Self::C128)
    }

    /// The dtype arithmetic is done in: f32 for the half types, itself for the rest.
    pub const fn compute(self) -> Self {
        match self {
            Self::F16 | Self::BF16 => Self::F32,
            other => other,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
