//! The architectures, one short file each.
//!
//! # How to add an architecture
//!
//! Two files of the library change:
//!
//! 1. `<name>.rs`, with three parts. `hparams` reads the keys (most are in [`Hparams::read`]; those
//!    that only this architecture has are read here) and refuses variants that do not run. `build`
//!    asks the [`Builder`] for weights, which checks names, shapes and types, and lays out steps.
//!    `size_name` names the sizes. Start from the form that is nearest:
//!
//!    | form (`common.rs`) | norms | examples |
//!    |---|---|---|
//!    | `PreNorm` | before attention, before the feed-forward network | `llama`, `qwen3`, `gpt2`, `smollm3` |
//!    | `Sandwich` | before and after each | `gemma2`, `gemma3`, `glm4` |
//!    | `PostNorm` | of each block's sum; no memory (`encoder_input`) | `bert`, `nomic_bert` |
//!    | `Parallel` | one for both, side by side | `falcon`, `command_r`, `phi2` |
//!    | steps written out | anything else | `olmo2`, `gemma3n` |
//!
//! 2. A line in [`ARCHS`] here (and its `mod`).
//!
//! Its test comes with it: a line in `SPECS` of `tests/common/tiny_archs.rs`, which makes a tiny
//! random model with what real ones have (fewer key heads, windows shorter than the prompt, odd
//! scales), and its logits by an independent implementation (`tests/tools/tiny_goldens.py`).
//! An operation that is not there yet is a step: see [`crate::plan`].

mod arcee;
mod bamboo;
mod bert;
mod bitnet;
mod bloom;
mod command_r;
mod common;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod glm4;
mod gpt2;
mod gpt_oss;
mod granite;
mod llama;
mod mistral3;
mod nemotron;
mod nomic_bert;
mod olmo2;
mod opt;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod smallthinker;
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
    bamboo::SPEC,
    bert::SPEC,
    bitnet::SPEC,
    bitnet::B158,
    bitnet::B25,
    bloom::SPEC,
    command_r::SPEC,
    falcon::SPEC,
    gemma::SPEC,
    gemma2::SPEC,
    gemma3::SPEC,
    gemma3n::SPEC,
    glm4::SPEC,
    gpt2::SPEC,
    gpt_oss::SPEC,
    granite::SPEC,
    llama::SPEC,
    mistral3::SPEC,
    nemotron::SPEC,
    nomic_bert::SPEC,
    olmo2::SPEC,
    opt::SPEC,
    phi2::SPEC,
    phi3::SPEC,
    qwen2::SPEC,
    qwen2moe::SPEC,
    qwen3::SPEC,
    qwen3moe::SPEC,
    smallthinker::SPEC,
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
