//! What is seen of split networks while they run: times by the card's clock, and how many of its
//! neurons fired. Only where statistics are wanted; read once a ubatch, when all is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backend::cuda::{CudaError, Device, Event, Pinned, Stream, View};
use crate::engine::run::MAX_TOKENS;
use crate::sparse::OnCard;
use crate::util::bytes;

/// Bytes of a network's counts, by token: neurons listed, then neurons that fired.
const COUNTS: usize = 2 * MAX_TOKENS * size_of::<u32>();

/// The networks of a ubatch.
pub struct Watch {
    events: Vec<Events>,
    counts: Pinned,
    seen: Vec<Seen>,
}

/// Points of one network.
struct Events {
    begun: Event,
    /// The card has done its part.
    done: Event,
    /// The processor's part has come.
    merged: Event,
}

struct Seen {
    layer: usize,
    n: usize,
    /// Neurons on the card, where nothing guesses which of them fire.
    unguessed: Option<usize>,
    /// Whether counts come.
    counted: AtomicBool,
    is_split: bool,
}

impl Watch {
    /// For up to so many networks a ubatch.
    pub fn new(device: &Arc<Device>, n_networks: usize) -> Result<Self, CudaError> {
        let events = (0..n_networks).map(|_| {
            let event = || Event::timed(device);
            Ok(Events { begun: event()?, done: event()?, merged: event()? })
        });
        let events = events.collect::<Result<_, CudaError>>()?;
        Ok(Self { events, counts: device.pinned(n_networks * COUNTS)?, seen: Vec::new() })
    }

    /// A layer's network begins for `n` tokens; with as many neurons on the card where nothing
    /// guesses which of them fire. No more are watched than there is room for.
    pub fn begin(
        &mut self,
        stream: &Stream,
        layer: usize,
        n: usize,
        unguessed: Option<usize>,
    ) -> Result<(), CudaError> {
        if let Some(events) = self.events.get(self.seen.len()) {
            self.seen.push(Seen {
                layer,
                n,
                unguessed,
                counted: AtomicBool::new(false),
                is_split: false,
            });
            stream.record(&events.begun)?;
            stream.record(&events.done)?;
        }
        Ok(())
    }

    /// The card has made its part of the network at hand.
    pub fn done(&self, stream: &Stream) -> Result<(), CudaError> {
        match self.seen.len().checked_sub(1) {
            Some(i) => stream.record(&self.events[i].done),
            None => Ok(()),
        }
    }

    /// Counts by token of the network at hand: neurons whose rows were read, and that fired.
    pub fn count(
        &self,
        stream: &Stream,
        listed: View<'_>,
        fired: View<'_>,
    ) -> Result<(), CudaError> {
        let Some(i) = self.seen.len().checked_sub(1) else { return Ok(()) };
        self.seen[i].counted.store(true, Ordering::Relaxed);
        for (view, at) in [(listed, i * COUNTS), (fired, i * COUNTS + COUNTS / 2)] {
            stream.fetch(view, &self.counts, at..at + view.len())?;
        }
        Ok(())
    }

    /// The processor's part of a layer's network is on the card.
    pub fn merged(&mut self, stream: &Stream, layer: usize) -> Result<(), CudaError> {
        match self.seen.iter().rposition(|seen| seen.layer == layer) {
            Some(i) => {
                self.seen[i].is_split = true;
                stream.record(&self.events[i].merged)
            }
            // Nothing of it is the card's.
            None => Ok(()),
        }
    }

    /// What was seen since the last time, after all work so far.
    pub fn take(&mut self, stream: &Stream) -> Result<Vec<OnCard>, CudaError> {
        stream.synchronize()?;
        let counts = bytes::cast::<u32>(self.counts.bytes()?).unwrap_or(&[]);
        let counts = counts.chunks_exact(MAX_TOKENS);
        let seen = self.seen.drain(..).zip(&self.events).enumerate();
        let watched = seen.map(|(i, (seen, events))| {
            let Seen { layer, n, unguessed, counted, is_split } = seen;
            let n_counted = if counted.into_inner() { n } else { 0 };
            let sum = |row: usize| {
                let row = counts.clone().nth(2 * i + row).unwrap_or(&[]);
                row.iter().take(n_counted).sum::<u32>() as usize
            };
            let listed = sum(0);
            let exposed = if is_split { events.merged.ms_since(&events.done)? } else { 0.0 };
            Ok(OnCard {
                layer,
                n,
                is_split,
                guessed: unguessed.map_or(listed, |n_here| n * n_here),
                listed,
                fired: sum(1),
                card: millis(events.done.ms_since(&events.begun)?),
                exposed: millis(exposed),
            })
        });
        watched.collect()
    }
}

fn millis(ms: f32) -> Duration {
    Duration::from_secs_f32(ms.max(0.0) / 1e3)
}
