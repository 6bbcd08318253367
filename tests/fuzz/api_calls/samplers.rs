//! Samplers: every kind, chains, lists of candidates.

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use powerinfer::ffi::batch::llama_batch_get_one;
use powerinfer::ffi::decode::llama_decode;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::types::*;

use super::args::{Args, Text, touch};
use super::{World, contexts, pick, users};

fn make(world: &mut World, args: &mut Args<'_>) -> *mut llama_sampler {
    let vocab = world.vocab(args);
    // SAFETY: texts are terminated, lists as long as said, vocabularies live for ever.
    unsafe {
        match args.byte() % 28 {
            0 => llama_sampler_init_greedy(),
            1 => llama_sampler_init_dist(args.uint()),
            2 => llama_sampler_init_top_k(args.int()),
            3 => llama_sampler_init_top_p(args.float(), args.int() as usize),
            4 => llama_sampler_init_min_p(args.float(), args.int() as usize),
            5 => llama_sampler_init_typical(args.float(), args.int() as usize),
            6 => llama_sampler_init_temp(args.float()),
            7 => llama_sampler_init_temp_ext(args.float(), args.float(), args.float()),
            8 => {
                llama_sampler_init_xtc(args.float(), args.float(), args.int() as usize, args.uint())
            }
            9 => llama_sampler_init_top_n_sigma(args.float()),
            10 => {
                let (n_vocab, seed, m) = (args.int(), args.uint(), args.int());
                llama_sampler_init_mirostat(n_vocab, seed, args.float(), args.float(), m)
            }
            11 => llama_sampler_init_mirostat_v2(args.uint(), args.float(), args.float()),
            12 | 13 => {
                let (text, root) = (args.text(), args.text());
                let root = if args.one_in(8) { root.ptr() } else { c"root".as_ptr() };
                llama_sampler_init_grammar(vocab, text.ptr(), root)
            }
            14 | 15 => {
                let (text, texts) = (args.text(), (0..args.byte() % 3).map(|_| args.text()));
                let texts: Vec<Text> = texts.collect();
                let mut list = pointers(&texts);
                let tokens = {
                    let n = args.small() % 4;
                    args.ints(n)
                };
                let (words, n) = if args.one_in(8) {
                    (null_mut(), args.small())
                } else {
                    (list.as_mut_ptr(), list.len())
                };
                #[allow(deprecated, reason = "it is there")]
                let init = args.pick(&[
                    llama_sampler_init_grammar_lazy
                        as unsafe extern "C" fn(_, _, _, _, _, _, _) -> _,
                    llama_sampler_init_grammar_lazy_patterns,
                ]);
                init(vocab, text.ptr(), c"root".as_ptr(), words, n, tokens.as_ptr(), tokens.len())
            }
            16 => {
                let (n_vocab, last_n) = (args.int(), args.int().min(1 << 20));
                llama_sampler_init_penalties(
                    n_vocab,
                    last_n,
                    args.float(),
                    args.float(),
                    args.float(),
                )
            }
            17 => {
                let texts: Vec<Text> = (0..args.byte() % 3).map(|_| args.text()).collect();
                let mut list = pointers(&texts);
                let (multiplier, base) = (args.float(), args.float());
                let (allowed, last_n) = (args.int(), args.int());
                let (breakers, n) = if args.one_in(8) {
                    (null_mut(), args.small())
                } else {
                    (list.as_mut_ptr(), list.len())
                };
                llama_sampler_init_dry(vocab, multiplier, base, allowed, last_n, breakers, n)
            }
            18 => llama_sampler_init_adaptive_p(args.float(), args.float(), args.uint()),
            19 => {
                let bias = |_| llama_logit_bias { token: args.int(), bias: args.float() };
                let list: Vec<_> = (0..3).map(bias).collect();
                let n = args.int();
                match n {
                    0..=3 => llama_sampler_init_logit_bias(args.int(), n, list.as_ptr()),
                    _ => llama_sampler_init_logit_bias(args.int(), n, null()),
                }
            }
            20 => llama_sampler_init_infill(vocab),
            21 => llama_sampler_init(null_mut(), args.pick(&[null_mut(), 16 as *mut c_void])),
            22 | 23 => users::make(world, args),
            _ => chain(world, args),
        }
    }
}

/// A chain of a few samplers, mostly with one at its end that takes a token.
fn chain(world: &mut World, args: &mut Args<'_>) -> *mut llama_sampler {
    // SAFETY: the chain owns what was made for it.
    unsafe {
        let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: args.flag() });
        for _ in 0..args.byte() % 4 {
            llama_sampler_chain_add(chain, make(world, args));
        }
        match args.byte() % 8 {
            0..=2 => llama_sampler_chain_add(chain, llama_sampler_init_dist(args.uint())),
            3 | 4 => llama_sampler_chain_add(chain, llama_sampler_init_greedy()),
            5 => llama_sampler_chain_add(chain, users::make(world, args)),
            _ => {}
        }
        chain
    }
}

fn pointers(texts: &[Text]) -> Vec<*const c_char> {
    texts.iter().map(Text::ptr).collect()
}

fn is_chain(smpl: *mut llama_sampler) -> bool {
    // SAFETY: a sampler that lives.
    !smpl.is_null() && unsafe { llama_sampler_chain_get(smpl, -1) == smpl }
}

/// Lets the sampler work on a list that may be anything.
fn apply(world: &World, args: &mut Args<'_>) {
    let smpl = pick(&world.samplers, args).unwrap_or(null_mut());
    let n = args.pick(&[0, 1, 2, 7, 40, 96, 130, 1100]);
    let logits = args.floats(n);
    let wild = args.one_in(4);
    let ids = |i: i32| {
        if wild { args.0.get(i as usize).map_or(-i, |&b| i32::from(b) * 7 - 3) } else { i }
    };
    let mut rows: Vec<llama_token_data> = (0..)
        .zip(logits)
        .map(|(i, logit)| llama_token_data { id: ids(i), logit, p: logit })
        .collect::<Vec<_>>();
    rows.shrink_to_fit();
    let (data, size) = if args.one_in(16) {
        (
            args.pick(&[null_mut(), 16 as *mut llama_token_data, 17 as *mut llama_token_data]),
            args.pick(&[0, usize::MAX, usize::MAX / 12 + 1]),
        )
    } else {
        (rows.as_mut_ptr(), rows.len())
    };
    let mut list =
        llama_token_data_array { data, size, selected: args.int().into(), sorted: args.flag() };
    // SAFETY: what data points to is as long as said, or no memory for any reader.
    unsafe {
        llama_sampler_apply(smpl, if args.one_in(32) { null_mut() } else { &mut list });
        // A user's sampler may have put memory of its own there.
        if list.data == rows.as_mut_ptr() {
            assert!(list.size <= rows.len());
            touch(list.data, list.size);
        }
        llama_sampler_accept(smpl, args.int());
    }
}

pub fn step(world: &mut World, args: &mut Args<'_>) {
    let op = args.byte() % 18;
    if op < 3 && world.samplers.len() < 6 {
        let smpl = make(world, args);
        if !smpl.is_null() {
            world.samplers.push(smpl);
        }
        return;
    }
    let smpl = pick(&world.samplers, args).unwrap_or(null_mut());
    let other = pick(&world.samplers, args).unwrap_or(null_mut());
    // SAFETY: every sampler lives, and those that are given away leave the list.
    unsafe {
        match op {
            3..=6 => apply(world, args),
            7 => {
                let copy = llama_sampler_clone(smpl);
                if !copy.is_null() {
                    world.samplers.push(copy);
                }
            }
            8 => llama_sampler_reset(smpl),
            9 => world.free_sampler(smpl),
            // A chain owns what it takes; one in itself, or in one that is in it, would be a ring.
            10 | 11 => {
                if is_chain(smpl) && !other.is_null() && !is_chain(other) {
                    world.samplers.retain(|s| *s != other);
                    llama_sampler_chain_add(smpl, other);
                } else if !is_chain(smpl) {
                    llama_sampler_chain_add(smpl, null_mut());
                } else {
                    llama_sampler_chain_add(smpl, smpl);
                }
            }
            12 => {
                let i = args.int();
                let got = llama_sampler_chain_get(smpl, i);
                touch(llama_sampler_name(got), 1);
                let n = llama_sampler_chain_n(smpl);
                assert_eq!(
                    (0..n).contains(&i) || (i == -1 && n >= 0 && is_chain(smpl)),
                    !got.is_null()
                );
                let out = llama_sampler_chain_remove(smpl, i);
                if !out.is_null() {
                    world.samplers.push(out);
                }
            }
            13 => {
                llama_sampler_get_seed(smpl);
                touch(llama_sampler_name(smpl), 1);
                llama_perf_sampler(smpl);
                llama_perf_sampler_print(smpl);
                llama_perf_sampler_reset(smpl);
                llama_sampler_copy(smpl, if smpl == other { null_mut() } else { other });
            }
            14 => {
                let ctx = world.context(args);
                users::in_context(ctx, || llama_sampler_sample(smpl, ctx, args.int()));
            }
            // It stays attached, while the next steps decode, change the chain or take it away.
            _ => {
                let ctx = world.context(args);
                let seq = if args.one_in(8) { args.int() } else { i32::from(args.byte() % 3) };
                world.attach(ctx, seq, if args.one_in(8) { null_mut() } else { smpl });
                if args.one_in(2) {
                    let mut token = i32::from(args.byte() % 40);
                    let batch = llama_batch_get_one(&mut token, 1);
                    users::in_context(ctx, || llama_decode(ctx, batch));
                    contexts::outputs(ctx, args);
                }
            }
        }
    }
}
