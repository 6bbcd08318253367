//! The architectures, one short file each.
//!
//! To add one: a file with the three parts of `llama.rs` (read hyper-parameters, refuse what is
//! not supported, lay out the steps from the blocks of [`Builder`]) and a line in [`ARCHS`]; tiny
//! random models with logits of an independent implementation come with it (`tests/common/tiny.rs`).

mod arcee;
mod bloom;
mod command_r;
mod common;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod glm4;
mod gpt2;
mod gpt_oss;
mod granite;
mod llama;
mod mistral3;
mod nemotron;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod smollm3;
mod stablelm;
mod starcoder2;

use super::hparams::{bad, number};
use super::{Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Builder, RopeStyle};

/// What there is to know of an architecture.
pub struct ArchSpec {
    /// `general.architecture` in the file.
    pub name: &'static str,
    /// Pairs of its rotary embedding, if it has one.
    pub rope: Option<RopeStyle>,
    /// Reads the hyper-parameters.
    pub hparams: fn(&Metadata) -> Result<Hparams, Error>,
    /// Lays out the steps.
    pub build: fn(&Hparams, &mut Builder<'_>) -> Result<(), Error>,
    /// Size class for descriptions, such as `7B`.
    pub size_name: fn(&Hparams) -> &'static str,
}

impl std::fmt::Debug for ArchSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every architecture that runs.
pub const ARCHS: &[ArchSpec] = &[
    arcee::SPEC,
    bloom::SPEC,
    command_r::SPEC,
    falcon::SPEC,
    gemma::SPEC,
    gemma2::SPEC,
    gemma3::SPEC,
    glm4::SPEC,
    gpt2::SPEC,
    gpt_oss::SPEC,
    granite::SPEC,
    llama::SPEC,
    mistral3::SPEC,
    nemotron::SPEC,
    olmo2::SPEC,
    phi2::SPEC,
    phi3::SPEC,
    qwen2::SPEC,
    qwen2moe::SPEC,
    qwen3::SPEC,
    qwen3moe::SPEC,
    smollm3::SPEC,
    stablelm::SPEC,
    starcoder2::SPEC,
];

/// The architecture of this name, or an error that lists those there are.
pub fn find(name: &str) -> Result<&'static ArchSpec, Error> {
    ARCHS.iter().find(|a| a.name == name).ok_or_else(|| Error::UnsupportedArch {
        name: name.to_owned(),
        supported: ARCHS.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
    })
}
