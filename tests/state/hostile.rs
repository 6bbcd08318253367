//! States that were cut, damaged or made up: refused, and nothing has changed; or, where nobody
//! can tell, computed with as any other.

use powerinfer::engine::state::rehash;
use powerinfer::engine::{Context, StateError, StateScope};

use crate::common::{self, tiny};
use crate::{ALL, assert_refused, go, restore, state};

/// A context of two sequences whose states have a few hundred bytes, and these states.
fn tiny_states() -> (Context, Vec<(StateScope, Vec<u8>)>) {
    let model = tiny::bare_model(&tiny::MICRO);
    let mut ctx = common::context(&model, |p| (p.n_seq_max, p.kv_unified) = (2, true));
    go(&mut ctx, &tiny::tokens(3, 30), &[0, 1]);
    go(&mut ctx, &tiny::tokens(2, 30), &[1]);
    ctx.kv_mut().seq_rm(Some(0), 0, 1);
    ctx.kv_mut().seq_add(0, 1, 3, -1);
    let scopes = [ALL, StateScope::seq(1), StateScope { seq: Some(0), partial: true }];
    let states = scopes.map(|scope| (scope, state(&mut ctx, scope))).to_vec();
    go(&mut ctx, &tiny::tokens(4, 30), &[0]);
    (ctx, states)
}

#[test]
fn every_length_but_the_right_one() {
    let (mut ctx, states) = tiny_states();
    for (scope, bytes) in &states {
        for n in 0..bytes.len() {
            let error = assert_refused(&mut ctx, *scope, &bytes[..n], "cut off");
            assert!(matches!(error, StateError::Truncated { found, .. } if found == n as u64));
        }
        // What follows is somebody else's.
        let longer = [&bytes[..], &[1, 2, 3]].concat();
        assert_eq!(ctx.read_state(scope, &longer).unwrap(), bytes.len() as u64);
    }
}

#[test]
fn every_bit() {
    let (mut ctx, states) = tiny_states();
    let before = state(&mut ctx, ALL);
    for (scope, bytes) in &states {
        let mut damaged = bytes.clone();
        for i in 0..bytes.len() * 8 {
            damaged[i / 8] ^= 1 << (i % 8);
            assert!(ctx.read_state(scope, &damaged).is_err(), "bit {i}");
            damaged[i / 8] ^= 1 << (i % 8);
        }
        assert!(state(&mut ctx, ALL) == before);
        restore(&mut ctx, *scope, bytes);
        let mut undo = before.clone();
        rehash(&mut undo);
        assert!(undo == before, "the hash is that of the writer");
        restore(&mut ctx, ALL, &before);
    }
}

/// Behind the hash: any number in a state can be any other.
#[test]
fn every_byte_with_the_right_hash() {
    let (mut ctx, states) = tiny_states();
    let before = state(&mut ctx, ALL);
    let (mut refused, mut taken) = (0, 0);
    for (scope, bytes) in &states {
        for at in 0..bytes.len() - 8 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut made_up = bytes.clone();
                if std::mem::replace(&mut made_up[at], value) == value {
                    continue;
                }
                rehash(&mut made_up);
                if ctx.read_state(scope, &made_up).is_err() {
                    refused += 1;
                    continue;
                }
                taken += 1;
                if taken % 16 == 0 {
                    for seq in [0, 1] {
                        // Positions may end where there is no next one.
                        if ctx.kv().pos_max(seq) < 1 << 30 {
                            go(&mut ctx, &[3, 1], &[seq as i32]);
                        }
                        ctx.kv_mut().seq_add(seq, 0, i32::MAX, -1);
                    }
                }
                restore(&mut ctx, ALL, &before);
            }
        }
        assert!(state(&mut ctx, ALL) == before);
    }
    assert!(refused > 1000 && taken > 1000, "{refused} refused, {taken} taken");
}

#[test]
fn what_is_no_state_of_ours() {
    let (mut ctx, states) = tiny_states();
    let (scope, bytes) = &states[0];
    let mut with = |at: usize, new: &[u8], text: &str| {
        let mut made_up = bytes.clone();
        made_up[at..at + new.len()].copy_from_slice(new);
        rehash(&mut made_up);
        assert_refused(&mut ctx, *scope, &made_up, text)
    };
    // llama.cpp's begin with the length of the architecture's name, or with another magic.
    with(0, &5u32.to_le_bytes(), "no state of this library");
    with(0, &0xaf14_3cd8u32.to_le_bytes(), "it begins with af143cd8");
    with(4, &0u32.to_le_bytes(), "the state has version 0, expected 1");
    with(4, &2u32.to_le_bytes(), "the state has version 2, expected 1");
    with(8, &[0; 8], "it says that it has 0 bytes");
    with(8, &[0xff; 8], "cut off");
    with(16, &0x104u32.to_le_bytes(), "it holds things that are not known");
    with(16, &0u32.to_le_bytes(), "it has no cache");
    with(20, &u32::MAX.to_le_bytes(), "it wants 4294967295 more bytes");
    with(24, b"olmo2", "it is of architecture 'olmo2', expected 'llama'");
}

/// The numbers of a state of one sequence of a model of one layer, by their place.
#[test]
fn numbers_that_make_no_sense() {
    let (mut ctx, states) = tiny_states();
    let (scope, bytes) = &states[1];
    // After the architecture: formats, layers, one layer's facts, lists, cells.
    let kv = 24 + "llama".len();
    let (list, n_lists) = (kv + 12, kv + 12 + 4 + 24);
    let (n_cells, cell) = (n_lists + 4, n_lists + 8);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!([kv + 8, list, n_lists, n_cells].map(number), [1, 0, 1, 5], "these places");
    let mut with = |at: usize, new: i32, text: &str| {
        let mut made_up = bytes.clone();
        made_up[at..at + 4].copy_from_slice(&new.to_le_bytes());
        rehash(&mut made_up);
        assert_refused(&mut ctx, *scope, &made_up, text);
    };
    with(list, 1, "a layer has list 1 of 1");
    with(list, -1, "it has nothing of layer 0");
    with(n_lists, 0, "0 lists of cells");
    with(n_lists, 3, "3 lists of cells");
    with(n_cells, -1, "4294967295 cells in");
    with(n_cells, 4, "bytes are left over");
    with(n_cells, 6, "it wants");
    with(cell, -1, "position -1, moved by");
    with(cell, i32::MAX, "position 2147483647");
    with(cell + 4, i32::MIN, "moved by -2147483648");
    with(cell + 4, 1, "position 0, moved by 1");
}

#[test]
fn sequences_of_a_cell() {
    let model = tiny::bare_model(&tiny::MICRO);
    let mut ctx = common::context(&model, |p| (p.n_seq_max, p.kv_unified) = (2, true));
    go(&mut ctx, &[7], &[0, 1]);
    let bytes = state(&mut ctx, ALL);
    let n_seqs = 24 + "llama".len() + 12 + 28 + 8 + 8;
    assert_eq!(bytes[n_seqs..n_seqs + 12], [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let mut with = |at: usize, new: u8, text: &str| {
        let mut made_up = bytes.clone();
        made_up[at] = new;
        rehash(&mut made_up);
        assert_refused(&mut ctx, ALL, &made_up, text);
    };
    with(n_seqs, 0, "a cell is of no sequence");
    with(n_seqs + 4, 1, "a cell is of sequence 1 twice");
    with(n_seqs + 4, 2, "it has sequence 2, n_seq_max is 2");
    with(n_seqs + 11, 0x80, "it has sequence 2147483649");
}

#[test]
fn a_place_that_is_too_small() {
    let (mut ctx, states) = tiny_states();
    let before = state(&mut ctx, ALL);
    let mut small = [0u8; 100];
    assert!(matches!(ctx.write_state(&states[0].0, &mut &mut small[..]), Err(StateError::Io(_))));
    assert!(state(&mut ctx, ALL) == before);
}
