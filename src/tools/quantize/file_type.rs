//! What a file is quantised to as a whole: `enum llama_ftype`.

use crate::quant::QuantType;

macro_rules! table {
    ($($name:ident $id:literal $ty:ident;)*) => {
        /// A mix of types; the discriminant is the number in `general.file_type` and in
        /// `enum llama_ftype`.
        #[allow(missing_docs, non_camel_case_types, reason = "the field's own names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum FileType { $($name = $id,)* }

        impl FileType {
            /// All that files can be quantised to.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type of tensors that no rule makes something else.
            pub const fn base(self) -> QuantType {
                match self { $(Self::$name => QuantType::$ty,)* }
            }
        }
    };
}
table! {
    F32 0 F32;
    F16 1 F16;
    Q4_0 2 Q4_0;
    Q4_1 3 Q4_1;
    Q8_0 7 Q8_0;
    Q5_0 8 Q5_0;
    Q5_1 9 Q5_1;
    Q2_K 10 Q2_K;
    Q3_K_S 11 Q3_K;
    Q3_K_M 12 Q3_K;
    Q3_K_L 13 Q3_K;
    Q4_K_S 14 Q4_K;
    Q4_K_M 15 Q4_K;
    Q5_K_S 16 Q5_K;
    Q5_K_M 17 Q5_K;
    Q6_K 18 Q6_K;
    IQ2_XXS 19 IQ2_XXS;
    IQ2_XS 20 IQ2_XS;
    Q2_K_S 21 Q2_K;
    IQ3_XS 22 IQ3_S;
    IQ3_XXS 23 IQ3_XXS;
    IQ1_S 24 IQ1_S;
    IQ4_NL 25 IQ4_NL;
    IQ3_S 26 IQ3_S;
    IQ3_M 27 IQ3_S;
    IQ2_S 28 IQ2_XS;
    IQ2_M 29 IQ2_S;
    IQ4_XS 30 IQ4_XS;
    IQ1_M 31 IQ1_M;
    BF16 32 BF16;
    TQ1_0 36 TQ1_0;
    TQ2_0 37 TQ2_0;
    MXFP4_MOE 38 MXFP4;
    Q1_0 40 Q1_0;
    Q2_0 41 Q2_0;
}

impl FileType {
    /// The mix with this number.
    pub fn from_id(id: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| i64::from(*t as u32) == i64::from(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ftype;

    /// Each mix has the name of its numbers in model descriptions; numbers that were taken out of
    /// the header or that nothing is quantised to are none.
    #[test]
    fn numbers_are_those_of_files() {
        for ty in FileType::ALL {
            assert_eq!(FileType::from_id(*ty as i32), Some(*ty));
            let name = Ftype { id: *ty as u32, guessed: false }.name().to_uppercase();
            let short = format!("{ty:?}");
            assert!(name.contains(&short[..short.len().min(4)]), "{short} is {name}");
        }
        for id in [-1, 4, 5, 6, 33, 39, 42, 1024, i32::MAX, i32::MIN] {
            assert_eq!(FileType::from_id(id), None);
        }
    }
}
