//! What goes to the host for its part of a network, and comes back: inputs and lists through pinned
//! memory, so that copies wait for nothing but their turn.

use std::sync::Arc;

use crate::backend::cuda::{CudaError, Device, Pinned, Stream, View};
use crate::engine::run::MAX_TOKENS;
use crate::util::bytes;

/// Pinned memory for a few tokens of one network after the other.
#[derive(Default)]
pub struct Crossing {
    /// Rows of the input, then the lengths of lists, then the lists.
    input: Option<Pinned>,
    output: Option<Pinned>,
    /// Where the lengths begin.
    counts_at: usize,
    lists: Vec<Vec<u32>>,
    /// Bytes that went to the host, and to the card, since somebody asked.
    bytes: [usize; 2],
}

/// What came to the host.
pub struct Arrived<'a> {
    /// Rows of the network's input.
    pub rows: &'a [f32],
    /// For each token the ids of cold neurons that a predictor named, ascending.
    pub lists: Option<&'a [Vec<u32>]>,
}

/// Bytes of the lengths of lists.
const COUNTS: usize = MAX_TOKENS * size_of::<u32>();

impl Crossing {
    /// Makes room for rows of `width` floats and lists of up to `n_cold` neurons.
    pub fn ensure(
        &mut self,
        device: &Arc<Device>,
        width: usize,
        n_cold: usize,
    ) -> Result<(), CudaError> {
        let rows = MAX_TOKENS * width * size_of::<f32>();
        let lists = MAX_TOKENS * n_cold * size_of::<u32>();
        if self.counts_at < rows {
            self.input = None;
            self.counts_at = rows;
        }
        let n_bytes = self.counts_at + COUNTS + lists;
        if self.input.as_ref().is_none_or(|input| input.len() < n_bytes) {
            self.input = Some(device.pinned(n_bytes)?);
        }
        if self.output.as_ref().is_none_or(|output| output.len() < rows) {
            self.output = Some(device.pinned(rows)?);
        }
        Ok(())
    }

    /// Sends rows of a network's input to the host.
    pub fn fetch_rows(&self, stream: &Stream, rows: View<'_>) -> Result<(), CudaError> {
        let Some(input) = &self.input else { return Ok(()) };
        stream.fetch(rows, input, 0..rows.len())
    }

    /// Sends lists of cold neurons to the host, one behind the other, and their lengths.
    pub fn fetch_lists(
        &self,
        stream: &Stream,
        ids: View<'_>,
        counts: View<'_>,
    ) -> Result<(), CudaError> {
        let Some(input) = &self.input else { return Ok(()) };
        let ids_at = self.counts_at + COUNTS;
        stream.fetch(counts, input, self.counts_at..self.counts_at + counts.len())?;
        stream.fetch(ids, input, ids_at..ids_at + ids.len())
    }

    /// Bytes that went to the host, and to the card, since the last time.
    pub fn take_bytes(&mut self) -> [usize; 2] {
        std::mem::take(&mut self.bytes)
    }

    /// What was sent, as soon as it is there: `n` rows of `width` floats, and with `listed` the lists,
    /// of places among the neurons `cold`.
    pub fn arrived(
        &mut self,
        (n, width): (usize, usize),
        cold: &[u32],
        listed: bool,
    ) -> Result<Arrived<'_>, CudaError> {
        let input = match &mut self.input {
            Some(input) => input.bytes()?,
            None => &mut [],
        };
        let (rows, rest) = input.split_at(self.counts_at);
        self.bytes[0] += n * width * 4;
        let rows = bytes::cast::<f32>(&rows[..n * width * 4]).unwrap_or(&[]);
        if !listed {
            return Ok(Arrived { rows, lists: None });
        }
        let (counts, ids) = rest.split_at(COUNTS);
        self.bytes[0] += n * 4 * (1 + cold.len());
        let counts = bytes::cast::<u32>(counts).unwrap_or(&[]);
        let ids = bytes::cast::<u32>(&ids[..n * cold.len() * 4]).unwrap_or(&[]);
        self.lists.resize(n, Vec::new());
        let lists = self.lists.iter_mut().zip(ids.chunks_exact(cold.len().max(1))).zip(counts);
        for ((list, places), &count) in lists {
            list.clear();
            let places = places.iter().take(count as usize);
            list.extend(places.filter_map(|&place| cold.get(place as usize)));
        }
        Ok(Arrived { rows, lists: Some(&self.lists) })
    }

    /// Sends the host's rows to the card.
    pub fn send(&mut self, stream: &Stream, rows: &[f32], dst: View<'_>) -> Result<(), CudaError> {
        let rows = bytes::as_bytes(rows);
        self.bytes[1] += rows.len();
        match &mut self.output {
            Some(output) if output.len() >= rows.len() => {
                output.bytes()?[..rows.len()].copy_from_slice(rows);
                stream.send(dst, output, 0..rows.len())
            }
            // Many tokens: once for all of them.
            _ => stream.upload(dst, rows),
        }
    }
}
