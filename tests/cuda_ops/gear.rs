//! A card with memory, numbers to compute with, and what they are compared by.

use std::sync::Arc;

use powerinfer::backend::cpu::table::{Isa, KernelTable};
use powerinfer::backend::cuda::launch::{Acts, Matrix};
use powerinfer::backend::cuda::{Budget, Buffer, Device, Purpose, Stream, View, absence, pack};
use powerinfer::quant::{self, QuantType};
use powerinfer::tensor::Activation;

/// All types with kernels.
pub const TYPES: [QuantType; 10] = [
    QuantType::F32,
    QuantType::F16,
    QuantType::BF16,
    QuantType::Q8_0,
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
];

/// What unwritten memory holds in these tests.
pub const UNWRITTEN: f32 = 12345.0;

/// A device with a stream.
pub struct Gear {
    device: Arc<Device>,
    budget: Arc<Budget>,
    pub stream: Stream,
}

impl Gear {
    pub fn new() -> Self {
        let device = Device::open(0).unwrap_or_else(|e| panic!("{e} ({:?})", absence()));
        let stream = Stream::new(&device).unwrap();
        Self { device, budget: Budget::new(usize::MAX), stream }
    }

    /// Device memory of so many bytes, of unknown content.
    pub fn scratch(&self, bytes: usize) -> Buffer {
        self.device.alloc(&self.budget, Purpose::Compute, bytes).unwrap()
    }

    /// Device memory with these values.
    pub fn put<T: Value>(&self, values: &[T]) -> Buffer {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).collect();
        let buffer = self.scratch(bytes.len());
        self.stream.upload(buffer.view().slice(0..bytes.len()), &bytes).unwrap();
        buffer
    }

    /// The first `n` values of device memory.
    pub fn get<T: Value>(&self, view: View<'_>, n: usize) -> Vec<T> {
        let mut bytes = vec![0; n * size_of::<T>()];
        self.stream.download(view.slice(0..bytes.len()), &mut bytes).unwrap();
        bytes.chunks(size_of::<T>()).map(T::of).collect()
    }
}

/// What memory holds.
pub trait Value: Copy {
    fn bytes(self) -> Vec<u8>;
    fn of(bytes: &[u8]) -> Self;
}

macro_rules! values {
    ($($ty:ty)*) => {$(
        impl Value for $ty {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn of(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}
values! { i8 u8 i32 f32 }

/// Numbers from -1 to 1, always the same.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.bits() as f32 / (1u32 << 30) as f32 - 1.0).collect()
    }
}

/// The same from a seed.
pub fn random(n: usize, seed: u32) -> Vec<f32> {
    // Neighbouring seeds are far apart.
    Random(u64::from(seed) << 32 | 0x9e37_79b9).floats(n)
}

/// A matrix on the card, and the numbers that it stands for.
pub struct Weights {
    pub ty: QuantType,
    pub n_rows: usize,
    pub k: usize,
    pub numbers: Vec<f32>,
    buffer: Buffer,
}

impl Weights {
    pub fn new(gear: &Gear, random: &mut Random, ty: QuantType, n_rows: usize, k: usize) -> Self {
        let row_bytes = ty.row_bytes(k as u64).expect("whole blocks") as usize;
        let mut rows = vec![0; n_rows * row_bytes];
        let mut numbers = vec![0.0; n_rows * k];
        let rounded = numbers.chunks_mut(k).zip(rows.chunks_mut(row_bytes));
        for (numbers, row) in rounded {
            quant::quantize_row(ty, &random.floats(k), None, row).unwrap();
            quant::dequantize_row(ty, row, numbers).unwrap();
        }
        let mut packed = vec![0; n_rows * pack::row_stride(ty, k).expect("a type with kernels")];
        pack::pack(ty, k, &rows, &mut packed);
        Self { ty, n_rows, k, numbers, buffer: gear.put(&packed) }
    }

    pub fn matrix(&self) -> Matrix<'_> {
        Matrix { ty: self.ty, n_rows: self.n_rows, k: self.k, data: self.buffer.view() }
    }
}

/// Activations on the card, in the form that weights of a type take, and the numbers that they
/// stand for.
pub struct Tokens {
    pub numbers: Vec<f32>,
    k: usize,
    q8: bool,
    first: Buffer,
    scales: Buffer,
}

impl Tokens {
    pub fn new(gear: &Gear, random: &mut Random, ty: QuantType, n: usize, k: usize) -> Self {
        let mut numbers = random.floats(n * k);
        if !pack::takes_q8(ty) {
            let first = gear.put(&numbers);
            return Self { numbers, k, q8: false, first, scales: gear.put(&[0.0f32]) };
        }
        let (codes, scales, _) = quantized(&numbers);
        for (i, x) in numbers.iter_mut().enumerate() {
            *x = scales[i / 32][0] * f32::from(codes[i]);
        }
        Self {
            numbers,
            k,
            q8: true,
            first: gear.put(&codes),
            scales: gear.put(scales.as_flattened()),
        }
    }

    pub fn acts(&self) -> Acts<'_> {
        match self.q8 {
            true => Acts::Q8 { codes: self.first.view(), scales: self.scales.view() },
            false => Acts::F32(self.first.view()),
        }
    }

    /// Row `row` of the weights times token `t`, and the sum of the magnitudes.
    pub fn product(&self, weights: &Weights, row: usize, t: usize) -> (f64, f64) {
        let row = &weights.numbers[row * self.k..][..self.k];
        let products = row.iter().zip(&self.numbers[t * self.k..]);
        let products = products.map(|(w, x)| f64::from(*w) * f64::from(*x));
        products.fold((0.0, 0.0), |(sum, all), p| (sum + p, all + p.abs()))
    }
}

/// What the CPU makes of activations: codes, and for each block its scale and the scale times the
/// sum of its codes; and the sum as it is.
pub fn quantized(x: &[f32]) -> (Vec<i8>, Vec<[f32; 2]>, Vec<i32>) {
    let n_blocks = x.len() / 32;
    let (mut codes, mut d) = (vec![0; x.len()], vec![0.0; n_blocks]);
    let mut sums = vec![[0; 2]; n_blocks];
    KernelTable::for_isa(Isa::Scalar).unwrap().quantize_q8(x, &mut codes, &mut d, &mut sums);
    let sums: Vec<i32> = sums.iter().map(|[a, b]| i32::from(*a) + i32::from(*b)).collect();
    let scales = d.iter().zip(&sums).map(|(d, sum)| [*d, d * *sum as f32]).collect();
    (codes, scales, sums)
}

/// What the order of a sum in floats may change, as a share of the sum of magnitudes.
pub const ORDER: f64 = 2e-6;

/// Within [`ORDER`]: `magnitude` is the sum of magnitudes.
#[track_caller]
pub fn assert_close(found: f32, expected: f64, magnitude: f64, what: &str) {
    let off = (f64::from(found) - expected).abs();
    assert!(off <= ORDER * (magnitude + 1.0), "{what}: {found}, expected {expected}");
}

/// Each within `tolerance` of the largest magnitude.
#[track_caller]
pub fn close(got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let size = expected.iter().fold(1e-6_f64, |m, v| m.max(v.abs()));
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(g) - e).abs() <= tolerance * size, "{i}: {g}, expected {e}");
    }
}

/// `act(gate) * up` by its definition.
pub fn activated(act: Activation, gate: f64, up: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match act {
        Activation::Silu => gate * sigmoid(gate) * up,
        Activation::Gelu => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044715 * gate.powi(3));
            0.5 * gate * (1.0 + u.tanh()) * up
        }
        Activation::GeluErf => 0.5 * gate * libm::erfc(-gate / std::f64::consts::SQRT_2) * up,
        Activation::GeluQuick => gate * sigmoid(1.702 * gate) * up,
        Activation::Relu => gate.max(0.0) * up,
        Activation::ReluSquared => gate.max(0.0).powi(2) * up,
        Activation::SwigluOai => {
            let gate = gate.min(7.0);
            gate * sigmoid(1.702 * gate) * (up.clamp(-7.0, 7.0) + 1.0)
        }
        Activation::DoubleRelu => gate.max(0.0) * up.max(0.0),
    }
}
