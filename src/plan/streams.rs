//! Blocks for models with several residual streams, of which a layer computes one and predicts the
//! others (AltUp: Baykal et al., arXiv 2301.13310), and for inputs that each layer has of its own.

use super::{BuildError, Builder, SlotId, StepKind};
use crate::tensor::Activation;

/// Names of the buffers of residual streams, as many as there can be.
pub const STREAMS: [&str; 8] =
    ["residual", "altup_1", "altup_2", "altup_3", "altup_4", "altup_5", "altup_6", "altup_7"];

impl Builder<'_> {
    /// A further residual stream, number `i` of [`STREAMS`]: `src`, scaled row by row to the length
    /// of `like`.
    pub fn stream(&mut self, node: &str, i: usize, src: SlotId, like: SlotId) -> SlotId {
        let dst = self.slot(STREAMS[i], self.width(src));
        self.push(node, StepKind::Rescale { src, like, dst, add: false });
        dst
    }

    /// `dst += src`, scaled row by row to the length of `like`.
    pub fn add_rescaled(&mut self, node: &str, src: SlotId, like: SlotId, dst: SlotId) {
        self.push(node, StepKind::Rescale { src, like, dst, add: true });
    }

    /// `stream[i] += sum over j of coefs[i * n + j] * stream[j]`, the right side as it was before:
    /// what a layer's streams are predicted to be.
    pub fn mix_streams(&mut self, node: &str, streams: &[SlotId], coefs: SlotId) {
        debug_assert_eq!(self.width(coefs), streams.len() * streams.len(), "one for each pair");
        self.push(node, StepKind::MixStreams { streams: streams.to_vec(), coefs });
    }

    /// `stream[i] += (1 + coefs[i]) * (src - stream[active])`, the right side as it was before:
    /// what the layer made of one prediction corrects all.
    pub fn correct_streams(
        &mut self,
        node: &str,
        streams: &[SlotId],
        active: usize,
        src: SlotId,
        coefs: SlotId,
    ) {
        debug_assert_eq!(self.width(coefs), streams.len(), "one for each stream");
        let streams = streams.to_vec();
        self.push(node, StepKind::CorrectStreams { streams, active, src, coefs });
    }

    /// `src` times the vector `tensor`, into the buffer `slot`.
    pub fn multiply(
        &mut self,
        node: &str,
        slot: &'static str,
        src: SlotId,
        tensor: &str,
    ) -> Result<SlotId, BuildError> {
        let factors = self.vector(tensor, self.width(src))?;
        let dst = self.slot(slot, self.width(src));
        self.push(node, StepKind::Multiply { src, factors, dst });
        Ok(dst)
    }

    /// `act(src)` times as many columns of `by`, from `first` on, into the buffer `slot`.
    pub fn activate_by(
        &mut self,
        node: &str,
        slot: &'static str,
        (src, act): (SlotId, Activation),
        (by, first): (SlotId, usize),
    ) -> SlotId {
        debug_assert!(first + self.width(src) <= self.width(by), "columns of the other");
        let dst = self.slot(slot, self.width(src));
        self.push(node, StepKind::ActivateBy { src, act, by, first, dst });
        dst
    }
}
