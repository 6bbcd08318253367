//! Every architecture and every type of weights: the same bytes however the work is cut, and near
//! the numbers of reference mode on every instruction set.

use std::process::Command;
use std::sync::Arc;

use powerinfer::backend::cpu::KernelTable;
use powerinfer::engine::{Batch, Context, Input};
use powerinfer::model::Model;
use powerinfer::quant::types::TYPES;
use powerinfer::quant::{QuantType, can_quantize, dequantize_row};

use crate::common::tiny::{self, Spec, Tensor};
use crate::common::{context, tiny_archs};
use crate::{Bits, assert_same, bits, feed, tokens};

/// Longer than the windows, than ubatches of 64 and than three tiles of 16 tokens.
const PROMPT: usize = 70;
const STEPS: usize = 2;

fn lone_run(model: &Arc<Model>, n_threads: usize, n_ubatch: u32) -> Bits {
    let mut ctx = context(model, |p| {
        (p.n_threads, p.n_threads_batch, p.n_ubatch, p.n_ctx) =
            (n_threads, n_threads, n_ubatch, 256);
    });
    run(&mut ctx, model)
}

fn run(ctx: &mut Context, model: &Model) -> Bits {
    let text = tokens(model, PROMPT + STEPS, 0);
    let mut all = vec![feed(ctx, &text[..PROMPT], 0, 0)];
    for i in PROMPT..PROMPT + STEPS {
        all.push(feed(ctx, &text[i..=i], i as i32, 0));
    }
    all
}

/// The same with another sequence's tokens between its own, among scattered cells.
fn run_in_company(model: &Arc<Model>, kv_unified: bool) -> Bits {
    let mut ctx = context(model, |p| {
        // As long for a sequence as alone: LongRoPE goes by that.
        let n_ctx = if kv_unified { 256 } else { 3 * 256 };
        (p.n_seq_max, p.kv_unified, p.n_ctx) = (3, kv_unified, n_ctx);
    });
    let text = tokens(model, PROMPT + STEPS, 0);
    feed(&mut ctx, &tokens(model, 9, 1), 0, 0);
    feed(&mut ctx, &tokens(model, 5, 2), 0, 1);
    ctx.kv_mut().seq_rm(Some(0), 0, i32::MAX);
    feed(&mut ctx, &text[..20], 0, 2);
    let mut all = Vec::new();
    let mut n_strangers = 5;
    let mut decode = |own: std::ops::Range<usize>| {
        let (mut ids, mut pos, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
        for i in own {
            ids.extend([(i * 31 % 37) as i32, text[i]]);
            pos.extend([n_strangers, i as i32]);
            seqs.extend([&[1][..], &[2][..]]);
            n_strangers += 1;
        }
        let mut outputs = vec![false; ids.len()];
        *outputs.last_mut().unwrap() = true;
        let (pos, seq_ids, outputs) = (Some(&pos[..]), Some(&seqs[..]), Some(&outputs[..]));
        ctx.decode(&Batch { input: Input::Tokens(&ids), pos, seq_ids, outputs }).unwrap();
        all.push(bits(ctx.outputs().logits_ith(-1).unwrap()));
    };
    decode(20..PROMPT);
    (PROMPT..PROMPT + STEPS).for_each(|i| decode(i..i + 1));
    all
}

fn check(name: &str, bytes: &[u8]) {
    let model = tiny::bare_model_of(bytes);
    let one = lone_run(&model, 1, 512);
    let finite = one.iter().flatten().all(|b| f32::from_bits(*b).is_finite());
    assert!(finite, "{name}: logits that are no numbers compare nothing");
    for (n_threads, n_ubatch) in [(2, 512), (3, 64), (2, 7), (3, 1)] {
        let what = format!("{name}, {n_threads} threads, ubatches of {n_ubatch}");
        assert_same(&one, &lone_run(&model, n_threads, n_ubatch), &what);
    }
    for kv_unified in [true, false] {
        let what = format!("{name} in company, unified: {kv_unified}");
        assert_same(&one, &run_in_company(&model, kv_unified), &what);
    }
}

#[test]
fn every_architecture() {
    for s in tiny_archs::SPECS {
        // Enough for every kind of layer.
        let spec = tiny_archs::Spec { n_layer: s.n_layer.min(5), ..*s };
        check(s.name, &tiny_archs::bytes(&spec));
    }
}

#[test]
fn every_llama() {
    tiny::SPECS.iter().for_each(|s| check(s.name, &tiny::bytes(s)));
}

/// Types of weights, those with blocks of up to 64 numbers or the others.
fn types(large: bool) -> impl Iterator<Item = QuantType> {
    use QuantType as T;
    let computes =
        |ty| !matches!(ty, T::I8 | T::I16 | T::I32 | T::I64 | T::F64 | T::Q8_1 | T::Q8_K);
    TYPES.iter().filter(move |t| computes(t.ty) && (t.block_len > 64) == large).map(|t| t.ty)
}

/// One layer whose matrices are all of this type, with rows of one and two blocks of 256.
fn model_of(ty: QuantType, edit: &mut dyn FnMut(&mut Tensor)) -> Vec<u8> {
    let f32 = &[QuantType::F32];
    let spec = Spec {
        n_embd: 256,
        n_ff: 512,
        n_layer: 1,
        head_dim_k: 64,
        head_dim_v: 64,
        n_rot: 64,
        types: f32,
        seed: 70,
        ..tiny::spec("gqa")
    };
    tiny::edited_bytes(&spec, |_, all| {
        for (i, t) in all.iter_mut().enumerate().filter(|(_, t)| t.dims.len() == 2) {
            let numbers: Vec<f32> =
                t.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            t.data = match can_quantize(ty) {
                true => tiny::quantized(ty, &numbers),
                false => random_blocks(ty, &numbers, i as u64),
            };
            t.ty = ty;
            edit(t);
        }
    })
}

/// Blocks of random codes, as large on average as these numbers.
fn random_blocks(ty: QuantType, numbers: &[f32], seed: u64) -> Vec<u8> {
    let n_bytes = ty.row_bytes(numbers.len() as u64).unwrap() as usize;
    // Uniform numbers have random bits below their exponents.
    let mut rng = tiny::Rng(seed << 32 | ty as u64);
    let noise = rng.numbers(n_bytes, 0.0, 1.0);
    let mut data: Vec<u8> = noise.iter().map(|x| (x.to_bits() >> 8) as u8).collect();
    let power = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
    set_scales(ty, &mut data, 1.0);
    let mut decoded = vec![0.0; numbers.len()];
    dequantize_row(ty, &data, &mut decoded).unwrap();
    set_scales(ty, &mut data, (power(numbers) / power(&decoded)).sqrt() as f32);
    data
}

/// Sets the scale of each block of a type that we cannot make.
fn set_scales(ty: QuantType, data: &mut [u8], scale: f32) {
    let half = half::f16::from_f32(scale).to_bits();
    for block in data.chunks_exact_mut(ty.info().block_bytes) {
        match ty {
            // Its nibbles are the tops of the last four words.
            QuantType::IQ1_M => {
                for i in 0..4 {
                    let byte = &mut block[49 + 2 * i];
                    *byte = *byte & 15 | ((half >> (4 * i)) as u8 & 15) << 4;
                }
            }
            _ => block[..2].copy_from_slice(&half.to_le_bytes()),
        }
    }
}

#[test]
fn every_type_of_small_blocks() {
    types(false).for_each(|ty| check(&ty.to_string(), &model_of(ty, &mut |_| {})));
}

#[test]
fn every_type_of_large_blocks() {
    types(true).for_each(|ty| check(&ty.to_string(), &model_of(ty, &mut |_| {})));
}

/// Squared error of normal mode relative to the power of reference mode's logits.
fn noise(truth: &[u8], ours: &[u8]) -> f64 {
    let [truth, ours] = [(truth, true), (ours, false)].map(|(bytes, reference)| {
        let model = tiny::bare_model_of(bytes);
        let all = run(&mut context(&model, |p| (p.reference, p.n_ctx) = (reference, 256)), &model);
        all.concat().into_iter().map(|b| f64::from(f32::from_bits(b))).collect::<Vec<_>>()
    });
    let error: f64 = ours.iter().zip(&truth).map(|(a, b)| (a - b).powi(2)).sum();
    error / truth.iter().map(|b| b * b).sum::<f64>()
}

/// The noise that activations of 8 bits make: rounded to steps of `amax / 127` they are off by
/// `amax^2 / (127^2 * 12)` in the mean square, and among 32 numbers `amax^2` is at most 32 times
/// the mean square. There are five products on the way to the logits.
const INT8_NOISE: f64 = 5.0 * 32.0 / (127.0 * 127.0 * 12.0);
/// Of plain numbers only the cache is rounded, to 11 bits.
const FLOAT_NOISE: f64 = 1e-6;

/// Run by [`every_type_on_every_instruction_set`], one process for each.
#[test]
#[ignore = "a part of another test: POWERINFER_ISA"]
fn every_type_on_one_instruction_set() {
    let isa = std::env::var("POWERINFER_ISA").unwrap();
    assert_eq!(KernelTable::detect().isa().name(), isa);
    let mut failures = Vec::new();
    for ty in types(false).chain(types(true)) {
        let plain = matches!(ty, QuantType::F32 | QuantType::F16 | QuantType::BF16);
        let model = model_of(ty, &mut |_| {});
        let (noise, bound) = (noise(&model, &model), if plain { FLOAT_NOISE } else { INT8_NOISE });
        if noise.is_nan() || noise > bound {
            failures.push(format!("{isa} {ty}: {noise:e}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_type_on_every_instruction_set() {
    let exe = std::env::current_exe().unwrap();
    for table in KernelTable::all_supported() {
        let output = Command::new(&exe)
            .args(["--exact", "matrix::every_type_on_one_instruction_set", "--ignored"])
            .env("POWERINFER_ISA", table.isa().name())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}

/// What the bound is for: a matrix whose blocks have their neighbour's scales.
#[test]
fn wrong_scales_are_seen() {
    let good = model_of(QuantType::Q4_K, &mut |_| {});
    let bad = model_of(QuantType::Q4_K, &mut |t| {
        if t.name == "blk.0.ffn_up.weight" {
            t.data.chunks_exact_mut(144).for_each(|block| block[4..8].rotate_left(1));
        }
    });
    let noise = noise(&good, &bad);
    assert!(noise > 3.0 * INT8_NOISE, "{noise:e}");
}
