//! The float kernels of every instruction set: against independent f64 arithmetic and the plain
//! reference, and against themselves: a value's bits do not depend on what else is in the call.
//!
//! `REQUIRE_ISA=avx512` turns "not available here" into a failure.

mod act;
mod attn;
mod float;
mod guard;
mod listed;
mod vec;

use powerinfer::backend::cpu::{Isa, KernelTable};

/// Lengths around register and block sizes.
const LENGTHS: [usize; 15] = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 257, 576];

/// The table to compare with.
fn reference() -> &'static KernelTable {
    KernelTable::for_isa(Isa::Scalar).unwrap()
}

#[test]
fn required_instruction_set_is_here() {
    if let Ok(name) = std::env::var("REQUIRE_ISA") {
        let isa = Isa::from_name(&name).unwrap_or_else(|| panic!("no instruction set '{name}'"));
        assert!(KernelTable::for_isa(isa).is_some(), "{name} is required and not available");
    }
}

/// A small generator of reproducible numbers (xorshift64*).
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in -1..1.
    fn float(&mut self) -> f32 {
        (self.next() & 0xFF_FFFF) as f32 / 8_388_608.0 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Bits, with all NaNs alike: their sign and payload are nobody's promise.
fn bits_or_nan(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}
