//! What the cases share: a device, numbers on it, and how close is close enough.

use std::sync::Arc;

use powerinfer::backend::cuda::{Budget, Buffer, Device, Purpose, Stream};

/// The first device with a stream and as much memory as a case needs.
pub struct Gpu {
    device: Arc<Device>,
    budget: Arc<Budget>,
    pub stream: Stream,
}

/// Plain numbers, as bytes.
pub trait Number: Copy + Default {
    const BYTES: usize;
    fn put(self, to: &mut Vec<u8>);
    fn take(from: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const BYTES: usize = size_of::<$t>();
            fn put(self, to: &mut Vec<u8>) {
                to.extend(self.to_le_bytes());
            }
            fn take(from: &[u8]) -> Self {
                Self::from_le_bytes(from.try_into().unwrap())
            }
        }
    )*};
}
numbers!(f32, i32, i8, u8);

impl Gpu {
    pub fn open() -> Self {
        let device = Device::open(0).expect("a device");
        let stream = Stream::new(&device).unwrap();
        Self { device, budget: Budget::new(1 << 30), stream }
    }

    /// Memory of so many bytes, of unknown content.
    pub fn scratch(&self, bytes: usize) -> Buffer {
        self.device.alloc(&self.budget, Purpose::Compute, bytes).unwrap()
    }

    pub fn upload<T: Number>(&self, values: &[T]) -> Buffer {
        let mut bytes = Vec::new();
        values.iter().for_each(|v| v.put(&mut bytes));
        let buffer = self.scratch(bytes.len());
        self.stream.upload(buffer.view().slice(0..bytes.len()), &bytes).unwrap();
        buffer
    }

    /// The first `n` numbers.
    pub fn download<T: Number>(&self, buffer: &Buffer, n: usize) -> Vec<T> {
        let mut bytes = vec![0; n * T::BYTES];
        self.stream.download(buffer.view().slice(0..bytes.len()), &mut bytes).unwrap();
        bytes.chunks(T::BYTES).map(T::take).collect()
    }
}

/// Numbers in -1..1, always the same for a seed.
pub fn random(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
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
