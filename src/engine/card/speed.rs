//! How fast the card and the processor go through weights, and what it costs to ask the other: what
//! placing neurons goes by. Taken in less than a tenth of a second.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::CardModel;
use crate::backend::cuda::{CudaError, Purpose};
use crate::sparse::placement::Machine;
use crate::util::aligned::AlignedVec;

/// Bytes copied on the card at a time, where there is room.
const CARD_BYTES: usize = 32 << 20;
const COPIES: u32 = 8;
/// Bytes that the processor reads: more than its caches have.
const HOST_BYTES: usize = 128 << 20;
const CROSSINGS: u32 = 16;

impl CardModel {
    /// The figures of this machine, for networks of `n_embd` inputs.
    pub fn measure(&self, n_embd: usize) -> Result<Machine, CudaError> {
        Ok(Machine {
            gpu_bytes_per_s: self.read_speed()?,
            cpu_bytes_per_s: host_read_speed(),
            crossing_s: self.crossing(n_embd)?,
        })
    }

    fn read_speed(&self) -> Result<f64, CudaError> {
        let (stream, budget) = (self.stream(), self.budget());
        let len = CARD_BYTES.min(budget.left() / 4).next_multiple_of(256);
        if len > budget.left() / 2 {
            // No room to try it.
            return Ok(stream.device().info().bandwidth.max(1e9));
        }
        let [from, to] = [(); 2].map(|()| stream.device().alloc(budget, Purpose::Compute, len));
        let (from, to) = (from?, to?);
        stream.zero(from.view())?;
        stream.synchronize()?;
        let start = Instant::now();
        for _ in 0..COPIES {
            stream.copy(to.view(), from.view())?;
        }
        stream.synchronize()?;
        // Read and written.
        Ok(per_second(2 * len * COPIES as usize, start.elapsed()))
    }

    /// Rows of a token's input to the host and back.
    fn crossing(&self, n_embd: usize) -> Result<f64, CudaError> {
        let stream = self.stream();
        let len = n_embd * size_of::<f32>();
        let row = stream.device().alloc(self.budget(), Purpose::Compute, len)?;
        let view = row.view().slice(0..len);
        let mut pinned = stream.device().pinned(len)?;
        stream.zero(row.view())?;
        stream.synchronize()?;
        let start = Instant::now();
        for _ in 0..CROSSINGS {
            stream.fetch(view, &pinned, 0..len)?;
            pinned.bytes()?;
            stream.send(view, &pinned, 0..len)?;
        }
        stream.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / f64::from(CROSSINGS))
    }
}

/// Bytes per second that all threads together read of memory.
fn host_read_speed() -> f64 {
    let Ok(mut words) = AlignedVec::<i32>::try_zeroed(HOST_BYTES / 4) else { return 1e10 };
    words.par_chunks_mut(1 << 16).for_each(|part| part.fill(1));
    let sum = |part: &[i32]| part.iter().fold(0i32, |sum, x| sum.wrapping_add(*x));
    let read = || {
        let start = Instant::now();
        let sums = words.par_chunks(1 << 16).map(sum);
        std::hint::black_box(sums.reduce(|| 0, i32::wrapping_add));
        start.elapsed()
    };
    let best = (0..3).map(|_| read()).min().unwrap_or_default();
    per_second(HOST_BYTES, best)
}

fn per_second(n_bytes: usize, time: Duration) -> f64 {
    n_bytes as f64 / time.as_secs_f64().max(1e-9)
}
