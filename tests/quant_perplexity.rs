//! SmolLM2 in every type that can be rounded to: the files are llama.cpp's to the bit, and so,
//! within noise, is how well they predict: the worse, the fewer bits.
//!
//! `data/golden/requant-smollm2.json` was made with llama.cpp by `tools/requant_goldens.py`, which
//! says what is in it. A few types and little text here; all types and all the text when
//! `POWERINFER_TEST_LONG` is set, as `make test-long` does: minutes.
#![allow(clippy::print_stderr, reason = "says what it measured")]

mod common;

use std::path::{Path, PathBuf};

use powerinfer::api::{FileType, QuantizeParams, TypePattern, quantize};
use powerinfer::gguf::{LoadOptions, ModelFiles};
use powerinfer::quant::QuantType;
use serde_json::Value;

/// Type of the short run, which has Q4_K, Q5_0, Q6_K and Q8_0, and chunks of text.
const SHORT: &str = "Q4_K_M";
const SHORT_CHUNKS: usize = 2;

/// So many bits per weight less have to show. A finer order is not in what is measured: the
/// weights are Q4_1's already, whose 16 steps between a block's ends suit some formats of as many
/// bits better than others (Q5_0 better than Q5_1), and 2040 numbers say no more than that.
const FEWER_BITS: f64 = 0.9;

/// Formats outside the order: rounding to the source's own loses nothing, and to three values,
/// for which weights have to be trained, loses everything.
const UNORDERED: [&str; 3] = ["Q4_1", "TQ2_0", "TQ1_0"];

/// Formats that differ in their number of bits alone: with them, each step shows.
const ALIKE: [&str; 3] = ["Q8_0", "Q5_0", "Q4_0"];

/// The types and their records.
fn goldens() -> Vec<(String, Value)> {
    let text = include_str!("data/golden/requant-smollm2.json");
    let json: Value = serde_json::from_str(text).unwrap();
    json["types"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn is_long() -> bool {
    std::env::var_os("POWERINFER_TEST_LONG").is_some()
}

/// How a record was made; some types have no file type of their own.
fn params(name: &str, golden: &Value) -> QuantizeParams {
    let file_type = FileType::from_id(golden["ftype"].as_i64().unwrap() as i32).unwrap();
    let of_layers = match name {
        "MXFP4" => Some(QuantType::MXFP4),
        "NVFP4" => Some(QuantType::NVFP4),
        _ => None,
    };
    QuantizeParams {
        allow_requantize: true,
        tensor_types: of_layers
            .map(|ty| TypePattern::new("blk.", ty).unwrap())
            .into_iter()
            .collect(),
        ..QuantizeParams::new(file_type)
    }
}

/// A file that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let file = format!("requant-{name}-{}.gguf", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(file))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// FNV-1a in 1024 lanes of 64-bit words, then over the lanes.
fn fnv(data: &[u8]) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    let step = |h: u64, w: u64| (h ^ w).wrapping_mul(0x0000_0100_0000_01b3);
    let (words, rest) = data.as_chunks::<8>();
    assert!(rest.is_empty());
    let mut lanes = [START; 1024];
    for row in words.chunks(lanes.len()) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = step(*lane, row.get(i).map_or(0, |w| u64::from_le_bytes(*w)));
        }
    }
    lanes.iter().fold(START, |h, lane| step(h, *lane))
}

/// The file's tensors are those that llama.cpp makes.
fn check_data(name: &str, path: &Path, golden: &Value) {
    let mut files = ModelFiles::open(path, &LoadOptions::default()).unwrap();
    files.load_tensors(&mut |_| true).unwrap();
    let mut tensors: Vec<_> = files.tensors().iter().filter(|t| t.ty != QuantType::F32).collect();
    for (ty, n) in golden["types"].as_object().unwrap() {
        let found = tensors.iter().filter(|t| t.ty.info().name.eq_ignore_ascii_case(ty)).count();
        assert_eq!(found as u64, n.as_u64().unwrap(), "tensors of type {ty} in {name}");
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let hashes: Vec<u8> =
        tensors.iter().flat_map(|t| fnv(&files.data(t).unwrap()).to_be_bytes()).collect();
    let hash = format!("{:016x}", fnv(&hashes));
    assert_eq!(hash, golden["data"].as_str().unwrap(), "data of {name}");
}

fn perplexity(nll: &[f64]) -> f64 {
    (nll.iter().sum::<f64>() / nll.len() as f64).exp()
}

/// llama.cpp's over the first chunks.
fn truth(golden: &Value, n_chunks: usize) -> f64 {
    let nll = golden["nll"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
    perplexity(&nll.take(n_chunks).collect::<Vec<_>>())
}

#[test]
fn every_type_predicts_as_well_as_llama_cpps() {
    let Some(source) = common::model_path() else { return };
    let text = include_str!("data/golden/text.txt");
    let (mut results, mut apart) = (Vec::new(), Vec::new());
    for (name, golden) in goldens() {
        if !is_long() && name != SHORT {
            continue;
        }
        let n_chunks =
            if is_long() { golden["nll"].as_array().unwrap().len() } else { SHORT_CHUNKS };
        let file = Scratch::new(&name);
        quantize(&source, &file.0, &params(&name, &golden)).unwrap();
        check_data(&name, &file.0, &golden);

        let options = LoadOptions::default();
        let model = powerinfer::api::Model::load(&file.0, &options, &mut |_| true).unwrap();
        let tokens = model.vocab().tokenize(text.as_bytes(), false, true).unwrap();
        let mut ctx = model.context(common::params(|_| {})).unwrap();
        let nll: Vec<f64> =
            tokens.chunks(512).take(n_chunks).map(|c| common::chunk_nll(&mut ctx, c)).collect();
        let (ours, truth) = (perplexity(&nll), truth(&golden, n_chunks));
        let bits = bits_per_weight(&file.0);
        let line = format!("{name}: {bits:.2} bits, {ours:.4}, llama.cpp has {truth:.4}");
        eprintln!("{line}");
        // Of a model that is lost the likelihoods themselves are compared.
        let lost = truth > 1000.0;
        let ratio = if lost { ours.ln() / truth.ln() } else { ours / truth };
        if (ratio - 1.0).abs() > 0.01 {
            apart.push(line);
        }
        if !UNORDERED.contains(&&*name) {
            results.push((bits, ours, name));
        }
    }
    assert!(apart.is_empty(), "{apart:#?}");
    check_order(&results);
}

/// Perplexity rises as bits per weight fall.
fn check_order(results: &[(f64, f64, String)]) {
    for (bits, ppl, name) in results {
        for (fewer, worse, other) in results {
            let is_fewer = *fewer <= bits - FEWER_BITS;
            assert!(!is_fewer || worse > ppl, "{other} {worse} is better than {name} {ppl}");
        }
    }
    let of = |name: &str| results.iter().find(|r| r.2 == name).map(|r| r.1);
    let alike: Vec<f64> = ALIKE.iter().filter_map(|name| of(name)).collect();
    assert!(alike.is_sorted(), "{ALIKE:?}: {alike:?}");
}

/// Over all tensors but norms.
fn bits_per_weight(path: &Path) -> f64 {
    let options = LoadOptions { no_alloc: true, ..LoadOptions::default() };
    let files = ModelFiles::open(path, &options).unwrap();
    let matrices = || files.tensors().iter().filter(|t| t.ty != QuantType::F32);
    let bytes: u64 = matrices().map(|t| t.n_bytes).sum();
    let elements: u64 = matrices().map(|t| t.shape.n_elements()).sum();
    8.0 * bytes as f64 / elements as f64
}
