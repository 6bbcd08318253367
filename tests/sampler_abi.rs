//! Samplers through the C functions: ownership, user-made samplers, bad arguments.
#![allow(unsafe_code, reason = "calls the C functions")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use powerinfer::ffi::load::{llama_model_free, llama_model_load_from_file};
use powerinfer::ffi::model::llama_model_get_vocab;
use powerinfer::ffi::params::llama_model_default_params;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::types::*;

/// A user-made sampler: adds 10 to one token and counts what is done to it.
struct Counter {
    favourite: i32,
    accepted: Vec<i32>,
    resets: usize,
    /// Set when it is freed; shared with the test.
    freed: *mut usize,
}

unsafe fn counter<'a>(smpl: *const llama_sampler) -> &'a mut Counter {
    // SAFETY: the tests put a Counter into every sampler with these functions.
    unsafe { &mut *(*smpl).ctx.cast::<Counter>() }
}

unsafe extern "C" fn counter_name(_: *const llama_sampler) -> *const c_char {
    c"counter".as_ptr()
}
unsafe extern "C" fn counter_accept(smpl: *mut llama_sampler, token: i32) {
    // SAFETY: called with a counter.
    unsafe { counter(smpl).accepted.push(token) };
}
unsafe extern "C" fn counter_apply(smpl: *mut llama_sampler, cur_p: *mut llama_token_data_array) {
    // SAFETY: called with a counter and a valid array.
    unsafe {
        let rows = std::slice::from_raw_parts_mut((*cur_p).data, (*cur_p).size);
        for row in rows.iter_mut().filter(|row| row.id == counter(smpl).favourite) {
            row.logit += 10.0;
        }
        (*cur_p).sorted = 0;
    }
}
unsafe extern "C" fn counter_reset(smpl: *mut llama_sampler) {
    // SAFETY: called with a counter.
    unsafe { counter(smpl).resets += 1 };
}
unsafe extern "C" fn counter_clone(smpl: *const llama_sampler) -> *mut llama_sampler {
    // SAFETY: called with a counter.
    unsafe {
        let Counter { favourite, ref accepted, resets, freed } = *counter(smpl);
        let copy = Counter { favourite, accepted: accepted.clone(), resets, freed };
        llama_sampler_init((*smpl).iface, Box::into_raw(Box::new(copy)).cast())
    }
}
unsafe extern "C" fn counter_free(smpl: *mut llama_sampler) {
    // SAFETY: called once with a counter; the test's number outlives it.
    unsafe {
        *counter(smpl).freed += 1;
        drop(Box::from_raw((*smpl).ctx.cast::<Counter>()));
    }
}

fn counter_table() -> llama_sampler_i {
    llama_sampler_i {
        name: Some(counter_name),
        accept: Some(counter_accept),
        apply: Some(counter_apply),
        reset: Some(counter_reset),
        clone: Some(counter_clone),
        free: Some(counter_free),
        ..Default::default()
    }
}

fn new_counter(
    iface: &mut llama_sampler_i,
    favourite: i32,
    freed: &mut usize,
) -> *mut llama_sampler {
    let data = Counter { favourite, accepted: Vec::new(), resets: 0, freed };
    // SAFETY: both live until the sampler is freed.
    unsafe { llama_sampler_init(iface, Box::into_raw(Box::new(data)).cast()) }
}

fn rows(n: i32) -> Vec<llama_token_data> {
    (0..n).map(|id| llama_token_data { id, logit: (id * 37 % 11) as f32 * 0.7, p: 0.0 }).collect()
}

fn array(rows: &mut [llama_token_data]) -> llama_token_data_array {
    llama_token_data_array { data: rows.as_mut_ptr(), size: rows.len(), selected: -1, sorted: 0 }
}

/// Applies and accepts; the token that was selected.
fn step(smpl: *mut llama_sampler, n: i32) -> i32 {
    let mut rows = rows(n);
    let mut list = array(&mut rows);
    // SAFETY: a valid sampler and array; the index was checked.
    unsafe {
        llama_sampler_apply(smpl, &mut list);
        assert!((0..list.size as i64).contains(&list.selected));
        let token = (*list.data.add(list.selected as usize)).id;
        llama_sampler_accept(smpl, token);
        token
    }
}

fn name(smpl: *const llama_sampler) -> String {
    // SAFETY: names are terminated and live as long as the sampler.
    unsafe { CStr::from_ptr(llama_sampler_name(smpl)) }.to_str().unwrap().to_owned()
}

fn chain(no_perf: bool) -> *mut llama_sampler {
    // SAFETY: no pointers go in.
    unsafe { llama_sampler_chain_init(llama_sampler_chain_params { no_perf: no_perf.into() }) }
}

#[test]
fn a_chain_owns_what_is_added_until_it_is_removed() {
    let (mut freed, mut iface) = (0, counter_table());
    // SAFETY: samplers are valid until freed, and each is freed once.
    unsafe {
        let chain = chain(true);
        let mine = new_counter(&mut iface, 5, &mut freed);
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(20));
        llama_sampler_chain_add(chain, mine);
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        assert_eq!(llama_sampler_chain_n(chain), 3);
        assert_eq!(llama_sampler_chain_get(chain, 1), mine);
        assert_eq!(llama_sampler_chain_get(chain, -1), chain);
        assert_eq!(step(chain, 20), 5);
        assert_eq!(counter(mine).accepted, [5]);
        llama_sampler_reset(chain);
        assert_eq!(counter(mine).resets, 1);

        assert_eq!(llama_sampler_chain_remove(chain, 1), mine);
        assert_eq!(llama_sampler_chain_n(chain), 2);
        assert_eq!(name(llama_sampler_chain_get(chain, 1)), "greedy");
        assert_ne!(step(chain, 20), 5);
        llama_sampler_chain_add(chain, mine);
        assert_eq!(freed, 0);
        llama_sampler_free(chain);
    }
    assert_eq!(freed, 1);
}

#[test]
fn clones_go_their_own_way() {
    let (mut freed, mut iface) = (0, counter_table());
    // SAFETY: samplers are valid until freed, and each is freed once.
    unsafe {
        let a = chain(true);
        let mine = new_counter(&mut iface, 5, &mut freed);
        llama_sampler_chain_add(a, llama_sampler_init_penalties(40, 8, 1.5, 0.3, 0.1));
        llama_sampler_chain_add(a, mine);
        llama_sampler_chain_add(a, llama_sampler_init_dist(42));
        let warm_up: Vec<i32> = (0..20).map(|_| step(a, 40)).collect();
        assert!(warm_up.iter().any(|&token| token != warm_up[0]), "the seed decides");

        let b = llama_sampler_clone(a);
        assert_eq!(llama_sampler_chain_get(b, -1), b, "a clone of a chain is a chain");
        assert_eq!(llama_sampler_get_seed(b), 42);
        let ahead: Vec<i32> = (0..20).map(|_| step(a, 40)).collect();
        assert_eq!(counter(llama_sampler_chain_get(b, 1)).accepted, warm_up);
        let again: Vec<i32> = (0..20).map(|_| step(b, 40)).collect();
        assert_eq!(ahead, again, "state and random numbers came along");

        let c = llama_sampler_clone(a);
        for _ in 0..5 {
            step(c, 40);
        }
        llama_sampler_copy(a, c);
        let (x, y): (Vec<i32>, Vec<i32>) = (0..20).map(|_| (step(a, 40), step(c, 40))).unzip();
        assert_eq!(x, y, "copy puts the state of one into the other");
        for smpl in [a, b, c] {
            llama_sampler_free(smpl);
        }
    }
    // Three samplers, and the data that the copy without a copy_state function replaced.
    assert_eq!(freed, 4);
}

#[test]
fn reset_repeats_the_seed() {
    // SAFETY: one sampler, freed once.
    unsafe {
        let smpl = llama_sampler_init_dist(7);
        let first: Vec<i32> = (0..10).map(|_| step(smpl, 30)).collect();
        llama_sampler_reset(smpl);
        let again: Vec<i32> = (0..10).map(|_| step(smpl, 30)).collect();
        assert_eq!(first, again);
        llama_sampler_free(smpl);
    }
}

#[test]
fn every_kind_has_its_name_and_the_seeds_are_reported() {
    let bias = llama_logit_bias { token: 1, bias: 1.0 };
    // SAFETY: every sampler is made, used and freed here.
    unsafe {
        let kinds = [
            (llama_sampler_init_greedy(), "greedy", u32::MAX),
            (llama_sampler_init_dist(3), "dist", 3),
            (llama_sampler_init_top_k(1), "top-k", u32::MAX),
            (llama_sampler_init_top_k(0), "?top-k", u32::MAX),
            (llama_sampler_init_top_p(0.5, 1), "top-p", u32::MAX),
            (llama_sampler_init_top_p(1.0, 1), "?top-p", u32::MAX),
            (llama_sampler_init_min_p(0.5, 1), "min-p", u32::MAX),
            (llama_sampler_init_min_p(0.0, 1), "?min-p", u32::MAX),
            (llama_sampler_init_typical(0.5, 1), "typical", u32::MAX),
            (llama_sampler_init_typical(1.0, 1), "?typical", u32::MAX),
            (llama_sampler_init_temp(0.0), "temp", u32::MAX),
            (llama_sampler_init_temp(1.0), "?temp", u32::MAX),
            (llama_sampler_init_temp_ext(1.0, 0.5, 1.0), "temp-ext", u32::MAX),
            (llama_sampler_init_temp_ext(1.0, 0.0, 1.0), "?temp-ext", u32::MAX),
            (llama_sampler_init_xtc(0.5, 0.1, 1, 3), "xtc", u32::MAX),
            (llama_sampler_init_xtc(0.5, 0.6, 1, 3), "?xtc", u32::MAX),
            (llama_sampler_init_top_n_sigma(1.0), "top-n-sigma", u32::MAX),
            (llama_sampler_init_top_n_sigma(0.0), "?top-n-sigma", u32::MAX),
            (llama_sampler_init_mirostat(100, 4, 5.0, 0.1, 100), "mirostat", 4),
            (llama_sampler_init_mirostat_v2(5, 5.0, 0.1), "mirostat-v2", 5),
            (llama_sampler_init_penalties(9, 4, 1.1, 0.0, 0.0), "penalties", u32::MAX),
            (llama_sampler_init_penalties(9, -1, 1.1, 0.0, 0.0), "?penalties", u32::MAX),
            (llama_sampler_init_adaptive_p(0.5, 0.9, 6), "adaptive-p", u32::MAX),
            (llama_sampler_init_logit_bias(9, 1, &bias), "logit-bias", u32::MAX),
            (llama_sampler_init_logit_bias(9, 0, null()), "?logit-bias", u32::MAX),
        ];
        let chain = chain(true);
        for (smpl, want, seed) in kinds {
            assert_eq!(name(smpl), want);
            assert_eq!(llama_sampler_get_seed(smpl), seed, "{want}");
            assert!((*(*smpl).iface).backend_init.is_none(), "{want} does not run on a device");
            llama_sampler_chain_add(chain, smpl);
        }
        assert_eq!(name(chain), "chain");
        assert_eq!(llama_sampler_get_seed(chain), 5, "the last that has one");
        llama_sampler_free(chain);
        let random = llama_sampler_init_dist(u32::MAX);
        assert_ne!(llama_sampler_get_seed(random), u32::MAX);
        llama_sampler_free(random);
    }
}

#[test]
fn the_caller_sees_what_was_done_to_the_array() {
    // SAFETY: arrays and samplers are valid, each sampler is freed once.
    unsafe {
        let mut data = rows(30);
        let start = data.as_mut_ptr();
        let mut list = array(&mut data);
        let top_k = llama_sampler_init_top_k(4);
        llama_sampler_apply(top_k, &mut list);
        assert_eq!((list.data, list.size, list.selected, list.sorted), (start, 4, -1, 1));
        llama_sampler_free(top_k);

        // xtc drops from the front, so the list starts later in the same memory.
        let xtc = llama_sampler_init_xtc(1.0, 0.1, 1, 1);
        llama_sampler_apply(xtc, &mut list);
        assert!(list.data > start && list.data.add(list.size) == start.add(4));
        llama_sampler_free(xtc);

        // An index that the caller set is not ours to judge.
        list.selected = 77;
        let temp = llama_sampler_init_temp(0.5);
        llama_sampler_apply(temp, &mut list);
        assert_eq!(list.selected, 77);
        llama_sampler_free(temp);
    }
}

unsafe extern "C" fn own_apply(smpl: *mut llama_sampler, list: *mut llama_token_data_array) {
    // SAFETY: called with an array, and with a sampler whose data is the test's row.
    unsafe { ((*list).data, (*list).size, (*list).selected) = ((*smpl).ctx.cast(), 1, 0) };
}

#[test]
fn a_user_made_sampler_may_put_candidates_into_an_empty_list() {
    // SAFETY: the row and the functions outlive the chain, which is freed once.
    unsafe {
        let mut iface = llama_sampler_i { apply: Some(own_apply), ..Default::default() };
        let mut own = llama_token_data { id: 7, logit: 1.0, p: 1.0 };
        let chain = chain(true);
        llama_sampler_chain_add(chain, llama_sampler_init(&mut iface, (&raw mut own).cast()));
        for n in [0, 3] {
            let mut rows = rows(n);
            let mut list = array(&mut rows);
            llama_sampler_apply(chain, &mut list);
            assert_eq!((list.data, list.size, list.selected), (&raw mut own, 1, 0), "{n} rows");
        }
        llama_sampler_free(chain);
    }
}

#[test]
fn a_user_made_sampler_may_leave_out_every_function() {
    // SAFETY: samplers are valid until freed, and each is freed once.
    unsafe {
        let mut iface = llama_sampler_i::default();
        let bare = llama_sampler_init(&mut iface, null_mut());
        let mut data = rows(3);
        let mut list = array(&mut data);
        assert_eq!(name(bare), "(null)");
        llama_sampler_accept(bare, 1);
        llama_sampler_apply(bare, &mut list);
        llama_sampler_reset(bare);
        let copy = llama_sampler_clone(bare);
        assert!(!copy.is_null(), "no data, so nothing to clone");
        llama_sampler_copy(bare, copy);
        let chain = chain(true);
        llama_sampler_chain_add(chain, bare);
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        assert_eq!(step(chain, 3), 2);
        llama_sampler_free(chain);

        // Data that no one can clone: NULL, also for a chain that holds it, instead of an abort.
        let mut number = 5;
        let opaque = llama_sampler_init(&mut iface, (&raw mut number).cast::<c_void>());
        assert!(llama_sampler_clone(opaque).is_null());
        llama_sampler_copy(opaque, copy);
        assert!((*copy).ctx.is_null());
        let chain = self::chain(true);
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        llama_sampler_chain_add(chain, opaque);
        assert!(llama_sampler_clone(chain).is_null());
        llama_sampler_free(chain);
        llama_sampler_free(copy);

        let without_table = llama_sampler_init(null_mut(), null_mut());
        assert_eq!(name(without_table), "(null)");
        llama_sampler_apply(without_table, &mut list);
        assert_eq!(llama_sampler_get_seed(without_table), LLAMA_DEFAULT_SEED);
        llama_sampler_free(without_table);
    }
}

#[test]
fn null_and_wrong_kinds_are_refused() {
    // SAFETY: NULL is what is tested; the two samplers are freed once.
    unsafe {
        let greedy = llama_sampler_init_greedy();
        let dist = llama_sampler_init_dist(1);
        let mut data = rows(3);
        let mut list = array(&mut data);

        llama_sampler_free(null_mut());
        llama_sampler_reset(null_mut());
        llama_sampler_accept(null_mut(), 1);
        llama_sampler_apply(null_mut(), &mut list);
        llama_sampler_apply(greedy, null_mut());
        assert!(llama_sampler_clone(null()).is_null());
        llama_sampler_copy(null(), greedy);
        llama_sampler_copy(greedy, null_mut());
        llama_sampler_copy(greedy, dist);
        assert_eq!(name(dist), "dist");
        assert_eq!(name(null()), "(null)");
        assert_eq!(llama_sampler_get_seed(null()), LLAMA_DEFAULT_SEED);
        assert!(llama_sampler_init_logit_bias(9, 2, null()).is_null());
        let none = llama_sampler_init_logit_bias(9, -2, null());
        assert_eq!(name(none), "?logit-bias");
        llama_sampler_free(none);

        for not_a_chain in [null_mut(), greedy] {
            llama_sampler_chain_add(not_a_chain, dist);
            assert!(llama_sampler_chain_get(not_a_chain, 0).is_null());
            assert!(llama_sampler_chain_get(not_a_chain, -1).is_null());
            assert!(llama_sampler_chain_remove(not_a_chain, 0).is_null());
            assert_eq!(llama_sampler_chain_n(not_a_chain), 0);
            assert_eq!(llama_perf_sampler(not_a_chain).n_sample, 0);
            llama_perf_sampler_print(not_a_chain);
            llama_perf_sampler_reset(not_a_chain);
        }

        let chain = chain(true);
        llama_sampler_chain_add(chain, null_mut());
        llama_sampler_chain_add(chain, chain);
        llama_sampler_chain_add(chain, greedy);
        llama_sampler_chain_add(chain, greedy);
        assert_eq!(llama_sampler_chain_n(chain), 1);
        for i in [1, -2, i32::MAX, i32::MIN] {
            assert!(llama_sampler_chain_get(chain, i).is_null());
            assert!(llama_sampler_chain_remove(chain, i).is_null());
        }
        llama_sampler_free(chain);
        llama_sampler_free(dist);
    }
}

#[test]
fn arrays_that_are_no_memory_are_left_alone() {
    // SAFETY: bad arrays are what is tested; nothing may be read through them.
    unsafe {
        let dangling = 16 as *mut llama_token_data;
        let odd = 17 as *mut llama_token_data;
        for (data, size) in
            [(null_mut(), 0), (null_mut(), 5), (dangling, 0), (dangling, usize::MAX), (odd, 1)]
        {
            for smpl in [
                llama_sampler_init_greedy(),
                llama_sampler_init_dist(1),
                llama_sampler_init_top_k(2),
                llama_sampler_init_mirostat(10, 1, 5.0, 0.1, 100),
            ] {
                let mut list = llama_token_data_array { data, size, selected: -1, sorted: 0 };
                llama_sampler_apply(smpl, &mut list);
                assert_eq!((list.data, list.size, list.selected), (data, size, -1));
                llama_sampler_free(smpl);
            }
        }
    }
}

#[test]
fn a_chain_counts_tokens_and_time() {
    // SAFETY: two chains, freed once.
    unsafe {
        for no_perf in [true, false] {
            let chain = chain(no_perf);
            llama_sampler_chain_add(chain, llama_sampler_init_typical(0.9, 1));
            llama_sampler_chain_add(chain, llama_sampler_init_dist(1));
            for _ in 0..20 {
                step(chain, 3000);
            }
            let perf = llama_perf_sampler(chain);
            assert_eq!(perf.n_sample, 20);
            assert_eq!(perf.t_sample_ms > 0.0, !no_perf);
            llama_perf_sampler_print(chain);
            llama_perf_sampler_reset(chain);
            assert_eq!(llama_perf_sampler(chain).n_sample, 0);
            llama_sampler_free(chain);
        }
    }
}

#[test]
fn samplers_that_look_at_texts() {
    let mut params = default_params();
    params.vocab_only = 1;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vocabs/ggml-vocab-gpt-2.gguf\0");
    let file = CStr::from_bytes_with_nul(file.as_bytes()).unwrap();
    // SAFETY: handles live until freed, and each is freed once.
    unsafe {
        let model = llama_model_load_from_file(file.as_ptr(), params);
        let vocab = llama_model_get_vocab(model);
        assert!(!vocab.is_null());

        // In this vocabulary ! " # $ % are the tokens 0 to 4. After "#$ ... #" comes the 3 again.
        let history = [2, 3, 0, 2];
        let lowered = |breakers: &mut [*const c_char]| {
            let smpl = llama_sampler_init_dry(
                vocab,
                4.0,
                2.0,
                1,
                64,
                breakers.as_mut_ptr(),
                breakers.len(),
            );
            assert_eq!(name(smpl), "dry");
            history.iter().for_each(|&token| llama_sampler_accept(smpl, token));
            let mut data = rows(5);
            let before = data[3].logit;
            llama_sampler_apply(smpl, &mut array(&mut data));
            llama_sampler_free(smpl);
            before - data[3].logit
        };
        assert_eq!(lowered(&mut []), 4.0);
        assert_eq!(lowered(&mut [null(), c"".as_ptr(), c"!".as_ptr()]), 4.0, "it came before");
        assert_eq!(lowered(&mut [c"#".as_ptr()]), 0.0, "nothing comes after the breaker");
        assert_eq!(lowered(&mut [c"!#".as_ptr()]), 0.0, "a breaker of two tokens");

        let mut breaker = [c"#".as_ptr()];
        assert!(llama_sampler_init_dry(null(), 1.0, 2.0, 1, 64, breaker.as_mut_ptr(), 1).is_null());
        for (vocab, multiplier, base, last_n) in
            [(null(), 0.0, 2.0, 64), (vocab, 1.0, 0.5, 64), (vocab, 1.0, 2.0, -1)]
        {
            let breakers = breaker.as_mut_ptr();
            let off = llama_sampler_init_dry(vocab, multiplier, base, 1, last_n, breakers, 1);
            assert_eq!(name(off), "?dry");
            llama_sampler_free(off);
        }

        assert!(llama_sampler_init_infill(null()).is_null());
        let infill = llama_sampler_init_infill(vocab);
        assert_eq!(name(infill), "infill");
        let mut data = rows(3);
        let mut list = array(&mut data);
        llama_sampler_apply(infill, &mut list);
        assert!(list.size >= 1 && list.sorted == 1);
        llama_sampler_free(llama_sampler_clone(infill));
        llama_sampler_free(infill);
        llama_model_free(model);
    }
}

fn default_params() -> llama_model_params {
    // SAFETY: takes nothing.
    unsafe { llama_model_default_params() }
}
