//! Kernel tables: which code runs for an operation on this processor.
//!
//! One static table per instruction set, chosen once at run time and passed explicitly. The rows
//! are unsafe function pointers; the methods on the table are safe because they check lengths and
//! because a table can only be had on a processor that supports it.
#![allow(unsafe_code, reason = "calls kernels after checking lengths and processor features")]

pub mod attn;
mod float;
mod int8;
mod listed;
mod signs;
mod sum_rows;
mod tiles;
mod vec;
mod weights;

use std::fmt;

use super::kernels::int8::Int8Kernels;
use super::kernels::scalar::signs::CountDifferentFn;
use super::kernels::sum_rows::SumKernels;
use super::kernels::tiles::TileKernels;
pub use attn::{AttnState, AttnTile};
pub use float::ActF32;
pub use int8::ActQ8;
pub use tiles::TiledRows;
pub use weights::WeightRows;

/// Instruction sets that have kernels, from the plainest to the best.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    Scalar,
    /// AVX2 with FMA, F16C and POPCNT.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 as above, with VNNI (and BF16 where a kernel asks for it).
    Avx512Vnni,
}

impl Isa {
    /// All instruction sets, plainest first.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni];

    /// Name as in `POWERINFER_ISA` and `REQUIRE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512vnni",
        }
    }

    /// The instruction set of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Whether this processor has it.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Isa::Scalar => true,
                Isa::Avx2 => avx2,
                Isa::Avx512 => avx512,
                Isa::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Scalar
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kernels of one instruction set.
pub struct KernelTable {
    isa: Isa,
    float: float::FloatKernels,
    int8: Int8Kernels,
    tiles: TileKernels,
    vec: vec::VecKernels,
    attn: attn::AttnKernels,
    places: listed::PlaceKernels,
    count_different: CountDifferentFn,
    sum: SumKernels,
}

static TABLES: [KernelTable; 4] = [
    KernelTable::of(Isa::Scalar),
    KernelTable::of(Isa::Avx2),
    KernelTable::of(Isa::Avx512),
    KernelTable::of(Isa::Avx512Vnni),
];

impl KernelTable {
    const fn of(isa: Isa) -> Self {
        Self {
            isa,
            float: float::FloatKernels::of(isa),
            int8: Int8Kernels::of(isa),
            tiles: TileKernels::of(isa),
            vec: vec::VecKernels::of(isa),
            attn: attn::AttnKernels::of(isa),
            places: listed::PlaceKernels::of(isa),
            count_different: signs::kernel(isa),
            sum: SumKernels::of(isa),
        }
    }

    /// The table of an instruction set, when this processor has it.
    pub fn for_isa(isa: Isa) -> Option<&'static Self> {
        TABLES.iter().find(|t| t.isa == isa).filter(|_| isa.is_supported())
    }

    /// Tables that this processor can run, plainest first.
    pub fn all_supported() -> Vec<&'static Self> {
        Isa::ALL.into_iter().filter_map(Self::for_isa).collect()
    }

    /// The best table of this processor, or the one that `POWERINFER_ISA` names.
    pub fn detect() -> &'static Self {
        let wanted = std::env::var("POWERINFER_ISA").ok();
        if let Some(name) = wanted.as_deref() {
            match Isa::from_name(name).and_then(Self::for_isa) {
                Some(table) => return table,
                None => crate::log_warn!("POWERINFER_ISA={name}: unknown or not on this processor"),
            }
        }
        Self::all_supported().pop().unwrap_or(&TABLES[0])
    }

    /// Which instruction set this is.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
