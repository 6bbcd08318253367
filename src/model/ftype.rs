//! What a file says about its overall quantisation: `general.file_type`.

use std::collections::HashMap;

use crate::quant::QuantType;

/// `enum llama_ftype` by number; names are those of llama.cpp's model descriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ftype {
    /// Number in the file, without the guessed bit.
    pub id: u32,
    /// The file does not say; made out from its tensors.
    pub guessed: bool,
}

/// Added to the number of a guessed type (`LLAMA_FTYPE_GUESSED`).
const GUESSED: u32 = 1024;

impl Ftype {
    /// The type that most of these tensors have, by number of tensors.
    pub fn guess(types: impl Iterator<Item = QuantType>) -> Self {
        let mut counts = HashMap::new();
        let mut most = (0, None);
        for ty in types {
            let n = counts.entry(ty).and_modify(|n| *n += 1).or_insert(1);
            if *n > most.0 {
                most = (*n, Some(ty)); // of equals, the first that got there
            }
        }
        let id = match most.1 {
            Some(QuantType::F16) => 1,
            Some(QuantType::Q4_0) => 2,
            Some(QuantType::Q4_1) => 3,
            Some(QuantType::Q8_0) => 7,
            Some(QuantType::Q5_0) => 8,
            Some(QuantType::Q5_1) => 9,
            Some(QuantType::Q2_K) => 10,
            Some(QuantType::Q3_K) => 12,
            Some(QuantType::Q4_K) => 15,
            Some(QuantType::Q5_K) => 17,
            Some(QuantType::Q6_K) => 18,
            Some(QuantType::IQ2_XXS) => 19,
            Some(QuantType::IQ2_XS) => 20,
            Some(QuantType::IQ3_XXS) => 23,
            Some(QuantType::IQ1_S) => 24,
            Some(QuantType::IQ4_NL) => 25,
            Some(QuantType::IQ3_S) => 26,
            Some(QuantType::IQ2_S) => 28,
            Some(QuantType::IQ4_XS) => 30,
            Some(QuantType::IQ1_M) => 31,
            Some(QuantType::BF16) => 32,
            Some(QuantType::TQ1_0) => 36,
            Some(QuantType::TQ2_0) => 37,
            Some(QuantType::NVFP4) => 39,
            Some(QuantType::Q1_0) => 40,
            Some(QuantType::Q2_0) => 41,
            _ => 0, // MXFP4 among them, as in llama.cpp
        };
        Self { id, guessed: true }
    }

    /// The number as the C ABI gives it.
    pub fn c_id(self) -> u32 {
        if self.guessed { self.id | GUESSED } else { self.id }
    }

    /// The type that a number of the C ABI stands for.
    pub fn from_c_id(id: u32) -> Self {
        Self { id: id & !GUESSED, guessed: id & GUESSED != 0 }
    }

    /// Name for descriptions; `unknown, may not work` when there is none.
    pub fn name(self) -> String {
        let name = match self.id {
            0 => "all F32",
            1 => "F16",
            2 => "Q4_0",
            3 => "Q4_1",
            7 => "Q8_0",
            8 => "Q5_0",
            9 => "Q5_1",
            10 => "Q2_K - Medium",
            11 => "Q3_K - Small",
            12 => "Q3_K - Medium",
            13 => "Q3_K - Large",
            14 => "Q4_K - Small",
            15 => "Q4_K - Medium",
            16 => "Q5_K - Small",
            17 => "Q5_K - Medium",
            18 => "Q6_K",
            19 => "IQ2_XXS - 2.0625 bpw",
            20 => "IQ2_XS - 2.3125 bpw",
            21 => "Q2_K - Small",
            22 => "IQ3_XS - 3.3 bpw",
            23 => "IQ3_XXS - 3.0625 bpw",
            24 => "IQ1_S - 1.5625 bpw",
            25 => "IQ4_NL - 4.5 bpw",
            26 => "IQ3_S - 3.4375 bpw",
            27 => "IQ3_S mix - 3.66 bpw",
            28 => "IQ2_S - 2.5 bpw",
            29 => "IQ2_M - 2.7 bpw",
            30 => "IQ4_XS - 4.25 bpw",
            31 => "IQ1_M - 1.75 bpw",
            32 => "BF16",
            36 => "TQ1_0 - 1.69 bpw ternary",
            37 => "TQ2_0 - 2.06 bpw ternary",
            38 => "MXFP4 MoE",
            39 => "NVFP4",
            40 => "Q1_0",
            41 => "Q2_0",
            _ => "unknown, may not work",
        };
        if self.guessed { format!("(guessed) {name}") } else { name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::types::TYPES;

    #[test]
    fn the_commonest_type_names_the_file() {
        use QuantType::{F32, Q4_K, Q6_K};
        let guess = |types: &[QuantType]| Ftype::guess(types.iter().copied()).name();
        assert_eq!(guess(&[F32, Q4_K, Q6_K, Q4_K]), "(guessed) Q4_K - Medium");
        assert_eq!(guess(&[Q4_K, Q6_K, Q6_K, Q4_K]), "(guessed) Q6_K");
        assert_eq!(guess(&[]), "(guessed) all F32");
    }

    /// Files of one type are called by it, for the types that are what a file is made of.
    #[test]
    fn every_guess_has_the_name_of_its_type() {
        for t in TYPES.iter().filter(|t| t.block_len > 1) {
            let name = Ftype { guessed: false, ..Ftype::guess([t.ty].into_iter()) }.name();
            match t.name {
                "mxfp4" | "q8_1" | "q8_K" => assert_eq!(name, "all F32"),
                _ => assert!(name.to_lowercase().starts_with(&t.name.to_lowercase()), "{name}"),
            }
        }
    }

    #[test]
    fn numbers_without_a_type_have_no_name() {
        for id in [4, 5, 6, 33, 34, 35, 42, 1023] {
            assert_eq!(Ftype::from_c_id(id).name(), "unknown, may not work");
        }
        let named = (0..1024).filter(|id| !Ftype::from_c_id(*id).name().starts_with("unknown"));
        assert_eq!(named.count(), 36);
    }
}
