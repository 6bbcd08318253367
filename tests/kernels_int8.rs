//! The integer mat-mul kernels of every instruction set against the scalar ones, bit for bit.
//!
//! `REQUIRE_ISA=avx512vnni` makes it a failure when that instruction set is not available, so that
//! a machine cannot skip it in silence.

use std::ops::Range;

use half::f16;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActQ8, WeightRows};
use powerinfer::backend::cpu::{Isa, KernelTable};
use powerinfer::quant::QuantType;
use powerinfer::util::aligned::AlignedVec;
use proptest::prelude::*;

const TYPES: [QuantType; 7] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q8_0,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::IQ4_NL,
    QuantType::MXFP4,
];

/// xorshift64: small, repeatable, good enough for test data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// What the weights look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    /// Bytes counting 0..251 over everything, scales included.
    Painted,
    /// All codes at their largest, scales at the largest half (MXFP4: 2^60).
    AllOnes,
    /// All codes at their lowest, scales at the most negative half (MXFP4: 2^-128).
    Lowest,
    /// Random codes, scales around 0.01.
    Random,
    /// Random codes; some scales and minimums are infinite or NaN.
    NonFinite,
}

const PATTERNS: [Pattern; 5] =
    [Pattern::Painted, Pattern::AllOnes, Pattern::Lowest, Pattern::Random, Pattern::NonFinite];

/// Halves at the front of a block: scale, and minimum where there is one.
fn n_halves(ty: QuantType) -> usize {
    match ty {
        QuantType::Q4_1 | QuantType::Q5_1 => 2,
        QuantType::MXFP4 => 0,
        _ => 1,
    }
}

fn weights(ty: QuantType, k: usize, n_rows: usize, pattern: Pattern) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (k as u64) << 20 ^ n_rows as u64);
    let n_bytes = ty.info().block_bytes;
    let mut data = vec![0u8; k / 32 * n_bytes * n_rows];
    if pattern == Pattern::Painted {
        data.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8);
        return data;
    }
    for block in data.chunks_exact_mut(n_bytes) {
        let (halves, codes) = block.split_at_mut(2 * n_halves(ty));
        for half in halves.chunks_exact_mut(2) {
            let value = match pattern {
                Pattern::AllOnes => f16::MAX,
                Pattern::Lowest => f16::MIN,
                Pattern::NonFinite if random.next().is_multiple_of(64) => {
                    [f16::INFINITY, f16::NEG_INFINITY, f16::NAN][random.next() as usize % 3]
                }
                _ => f16::from_f32(0.01 * random.unit()),
            };
            half.copy_from_slice(&value.to_le_bytes());
        }
        codes.fill_with(|| match (pattern, ty) {
            (Pattern::AllOnes, QuantType::Q8_0) => 127,
            (Pattern::AllOnes, QuantType::MXFP4) => 0x77,
            (Pattern::AllOnes, _) => 0xff,
            (Pattern::Lowest, QuantType::Q8_0) => 0x80,
            (Pattern::Lowest, QuantType::MXFP4) => 0xff,
            (Pattern::Lowest, _) => 0,
            _ => random.byte(),
        });
        if ty == QuantType::MXFP4 {
            block[0] = match pattern {
                Pattern::AllOnes => 188,
                Pattern::Lowest => 0,
                Pattern::NonFinite => [0, 1, 2, 3, 127, 255][random.next() as usize % 6],
                _ => 118 + random.byte() % 6,
            };
        }
    }
    data
}

/// Activations with whole blocks at the extremes among random ones.
fn activations(k: usize, n: usize, pattern: Pattern) -> Vec<f32> {
    let mut random = Random(0x2545_f491_4f6c_dd1d ^ (k as u64) << 20 ^ n as u64);
    let mut x: Vec<f32> = (0..n * k).map(|_| random.unit()).collect();
    let extremes = matches!(pattern, Pattern::AllOnes | Pattern::Lowest);
    for (i, block) in x.chunks_exact_mut(32).enumerate() {
        match i % 7 {
            _ if extremes && i % 5 < 3 => block.fill(1.0),
            _ if extremes => block.fill(-0.3),
            3 => block.fill(0.0),
            5 if pattern == Pattern::NonFinite && random.next().is_multiple_of(8) => {
                block[7] = f32::NAN
            }
            _ => {}
        }
    }
    x
}

/// Quantised activations that own their memory.
struct Act {
    k: usize,
    q: Vec<i8>,
    d: Vec<f32>,
    s: Vec<i32>,
}

impl Act {
    fn new(table: &KernelTable, k: usize, x: &[f32]) -> Self {
        let n_blocks = x.len() / 32;
        let mut act = Self { k, q: vec![0; x.len()], d: vec![0.0; n_blocks], s: vec![0; n_blocks] };
        table.quantize_q8(x, &mut act.q, &mut act.d, &mut act.s);
        act
    }
    fn tokens(&self, t: Range<usize>) -> ActQ8<'_> {
        let (k, nb) = (self.k, self.k / 32);
        ActQ8 {
            k,
            n: t.len(),
            q: &self.q[t.start * k..t.end * k],
            d: &self.d[t.start * nb..t.end * nb],
            s: &self.s[t.start * nb..t.end * nb],
        }
    }
}

/// The product as `act.n` rows of `rows.len()`, computed into a wider matrix whose other columns
/// must stay untouched.
fn mul_mat(
    table: &KernelTable,
    w: &WeightRows<'_>,
    rows: Range<usize>,
    act: &ActQ8<'_>,
    scratch: &mut AlignedVec<u8>,
) -> Vec<f32> {
    const MARGIN: usize = 3;
    let (width, ld) = (rows.len(), rows.len() + 2 * MARGIN);
    let mut y = vec![-7.5; act.n * ld];
    let mut view = ColsMut::new(&mut y, ld, MARGIN..MARGIN + width);
    table.mul_mat_q8(w, rows, act, &mut view, scratch);
    let mut out = Vec::with_capacity(act.n * width);
    for row in y.chunks_exact(ld.max(1)) {
        assert!(row[..MARGIN].iter().chain(&row[MARGIN + width..]).all(|&y| y == -7.5));
        out.extend_from_slice(&row[MARGIN..MARGIN + width]);
    }
    out
}

/// Equal to the bit; a NaN equals any NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

fn tables() -> Vec<&'static KernelTable> {
    let tables = KernelTable::all_supported();
    if let Ok(name) = std::env::var("REQUIRE_ISA") {
        let isa = Isa::from_name(&name).expect("REQUIRE_ISA names an instruction set");
        assert!(tables.iter().any(|t| t.isa() == isa), "{isa} is not available here");
    }
    tables
}

/// Compares a part of a product with the same part of the scalar kernel's whole product.
fn check(
    table: &KernelTable,
    w: &WeightRows<'_>,
    act: &Act,
    whole: &[f32],
    (rows, tokens): (Range<usize>, Range<usize>),
    scratch: &mut AlignedVec<u8>,
) {
    let y = mul_mat(table, w, rows.clone(), &act.tokens(tokens.clone()), scratch);
    for (t, y) in tokens.clone().zip(y.chunks_exact(rows.len().max(1))) {
        for (i, &y) in rows.clone().zip(y) {
            let expected = whole[t * w.n_rows + i];
            assert!(
                same(y, expected),
                "{} {} k={} rows {rows:?} tokens {tokens:?}: y[{t}][{i}] = {y:e} ({:#x}), \
                 scalar alone {expected:e} ({:#x})",
                table.isa(),
                w.ty,
                w.k,
                y.to_bits(),
                expected.to_bits()
            );
        }
    }
}

/// Every instruction set gives the scalar kernel's bits, whichever rows and tokens are asked for
/// together.
#[test]
fn any_company_any_isa_same_bits() {
    const N_ROWS: usize = 64 + 5;
    const N_TOKENS: usize = 33;
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        for k in [32, 64, 96, 576, 1536, 2048 + 32] {
            for pattern in PATTERNS {
                let data = weights(ty, k, N_ROWS, pattern);
                let w = WeightRows { ty, data: &data, k, n_rows: N_ROWS };
                let act = Act::new(scalar, k, &activations(k, N_TOKENS, pattern));
                let whole = mul_mat(scalar, &w, 0..N_ROWS, &act.tokens(0..N_TOKENS), &mut scratch);
                if pattern != Pattern::NonFinite && pattern != Pattern::Painted {
                    assert!(whole.iter().all(|y| y.is_finite()));
                    let zeros = whole.iter().filter(|&&y| y == 0.0).count();
                    assert!(zeros <= whole.len() / 6, "the comparison would be an empty one");
                }
                for table in tables() {
                    for n_rows in [1, 2, 15, 16, 17, 31, 33, 64] {
                        for n in [1, 2, 3, 4, 5, 7, 8, 9, 16, 33] {
                            // Alternate between both ends, so that every offset meets every type.
                            let row0 = (n_rows + n + k / 32) % 6;
                            let token0 = if n_rows % 2 == 0 { 0 } else { N_TOKENS - n };
                            let part = (row0..row0 + n_rows, token0..token0 + n);
                            check(table, &w, &act, &whole, part, &mut scratch);
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_shapes_same_bits(
        ty in proptest::sample::select(&TYPES[..]),
        n_blocks in 1usize..50,
        rows in (0usize..40, 0usize..70),
        n in 0usize..20,
        x in proptest::collection::vec(any::<f32>(), 64),
        seed in 1u64..,
    ) {
        let (k, n_rows) = (32 * n_blocks, rows.0 + rows.1);
        let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
        let mut random = Random(seed);
        let data: Vec<u8> =
            (0..ty.info().block_bytes * n_blocks * n_rows).map(|_| random.byte()).collect();
        let w = WeightRows { ty, data: &data, k, n_rows };
        let x: Vec<f32> = (0..n * k).map(|_| x[random.next() as usize % x.len()]).collect();
        let act = Act::new(scalar, k, &x);
        let mut scratch = AlignedVec::new();
        let whole = mul_mat(scalar, &w, 0..n_rows, &act.tokens(0..n), &mut scratch);
        for table in tables() {
            check(table, &w, &act, &whole, (rows.0..n_rows, 0..n), &mut scratch);
        }
    }

    #[test]
    fn random_floats_quantise_alike(x in proptest::collection::vec(any::<f32>(), 320)) {
        let scalar = Act::new(KernelTable::for_isa(Isa::Scalar).unwrap(), 32, &x);
        for table in tables() {
            assert_same_act(table, &scalar, &Act::new(table, 32, &x));
        }
    }
}

fn assert_same_act(table: &KernelTable, expected: &Act, act: &Act) {
    assert_eq!(act.q, expected.q, "{}", table.isa());
    assert_eq!(act.s, expected.s, "{}", table.isa());
    assert!(act.d.iter().zip(&expected.d).all(|(&a, &b)| same(a, b)), "{}", table.isa());
}

#[test]
fn quantise_special_blocks() {
    let mut random = Random(77);
    // (block, expected scale, expected codes when they are all the same)
    let mut blocks: Vec<([f32; 32], Option<f32>)> = vec![
        ([0.0; 32], Some(0.0)),
        ([-0.0; 32], Some(0.0)),
        ([f32::from_bits(1); 32], Some(0.0)),
        ([f32::MIN_POSITIVE; 32], Some(0.0)),
        ([f32::MAX; 32], Some(f32::MAX / 127.0)),
        ([f32::MIN; 32], Some(f32::MAX / 127.0)),
        ([1e-36; 32], Some(1e-36 / 127.0)),
        (std::array::from_fn(|i| if i == 31 { f32::INFINITY } else { 1.0 }), Some(f32::NAN)),
        (std::array::from_fn(|i| if i == 16 { f32::NEG_INFINITY } else { 1.0 }), Some(f32::NAN)),
        (std::array::from_fn(|i| if i == 0 { f32::NAN } else { 1.0 }), Some(f32::NAN)),
        (std::array::from_fn(|i| if i == 15 { -f32::NAN } else { 0.0 }), Some(f32::NAN)),
        // Ties: the scale is 1, so the values are the codes before rounding.
        (std::array::from_fn(|i| if i == 0 { -127.0 } else { i as f32 - 16.5 }), Some(1.0)),
    ];
    for exponent in -140..127 {
        let scale = 2f32.powi(exponent);
        blocks.push((std::array::from_fn(|_| scale * random.unit()), None));
    }
    let x: Vec<f32> = blocks.iter().flat_map(|b| b.0).collect();
    let scalar = Act::new(KernelTable::for_isa(Isa::Scalar).unwrap(), 32, &x);
    for (i, (block, d)) in blocks.iter().enumerate() {
        let Some(d) = *d else { continue };
        assert!(same(scalar.d[i], d), "block {i} {block:?}: scale {}", scalar.d[i]);
        let q = &scalar.q[32 * i..32 * i + 32];
        assert_eq!(scalar.s[i], q.iter().map(|&q| i32::from(q)).sum::<i32>());
        if d == 0.0 || d.is_nan() {
            assert_eq!(q, [0; 32], "block {i}");
        }
    }
    let ties = &scalar.q[32 * 11..32 * 12];
    assert_eq!(&ties[..4], [-127, -16, -14, -14]);
    assert_eq!(&ties[14..20], [-2, -2, 0, 0, 2, 2]);
    assert_eq!(&scalar.q[32 * 4..32 * 4 + 2], [127, 127]);
    assert_eq!(&scalar.q[32 * 5..32 * 5 + 2], [-127, -127]);
    for table in tables() {
        assert_same_act(table, &scalar, &Act::new(table, 32, &x));
    }
}

/// The weight that a block's element stands for, from the format's description alone.
fn dequantise(ty: QuantType, block: &[u8], i: usize) -> f64 {
    let half = |at: usize| f64::from(f16::from_le_bytes([block[at], block[at + 1]]));
    let nibble = |at: usize| f64::from(block[at + i % 16] >> (4 * (i / 16)) & 15);
    let bit = |at: usize| f64::from(block[at + i / 8] >> (i % 8) & 1);
    match ty {
        QuantType::Q4_0 => half(0) * (nibble(2) - 8.0),
        QuantType::Q4_1 => half(0) * nibble(4) + half(2),
        QuantType::Q5_0 => half(0) * (nibble(6) + 16.0 * bit(2) - 16.0),
        QuantType::Q5_1 => half(0) * (nibble(8) + 16.0 * bit(4)) + half(2),
        QuantType::IQ4_NL => {
            let values = [
                -127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89.,
                113.,
            ];
            half(0) * values[nibble(2) as usize]
        }
        QuantType::MXFP4 => {
            // Sign, two bits of exponent, one of mantissa.
            let e2m1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
            let code = nibble(1) as usize;
            let sign = if code < 8 { 1.0 } else { -1.0 };
            sign * e2m1[code % 8] * 2f64.powi(i32::from(block[0]) - 127)
        }
        _ => half(0) * f64::from(block[2 + i].cast_signed()),
    }
}

/// All the above hold kernels to one another; this holds them to what the numbers mean.
#[test]
fn close_to_the_dequantised_product() {
    let (k, n_rows, n) = (1536, 48, 9);
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        let n_bytes = ty.info().block_bytes;
        let data = weights(ty, k, n_rows, Pattern::Random);
        let w = WeightRows { ty, data: &data, k, n_rows };
        let x = activations(k, n, Pattern::Random);
        for table in tables() {
            let act = Act::new(table, k, &x);
            let y = mul_mat(table, &w, 0..n_rows, &act.tokens(0..n), &mut scratch);
            let (mut error, mut power) = (0.0, 0.0);
            for (j, &y) in y.iter().enumerate() {
                let (x, row) = (&x[j / n_rows * k..], &data[j % n_rows * (k / 32 * n_bytes)..]);
                let exact: f64 = (0..k)
                    .map(|i| dequantise(ty, &row[i / 32 * n_bytes..], i % 32) * f64::from(x[i]))
                    .sum();
                error += (f64::from(y) - exact).powi(2);
                power += exact.powi(2);
            }
            let nmse = error / power;
            assert!(nmse < 1e-4, "{} {ty}: NMSE {nmse:e}", table.isa());
        }
    }
}

#[test]
fn hand_computed_block() {
    let mut data = vec![0u8; 20];
    data[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
    data[2..4].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
    // Element 0 is 3, element 16 is 10, all others 0.
    data[4] = 0xa3;
    let w = WeightRows { ty: QuantType::Q4_1, data: &data, k: 32, n_rows: 1 };
    let mut x = [0.0; 32];
    (x[0], x[16], x[31]) = (127.0, 4.0, -1.0);
    for table in tables() {
        let act = Act::new(table, 32, &x);
        let y = mul_mat(table, &w, 0..1, &act.tokens(0..1), &mut AlignedVec::new());
        // 0.5 * (3 * 127 + 10 * 4) - 2 * (127 + 4 - 1)
        assert_eq!(y, [210.5 - 260.0], "{}", table.isa());
    }
}

/// 16-bit partial sums at their limits. Quantising never gives the code -128, callers might.
#[test]
fn extreme_codes_do_not_saturate() {
    const K: usize = 64;
    let mut scratch = AlignedVec::new();
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    for (ty, pattern) in TYPES.into_iter().flat_map(|ty| PATTERNS.map(|p| (ty, p))) {
        let data = weights(ty, K, 17, pattern);
        let w = WeightRows { ty, data: &data, k: K, n_rows: 17 };
        for q in [-128, -127, 127] {
            let n = 7;
            let act = Act {
                k: K,
                q: vec![q; n * K],
                d: vec![1.5; n * K / 32],
                s: vec![32 * i32::from(q); n * K / 32],
            };
            let whole = mul_mat(scalar, &w, 0..17, &act.tokens(0..n), &mut scratch);
            for table in tables() {
                for n in [1, n] {
                    check(table, &w, &act, &whole, (0..17, 0..n), &mut scratch);
                }
            }
        }
    }
}

#[test]
fn empty_products() {
    let mut scratch = AlignedVec::new();
    for table in tables() {
        assert!(table.has_int8(QuantType::Q4_0) && !table.has_int8(QuantType::F16));
        let w = WeightRows { ty: QuantType::Q4_0, data: &[], k: 0, n_rows: 3 };
        let act = ActQ8 { k: 0, n: 2, q: &[], d: &[], s: &[] };
        assert_eq!(mul_mat(table, &w, 1..3, &act, &mut scratch), [0.0; 4]);
        let data = [0; 36];
        let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 2 };
        let act = ActQ8 { k: 32, n: 0, q: &[], d: &[], s: &[] };
        assert!(mul_mat(table, &w, 0..2, &act, &mut scratch).is_empty());
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let data = [0; 36];
    let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 2 };
    let act = ActQ8 { k: 32, n: 1, q: &[0; 32], d: &[0.0], s: &[0] };
    type Call<'a> = (WeightRows<'a>, Range<usize>, ActQ8<'a>, usize);
    let wrong: [Call<'_>; 8] = [
        (WeightRows { n_rows: 3, ..w }, 0..2, act, 2),
        (WeightRows { k: 64, n_rows: 1, ..w }, 0..1, act, 1),
        (WeightRows { k: usize::MAX - 31, ..w }, 0..1, act, 1),
        (w, 0..3, act, 3),
        (w, 0..2, act, 1),
        (w, 0..2, ActQ8 { n: 2, ..act }, 2),
        (w, 0..2, ActQ8 { d: &[], ..act }, 2),
        (w, 0..2, ActQ8 { s: &[], ..act }, 2),
    ];
    for table in tables() {
        for (i, (w, rows, act, width)) in wrong.iter().cloned().enumerate() {
            let call = std::panic::AssertUnwindSafe(|| {
                let mut y = vec![0.0; act.n * width];
                let mut y = ColsMut::new(&mut y, width, 0..width);
                table.mul_mat_q8(&w, rows, &act, &mut y, &mut AlignedVec::new());
            });
            assert!(std::panic::catch_unwind(call).is_err(), "{} call {i}", table.isa());
        }
    }
}

/// Scratch depends on K only, so that a run never allocates after its first token.
#[test]
fn scratch_does_not_grow_with_rows_or_tokens() {
    for table in tables() {
        for ty in TYPES {
            let data = weights(ty, 576, 64, Pattern::Random);
            let w = WeightRows { ty, data: &data, k: 576, n_rows: 64 };
            let act = Act::new(table, 576, &activations(576, 40, Pattern::Random));
            let mut scratch = AlignedVec::new();
            mul_mat(table, &w, 0..1, &act.tokens(0..1), &mut scratch);
            let before = (scratch.as_ptr(), scratch.len());
            mul_mat(table, &w, 0..64, &act.tokens(0..40), &mut scratch);
            assert_eq!((scratch.as_ptr(), scratch.len()), before, "{}", table.isa());
        }
    }
}

#[cfg(unix)]
mod guarded {
    //! Inputs at the very start and end of mapped memory: nothing outside may be touched.
    #![allow(unsafe_code, reason = "maps pages that must not be read")]

    use super::*;

    /// `n` bytes in readable pages between two unreadable ones.
    struct Pages {
        base: *mut u8,
        page: usize,
        readable: usize,
    }

    impl Pages {
        fn new(n: usize) -> Self {
            // SAFETY: sysconf has no preconditions.
            let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
            let readable = n.next_multiple_of(page);
            // SAFETY: a fresh anonymous mapping; the readable part lies inside it.
            let base = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let size = readable + 2 * page;
                let base = libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0);
                assert_ne!(base, libc::MAP_FAILED);
                let rw = libc::PROT_READ | libc::PROT_WRITE;
                assert_eq!(libc::mprotect(base.add(page), readable, rw), 0);
                base.cast::<u8>()
            };
            Self { base, page, readable }
        }

        /// Room for `n` values of `T` at the start or the end of the readable part.
        fn slice<T: powerinfer::util::aligned::Pod>(&mut self, n: usize, at_end: bool) -> &mut [T] {
            let bytes = n * size_of::<T>();
            assert!(bytes <= self.readable);
            let offset = self.page + if at_end { self.readable - bytes } else { 0 };
            // SAFETY: inside the readable part, aligned because page and n * size are.
            unsafe { std::slice::from_raw_parts_mut(self.base.add(offset).cast(), n) }
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: the mapping that new() made.
            unsafe { libc::munmap(self.base.cast(), self.readable + 2 * self.page) };
        }
    }

    #[test]
    fn nothing_outside_the_inputs_is_touched() {
        let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
        let mut scratch = AlignedVec::new();
        for ty in TYPES {
            for k in [32, 96, 576, 1024] {
                for n_rows in [1, 7, 15, 16, 17, 33] {
                    let source = weights(ty, k, n_rows, Pattern::Random);
                    let mut w_pages = Pages::new(source.len());
                    for (n, at_end) in [(1, false), (1, true), (5, true), (9, false), (9, true)] {
                        let data = w_pages.slice::<u8>(source.len(), at_end);
                        data.copy_from_slice(&source);
                        let w = WeightRows { ty, data, k, n_rows };

                        let act = Act::new(scalar, k, &activations(k, n, Pattern::Random));
                        let mut pages =
                            [act.q.len(), 4 * act.d.len(), 4 * act.s.len()].map(Pages::new);
                        let [q_pages, d_pages, s_pages] = &mut pages;
                        let q = q_pages.slice(act.q.len(), at_end);
                        let d = d_pages.slice(act.d.len(), at_end);
                        let s = s_pages.slice(act.s.len(), at_end);
                        q.copy_from_slice(&act.q);
                        d.copy_from_slice(&act.d);
                        s.copy_from_slice(&act.s);
                        let guarded = ActQ8 { k, n, q, d, s };

                        let expected = mul_mat(scalar, &w, 0..n_rows, &guarded, &mut scratch);
                        let mut y_pages = Pages::new(4 * n * n_rows);
                        for table in tables() {
                            let y = y_pages.slice::<f32>(n * n_rows, at_end);
                            let mut view = ColsMut::new(y, n_rows, 0..n_rows);
                            table.mul_mat_q8(&w, 0..n_rows, &guarded, &mut view, &mut scratch);
                            assert!(y.iter().zip(&expected).all(|(&a, &b)| same(a, b)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn quantise_stays_inside() {
        for k in [32, 64, 1024] {
            for at_end in [false, true] {
                let mut pages = [4 * k, k, k / 8, k / 8].map(Pages::new);
                let [x_pages, q_pages, d_pages, s_pages] = &mut pages;
                let x = x_pages.slice::<f32>(k, at_end);
                x.copy_from_slice(&activations(k, 1, Pattern::Random));
                let q = q_pages.slice(k, at_end);
                let d = d_pages.slice(k / 32, at_end);
                let s = s_pages.slice(k / 32, at_end);
                for table in tables() {
                    table.quantize_q8(x, q, d, s);
                }
            }
        }
    }
}
