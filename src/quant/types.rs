//! The number formats that GGUF tensors come in: ids, names and block sizes (GGUF specification).

use std::fmt;

/// A number format; the discriminant is the id in GGUF files and in `enum ggml_type`.
#[allow(missing_docs, non_camel_case_types, reason = "the field's own names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum QuantType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q8_1 = 9,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    Q8_K = 15,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ3_XXS = 18,
    IQ1_S = 19,
    IQ4_NL = 20,
    IQ3_S = 21,
    IQ2_S = 22,
    IQ4_XS = 23,
    I8 = 24,
    I16 = 25,
    I32 = 26,
    I64 = 27,
    F64 = 28,
    IQ1_M = 29,
    BF16 = 30,
    TQ1_0 = 34,
    TQ2_0 = 35,
    MXFP4 = 39,
    NVFP4 = 40,
    Q1_0 = 41,
    Q2_0 = 42,
}

/// Facts about one [`QuantType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// The type.
    pub ty: QuantType,
    /// Name as `ggml_type_name` gives it.
    pub name: &'static str,
    /// Elements in a block; 1 for plain numbers.
    pub block_len: usize,
    /// Bytes in a block.
    pub block_bytes: usize,
}

macro_rules! table {
    ($($ty:ident $name:literal $len:literal $bytes:literal;)*) => {
        /// Every type, by ascending id.
        pub const TYPES: &[TypeInfo] = &[$(
            TypeInfo { ty: QuantType::$ty, name: $name, block_len: $len, block_bytes: $bytes },
        )*];
    };
}
table! {
    F32 "f32" 1 4;
    F16 "f16" 1 2;
    Q4_0 "q4_0" 32 18;
    Q4_1 "q4_1" 32 20;
    Q5_0 "q5_0" 32 22;
    Q5_1 "q5_1" 32 24;
    Q8_0 "q8_0" 32 34;
    Q8_1 "q8_1" 32 36;
    Q2_K "q2_K" 256 84;
    Q3_K "q3_K" 256 110;
    Q4_K "q4_K" 256 144;
    Q5_K "q5_K" 256 176;
    Q6_K "q6_K" 256 210;
    Q8_K "q8_K" 256 292;
    IQ2_XXS "iq2_xxs" 256 66;
    IQ2_XS "iq2_xs" 256 74;
    IQ3_XXS "iq3_xxs" 256 98;
    IQ1_S "iq1_s" 256 50;
    IQ4_NL "iq4_nl" 32 18;
    IQ3_S "iq3_s" 256 110;
    IQ2_S "iq2_s" 256 82;
    IQ4_XS "iq4_xs" 256 136;
    I8 "i8" 1 1;
    I16 "i16" 1 2;
    I32 "i32" 1 4;
    I64 "i64" 1 8;
    F64 "f64" 1 8;
    IQ1_M "iq1_m" 256 56;
    BF16 "bf16" 1 2;
    TQ1_0 "tq1_0" 256 54;
    TQ2_0 "tq2_0" 256 66;
    MXFP4 "mxfp4" 32 17;
    NVFP4 "nvfp4" 64 36;
    Q1_0 "q1_0" 128 18;
    Q2_0 "q2_0" 64 18;
}

impl QuantType {
    /// The type with this GGUF id.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().find(|t| t.ty as u32 == id).map(|t| t.ty)
    }

    /// Name, block length and block size.
    pub const fn info(self) -> &'static TypeInfo {
        let mut i = 0;
        while TYPES[i].ty as u32 != self as u32 {
            i += 1; // ends: every type is in the table (tested)
        }
        &TYPES[i]
    }

    /// Elements in a block.
    pub const fn block_len(self) -> usize {
        self.info().block_len
    }

    /// Bytes of a row of `n` elements; `None` when `n` is not a whole number of blocks or the
    /// size overflows.
    pub fn row_bytes(self, n: u64) -> Option<u64> {
        let info = self.info();
        let blocks = n / info.block_len as u64;
        if !n.is_multiple_of(info.block_len as u64) {
            return None;
        }
        blocks.checked_mul(info.block_bytes as u64)
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_complete_and_ascending() {
        for pair in TYPES.windows(2) {
            assert!((pair[0].ty as u32) < pair[1].ty as u32);
        }
        for info in TYPES {
            assert_eq!(QuantType::from_id(info.ty as u32), Some(info.ty));
            assert_eq!(info.ty.info(), info);
        }
        assert_eq!(QuantType::from_id(4), None);
        assert_eq!(QuantType::from_id(43), None);
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(QuantType::Q4_0.row_bytes(64), Some(36));
        assert_eq!(QuantType::Q4_0.row_bytes(33), None);
        assert_eq!(QuantType::I64.row_bytes(u64::MAX), None);
    }
}
