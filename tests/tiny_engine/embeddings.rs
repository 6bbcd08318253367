//! Embeddings out and in, pooling, attention without a mask.

use std::sync::Arc;

use powerinfer::engine::{Batch, Context, Input};
use powerinfer::model::{Model, Pooling};
use powerinfer::quant::{QuantType, dequantize_row};

use crate::common::{context, decode, tiny};
use crate::{assert_close, feed};

/// A weight as numbers, row after row.
fn weight(model: &Model, name: &str) -> Vec<f32> {
    let weight = model.weights().iter().find(|w| w.name == name).unwrap();
    let mut numbers = vec![0.0; weight.shape.n_elements() as usize];
    dequantize_row(weight.ty, weight.data.as_deref().unwrap(), &mut numbers).unwrap();
    numbers
}

fn with_embeddings(model: &Arc<Model>, pooling: Pooling) -> Context {
    context(model, |p| {
        (p.embeddings, p.pooling, p.reference, p.n_ubatch) = (true, Some(pooling), true, 7);
        (p.n_ctx, p.n_seq_max) = (512, 2);
    })
}

/// 12 tokens of sequence 0 among 8 of sequence 1.
fn two_sequences(ctx: &mut Context) -> Vec<i32> {
    let tokens = tiny::tokens(20, 96);
    let seq = |i: usize| i32::from(i % 5 > 2);
    let (mut next, mut pos) = ([0, 0], Vec::new());
    for i in 0..tokens.len() {
        let next = &mut next[seq(i) as usize];
        pos.push(*next);
        *next += 1;
    }
    let seqs: Vec<[i32; 1]> = (0..tokens.len()).map(|i| [seq(i)]).collect();
    let lists: Vec<&[i32]> = seqs.iter().map(|s| &s[..]).collect();
    // Every token has an embedding, asked for or not.
    let outputs = vec![false; tokens.len()];
    ctx.decode(&Batch {
        input: Input::Tokens(&tokens),
        pos: Some(&pos),
        seq_ids: Some(&lists),
        outputs: Some(&outputs),
    })
    .unwrap();
    seqs.concat()
}

#[test]
fn pooled_embeddings_are_made_of_those_of_the_tokens() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let mut ctx = with_embeddings(&model, Pooling::None);
    let seqs = two_sequences(&mut ctx);
    assert!(ctx.outputs().embeddings_seq(0).is_none());
    let each: Vec<Vec<f32>> =
        (0..20).map(|i| ctx.outputs().embeddings_ith(i).unwrap().to_vec()).collect();
    assert_eq!(ctx.outputs().embeddings(), each.concat());
    for seq in 0..2 {
        let own: Vec<&Vec<f32>> = (0..20).filter(|&i| seqs[i] == seq).map(|i| &each[i]).collect();
        let mean =
            |j: usize| (own.iter().map(|x| f64::from(x[j])).sum::<f64>() / own.len() as f64) as f32;
        let expected = [
            (Pooling::Mean, (0..64).map(mean).collect()),
            (Pooling::Cls, own[0].clone()),
            (Pooling::Last, own[own.len() - 1].clone()),
        ];
        for (pooling, expected) in expected {
            let mut ctx = with_embeddings(&model, pooling);
            two_sequences(&mut ctx);
            let pooled = ctx.outputs().embeddings_seq(seq as usize).unwrap();
            for (a, b) in pooled.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{pooling:?}: {a} {b}");
            }
            assert_eq!(pooled.len(), 64);
        }
    }
}

#[test]
fn logits_are_the_product_of_output_and_embedding() {
    for name in ["gqa", "tied"] {
        let model = tiny::bare_model(&tiny::spec(name));
        let mut ctx = with_embeddings(&model, Pooling::None);
        decode(&mut ctx, &[3, 1, 4], true);
        let embedding = ctx.outputs().embeddings_ith(1).unwrap().to_vec();
        let logits = ctx.outputs().logits_ith(1).unwrap().to_vec();
        let matrix = if name == "tied" { "token_embd.weight" } else { "output.weight" };
        let rows = weight(&model, matrix);
        let product: Vec<f32> = rows
            .chunks(embedding.len())
            .map(|row| row.iter().zip(&embedding).map(|(a, b)| a * b).sum())
            .collect();
        assert_close(&logits, &product, name);
    }
}

#[test]
fn embeddings_of_tokens_go_in_as_the_tokens_do() {
    let spec = tiny::spec("gqa");
    let model = tiny::bare_model(&spec);
    let tokens = tiny::tokens(20, spec.n_vocab);
    let table = weight(&model, "token_embd.weight");
    let rows = tokens.iter().flat_map(|&t| &table[t as usize * 64..][..64]).copied();
    let rows: Vec<f32> = rows.collect();
    let mut ctx = context(&model, |p| p.n_ubatch = 8);
    let input = Input::Embeddings(&rows);
    ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).unwrap();
    let ours = ctx.outputs().logits_ith(-1).unwrap().to_vec();
    let mut ctx = context(&model, |_| ());
    decode(&mut ctx, &tokens, false);
    assert_eq!(ours, ctx.outputs().logits_ith(-1).unwrap());
}

#[test]
fn without_a_mask_the_last_token_sees_what_it_saw_and_the_others_more() {
    // Of one layer: deeper, what the others saw changes the last one too.
    let model = tiny::bare_model(&tiny::ONE_LAYER);
    let tokens = tiny::tokens(30, 96);
    let run = |causal| {
        let mut ctx = context(&model, |p| {
            (p.causal, p.n_ubatch, p.type_k, p.type_v) =
                (Some(causal), 30, QuantType::F32, QuantType::F32);
        });
        decode(&mut ctx, &tokens, true);
        let mut row = |i| ctx.outputs().logits_ith(i).unwrap().to_vec();
        (row(0), row(29))
    };
    let (with, without) = (run(true), run(false));
    assert_eq!(with.1, without.1);
    assert_ne!(with.0, without.0);

    let mut ctx = context(&model, |p| (p.causal, p.n_ubatch) = (Some(false), 29));
    let error = crate::try_feed(&mut ctx, &tokens, &(0..30).collect::<Vec<_>>(), &[0]).unwrap_err();
    assert_eq!(error.code(), -1, "{error}");
    // Refused as a whole.
    ctx.set_causal(true);
    feed(&mut ctx, &tokens[..29], &(0..29).collect::<Vec<_>>(), &[0]);
}
