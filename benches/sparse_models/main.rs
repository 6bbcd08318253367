//! Writes models of any size of which a wanted share of neurons fires, with exact predictors: for
//! measuring and testing sparse decoding without downloading one.
//!
//! ```text
//! cargo run --release --example make_sparse_model -- --out tiny
//! cargo run --release --example make_sparse_model -- --out 7b --type q4_0 --layers 32 \
//!     --embd 4096 --ff 11008 --heads 32 --pred 1024 --vocab-size 32000
//! ```
//!
//! Up to three files hold the same numbers: `PREFIX.pwi.gguf` for PowerInfer, `PREFIX.dense.gguf`
//! for any engine (llama runs it with SiLU, which takes as long as ReLU), and `PREFIX.relu.gguf`,
//! the same with the key `powerinfer.activation`. `recipe` says how the numbers come about. The
//! same options give the same bytes on every machine; a 7B model in Q4_0 takes a few minutes on
//! two cores and less than 1 GB of memory; with `--distinct 2`, where two layers are made and the
//! others repeat them, it takes as long as writing it does (`repeat` says how they still differ).
#![allow(clippy::print_stderr, missing_docs, reason = "a program")]

mod arch;
mod files;
mod numbers;
mod product;
mod recipe;
mod repeat;
mod vocab;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use powerinfer::quant::types::TYPES;
use powerinfer::quant::{self, QuantType, can_quantize};

use arch::Arch;
use files::{Kind, Types};
use recipe::Shape;

#[derive(Parser)]
#[command(about = "Writes a synthetic sparse model")]
struct Options {
    /// Files are named PREFIX.pwi.gguf, PREFIX.dense.gguf and PREFIX.relu.gguf
    #[arg(long, value_name = "PREFIX")]
    out: String,
    /// Write the file with predictors (default with --dense, where the architecture has them)
    #[arg(long)]
    pwi: bool,
    /// Write the ordinary file
    #[arg(long)]
    dense: bool,
    /// Write the ordinary file that says that its activation is ReLU
    #[arg(long, alias = "relu-gguf")]
    relu: bool,
    #[arg(long, value_enum, default_value = "llama")]
    arch: Arch,
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 256)]
    embd: usize,
    /// Neurons of a layer
    #[arg(long, default_value_t = 1024)]
    ff: usize,
    /// Query heads
    #[arg(long, default_value_t = 8)]
    heads: usize,
    /// Key and value heads; as many as query heads when not given
    #[arg(long)]
    kv_heads: Option<usize>,
    /// Rank of the predictors, that is the rows of fc1
    #[arg(long, default_value_t = 128)]
    pred: usize,
    /// Share of neurons that fire, on average
    #[arg(long, default_value_t = 0.1)]
    active: f64,
    /// Threshold of the predictors, in the file
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    threshold: f32,
    /// Type of the weights: f16, q4_0, q8_0, q4_K and so on
    #[arg(long = "type", default_value = "f16", value_parser = parse_type)]
    ty: QuantType,
    /// Type of the predictors; that of the weights when not given
    #[arg(long, value_parser = parse_type)]
    pred_type: Option<QuantType>,
    /// Layers with numbers of their own, which the others repeat: quicker; all when not given
    #[arg(long, value_name = "N")]
    distinct: Option<usize>,
    /// Say how often each neuron fires in as many tokens, in FILE.activation.gguf
    #[arg(long, value_name = "TOKENS")]
    counts: Option<u32>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A GGUF file whose tokenizer is copied; without it there is one of bytes
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// Tokens of the tokenizer of bytes
    #[arg(long, default_value_t = 512, conflicts_with = "vocab")]
    vocab_size: usize,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("expected {0}")]
    Option(String),
    #[error("cannot create {0}: {1}")]
    Create(String, std::io::Error),
    #[error(transparent)]
    Gguf(#[from] powerinfer::gguf::Error),
    #[error(transparent)]
    Counts(#[from] powerinfer::sparse::ActivationError),
    #[error(transparent)]
    Quant(#[from] quant::Error),
}

fn parse_type(text: &str) -> Result<QuantType, String> {
    let known = TYPES.iter().filter(|t| can_quantize(t.ty));
    let names = || known.clone().map(|t| t.name).collect::<Vec<_>>().join(", ");
    let found = known.clone().find(|t| t.name.eq_ignore_ascii_case(text));
    found.map(|t| t.ty).ok_or_else(|| format!("expected one of {}", names()))
}

fn main() -> ExitCode {
    match make(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make_sparse_model: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(options: &Options) -> Result<(), Error> {
    let kinds = kinds(options)?;
    let (tokenizer, n_vocab) = match &options.vocab {
        Some(path) => vocab::copied(path)?,
        None => vocab::bytes(options.vocab_size)?,
    };
    let shape = Shape {
        arch: options.arch,
        n_layer: options.layers,
        n_embd: options.embd,
        n_ff: options.ff,
        n_head: options.heads,
        n_head_kv: options.kv_heads.unwrap_or(options.heads),
        n_vocab,
        n_pred: options.pred,
        active: options.active,
        n_distinct: options.distinct.unwrap_or(options.layers).min(options.layers),
        seed: options.seed,
    };
    check(&shape)?;
    let types = Types { weights: options.ty, predictors: options.pred_type.unwrap_or(options.ty) };
    let (paths, rates) =
        files::write(&options.out, &kinds, &shape, types, options.threshold, &tokenizer)?;
    for path in paths {
        if let Some(n_tokens) = options.counts {
            files::write_counts(&path, &shape, &rates, n_tokens)?;
        }
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        eprintln!("{}: {:.1} MiB", path.display(), size as f64 / 1024.0 / 1024.0);
    }
    Ok(())
}

/// Which files to write.
fn kinds(options: &Options) -> Result<Vec<Kind>, Error> {
    let arch = options.arch;
    if !arch.in_powerinfer() && (options.pwi || options.relu) {
        let name = arch.name();
        let expected = format!("--dense for {name}: its ordinary file is sparse as it is");
        return Err(Error::Option(expected));
    }
    let chosen =
        [(options.pwi, Kind::Pwi), (options.dense, Kind::Dense), (options.relu, Kind::Relu)];
    let kinds: Vec<Kind> = chosen.iter().filter(|(wanted, _)| *wanted).map(|(_, k)| *k).collect();
    Ok(match kinds.is_empty() {
        true if arch.in_powerinfer() => vec![Kind::Pwi, Kind::Dense],
        true => vec![Kind::Dense],
        false => kinds,
    })
}

fn check(s: &Shape) -> Result<(), Error> {
    let expected = |ok: bool, what: &str| match ok {
        true => Ok(()),
        false => Err(Error::Option(what.into())),
    };
    expected(s.n_layer > 0 && s.n_ff > 0, "at least one of --layers and of --ff")?;
    expected(s.n_distinct > 0, "--distinct of 1 or more")?;
    expected(s.n_embd > 1, "--embd of 2 or more")?;
    expected(s.n_head > 0 && s.n_embd.is_multiple_of(s.n_head), "--heads that divide --embd")?;
    expected((s.n_embd / s.n_head).is_multiple_of(2), "heads of an even width")?;
    let divides = s.n_head_kv > 0 && s.n_head.is_multiple_of(s.n_head_kv);
    expected(divides, "--kv-heads that divide --heads")?;
    expected(s.n_pred > 2, "--pred of 3 or more")?;
    expected(s.active > 0.0 && s.active <= 1.0, "--active above 0 and up to 1")?;
    let opt_heads = s.arch != Arch::Opt || s.n_head_kv == s.n_head;
    expected(opt_heads, "no --kv-heads for opt, which has one for each query head")
}
