//! The rows of one side of a layer's cache: in the host's memory, or on a card.
//!
//! Steps on the processor use the first, kernels the second. What else works on rows (states,
//! moving tokens, copies between streams) does so on the host: rows of a card are brought home for
//! it, and go back before the next batch.

use std::sync::Arc;

use crate::backend::cpu::pool::Shared;
use crate::backend::cuda::{Budget, Buffer, CudaError, Purpose, Stream, View};
use crate::log_error;
use crate::util::aligned::OutOfMemory;

/// Rows of `ld` bytes, one per cell.
pub struct KvRows {
    /// All rows; none while they are on the card alone.
    host: Shared<u8>,
    card: Option<OnCard>,
}

struct OnCard {
    rows: Buffer,
    stream: Arc<Stream>,
    n_bytes: usize,
    /// The host has them, and may have changed them.
    at_home: bool,
}

impl KvRows {
    /// Rows in the host's memory, zeroed.
    pub fn new(n_rows: usize, ld: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { host: Shared::new(n_rows, ld)?, card: None })
    }

    /// Rows on a card, zeroed.
    pub fn on_card(
        n_rows: usize,
        ld: usize,
        stream: &Arc<Stream>,
        budget: &Arc<Budget>,
    ) -> Result<Self, CudaError> {
        let too_much =
            CudaError::OverBudget { purpose: Purpose::Kv, wanted: usize::MAX, left: budget.left() };
        let n_bytes = n_rows.checked_mul(ld).ok_or(too_much)?;
        let rows = stream.device().alloc(budget, Purpose::Kv, n_bytes)?;
        stream.zero(rows.view())?;
        let card = OnCard { rows, stream: Arc::clone(stream), n_bytes, at_home: false };
        let host = Shared::new(0, ld).map_err(|_| CudaError::NoDevice("no memory".into()))?;
        Ok(Self { host, card: Some(card) })
    }

    /// Bytes of a row.
    pub fn ld(&self) -> usize {
        self.host.ld()
    }

    /// Bytes of all rows, wherever they are.
    pub fn n_bytes(&mut self) -> usize {
        self.card.as_ref().map_or_else(|| self.host.n_bytes(), |card| card.rows.len())
    }

    /// For steps on the processor. Empty for rows on a card.
    pub fn host(&self) -> &Shared<u8> {
        &self.host
    }

    /// For kernels; `None` when the rows are the host's.
    pub fn card(&self) -> Option<View<'_>> {
        self.card.as_ref().map(|card| card.rows.view().slice(0..card.n_bytes))
    }

    /// All rows, to look at and to change between batches.
    pub fn bytes(&mut self) -> &mut [u8] {
        if let Some(card) = &mut self.card
            && !card.at_home
        {
            let n_rows = card.n_bytes.checked_div(self.host.ld()).unwrap_or(0);
            match self.host.ensure_rows(n_rows) {
                Ok(()) => {
                    let rows = &mut self.host.get_mut()[..card.n_bytes];
                    let view = card.rows.view().slice(0..card.n_bytes);
                    if let Err(error) = card.stream.download(view, rows) {
                        log_error!("keys and values on the GPU are lost: {error}");
                        rows.fill(0);
                    }
                    card.at_home = true;
                }
                Err(error) => log_error!("keys and values stay on the GPU: {error}"),
            }
        }
        self.host.get_mut()
    }

    /// Zeroes all rows.
    pub fn clear(&mut self) {
        if let Some(card) = &self.card
            && let Err(error) = card.stream.zero(card.rows.view())
        {
            log_error!("keys and values on the GPU are not cleared: {error}");
        }
        self.host.get_mut().fill(0);
    }

    /// Before a batch: what was brought home goes back to the card, and the host's memory with it.
    pub fn return_to_card(&mut self) -> Result<(), CudaError> {
        if let Some(card) = &mut self.card
            && card.at_home
        {
            let view = card.rows.view().slice(0..card.n_bytes);
            card.stream.upload(view, &self.host.get()[..card.n_bytes])?;
            card.at_home = false;
            self.host.free();
        }
        Ok(())
    }

    /// Takes the rows home for good; an error when they are lost, and zero now.
    pub fn leave_card(&mut self) -> Result<(), CudaError> {
        let Some(card) = self.card.take() else { return Ok(()) };
        if card.at_home {
            return Ok(());
        }
        let n_rows = card.n_bytes.checked_div(self.host.ld()).unwrap_or(0);
        let no_memory = |e: OutOfMemory| CudaError::NoDevice(e.to_string());
        self.host.ensure_rows(n_rows).map_err(no_memory)?;
        let rows = &mut self.host.get_mut()[..card.n_bytes];
        card.stream.download(card.rows.view().slice(0..card.n_bytes), rows)
    }
}
