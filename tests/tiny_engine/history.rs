//! Whatever happened to a cache: it gives what a fresh run gives over the same tokens at the same
//! positions.

use std::collections::BTreeSet;
use std::sync::Arc;

use powerinfer::engine::Context;
use powerinfer::model::Model;
use proptest::prelude::*;

use crate::common::{context, tiny};
use crate::{assert_close, feed, pos_max};

const N_SEQ: usize = 3;

/// What a caller can do to a cache. Positions are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    /// Tokens for a sequence.
    Feed(usize, usize),
    /// Tokens for two sequences at once, if they end at the same position.
    FeedBoth(usize, usize, usize),
    Rm(usize, i32, i32),
    Cp(usize, usize, i32, i32),
    Keep(usize),
    Add(usize, i32, i32, i32),
    Div(usize, i32, i32, i32),
}

fn op() -> impl Strategy<Value = Op> {
    let seq = || 0..N_SEQ;
    let span = || (0..40i32, 0..40i32).prop_map(|(a, b)| (a.min(b), a.max(b) + 1));
    prop_oneof![
        6 => (seq(), 1..12usize).prop_map(|(s, n)| Op::Feed(s, n)),
        2 => (seq(), seq(), 1..6usize).prop_map(|(a, b, n)| Op::FeedBoth(a, b, n)),
        3 => (seq(), span()).prop_map(|(s, (a, b))| Op::Rm(s, a, b)),
        3 => (seq(), seq(), span()).prop_map(|(s, t, (a, b))| Op::Cp(s, t, a, b)),
        1 => seq().prop_map(Op::Keep),
        4 => (seq(), span(), -9..10i32).prop_map(|(s, (a, b), d)| Op::Add(s, a, b, d)),
        2 => (seq(), span(), 2..4i32).prop_map(|(s, (a, b), d)| Op::Div(s, a, b, d)),
    ]
}

/// What a cell should hold.
#[derive(Clone, Debug)]
struct Cell {
    token: i32,
    pos: i32,
    seqs: BTreeSet<usize>,
}

/// The plainest possible cache of tokens, next to a context.
struct Mirror {
    cells: Vec<Cell>,
    unified: bool,
    n_fed: usize,
}

impl Mirror {
    fn of(&self, seq: usize) -> Vec<(i32, i32)> {
        let own = self.cells.iter().filter(|c| c.seqs.contains(&seq));
        let mut own: Vec<_> = own.map(|c| (c.pos, c.token)).collect();
        own.sort_unstable();
        own
    }

    fn end(&self, seq: usize) -> i32 {
        self.of(seq).last().map_or(-1, |&(pos, _)| pos)
    }

    fn each(&mut self, seq: usize, p0: i32, p1: i32, change: impl Fn(&mut Cell)) {
        let own = |c: &&mut Cell| c.seqs.contains(&seq) && (p0..p1).contains(&c.pos);
        self.cells.iter_mut().filter(own).for_each(change);
        self.cells.retain(|c| !c.seqs.is_empty() && c.pos >= 0);
    }

    /// Does it here and to the context.
    fn apply(&mut self, ctx: &mut Context, op: &Op) {
        match *op {
            Op::Feed(seq, n) => self.feed(ctx, &[seq], n),
            Op::FeedBoth(a, b, n) => {
                if self.unified && a != b && self.end(a) == self.end(b) {
                    self.feed(ctx, &[a, b], n);
                }
            }
            Op::Rm(seq, p0, p1) => {
                ctx.kv_mut().seq_rm(Some(seq), p0, p1);
                self.each(seq, p0, p1, |c| {
                    c.seqs.remove(&seq);
                });
            }
            Op::Cp(src, dst, p0, p1) => {
                if src == dst {
                    return;
                }
                self.apply(ctx, &Op::Rm(dst, 0, i32::MAX));
                assert!(ctx.kv_mut().seq_cp(src, dst, p0, p1));
                if self.unified {
                    self.each(src, p0, p1, |c| {
                        c.seqs.insert(dst);
                    });
                } else {
                    let mut copies = self.cells.clone();
                    copies.retain(|c| c.seqs.contains(&src) && (p0..p1).contains(&c.pos));
                    copies.iter_mut().for_each(|c| c.seqs = BTreeSet::from([dst]));
                    self.cells.extend(copies);
                }
            }
            Op::Keep(seq) => {
                ctx.kv_mut().seq_keep(seq);
                self.cells.retain_mut(|c| {
                    c.seqs.retain(|&s| s == seq);
                    !c.seqs.is_empty()
                });
            }
            Op::Add(seq, p0, p1, delta) => {
                ctx.kv_mut().seq_add(seq, p0, p1, delta);
                self.each(seq, p0, p1, |c| c.pos += delta);
            }
            Op::Div(seq, p0, p1, d) => {
                ctx.kv_mut().seq_div(seq, p0, p1, d);
                self.each(seq, p0, p1, |c| c.pos /= d);
            }
        }
    }

    fn feed(&mut self, ctx: &mut Context, seqs: &[usize], n: usize) {
        let first = self.end(seqs[0]) + 1;
        // Neither too far to fill up a fresh run to there, nor more than there is room for.
        if first as usize + n > 120 || self.cells.len() + n > 240 {
            return;
        }
        let pos: Vec<i32> = (first..first + n as i32).collect();
        let tokens = tiny::tokens(self.n_fed + n, 90)[self.n_fed..].to_vec();
        self.n_fed += n;
        let ids: Vec<i32> = seqs.iter().map(|&s| s as i32).collect();
        feed(ctx, &tokens, &pos, &ids);
        let seqs: BTreeSet<usize> = seqs.iter().copied().collect();
        let cells = tokens.iter().zip(&pos);
        self.cells.extend(cells.map(|(&token, &pos)| Cell { token, pos, seqs: seqs.clone() }));
    }

    /// What comes after each sequence, and what a fresh run over its tokens says.
    fn check(&self, ctx: &mut Context, model: &Arc<Model>) {
        const PROBE: i32 = 91;
        const FILLER: i32 = 92;
        for seq in 0..N_SEQ {
            let own = self.of(seq);
            assert_eq!(pos_max(ctx, seq), self.end(seq));
            let Some(&(end, _)) = own.last() else { continue };
            let ours = feed(ctx, &[PROBE], &[end + 1], &[seq as i32]);
            ctx.kv_mut().seq_rm(Some(seq), end + 1, end + 2);

            let mut fresh = context(model, |p| (p.n_ctx, p.reference) = (512, true));
            let mut cells = own.clone();
            let holes: Vec<i32> =
                (0..end).filter(|p| own.iter().all(|(pos, _)| pos != p)).collect();
            cells.extend(holes.iter().map(|&pos| (pos, FILLER)));
            cells.sort_unstable();
            let (pos, tokens): (Vec<i32>, Vec<i32>) = cells.into_iter().unzip();
            feed(&mut fresh, &tokens, &pos, &[0]);
            for hole in holes {
                fresh.kv_mut().seq_rm(Some(0), hole, hole + 1);
            }
            let theirs = feed(&mut fresh, &[PROBE], &[end + 1], &[0]);
            assert_close(&ours, &theirs, &format!("sequence {seq} with {own:?}"));
        }
        let n_free: usize = if self.unified { 256 } else { 256 * N_SEQ } - self.cells.len();
        let n_streams = if self.unified { 1 } else { N_SEQ };
        assert_eq!((0..n_streams).map(|s| ctx.kv().stream(s).n_free()).sum::<usize>(), n_free);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The model has one layer, where keys and values depend on token and position alone.
    #[test]
    fn any_history_equals_a_fresh_run(
        ops in proptest::collection::vec(op(), 1..14),
        unified in any::<bool>(),
    ) {
        let model = tiny::bare_model(&tiny::ONE_LAYER);
        let mut ctx = context(&model, |p| {
            (p.n_ctx, p.reference) = (if unified { 256 } else { 256 * N_SEQ as u32 }, true);
            (p.n_seq_max, p.kv_unified) = (N_SEQ as u32, unified);
        });
        let mut mirror = Mirror { cells: Vec::new(), unified, n_fed: 0 };
        mirror.feed(&mut ctx, &[0], 20);
        for op in &ops {
            mirror.apply(&mut ctx, op);
        }
        mirror.check(&mut ctx, &model);
    }
}

/// Moving all of a sequence is moving where it began, in every layer and kind of rotation.
#[test]
fn a_shifted_sequence_equals_one_that_began_there() {
    for name in ["gqa", "odd", "linear", "yarn", "factors", "partial-rope", "short-values"] {
        let spec = tiny::spec(name);
        let model = tiny::bare_model(&spec);
        let tokens = tiny::tokens(50, spec.n_vocab);
        let at = |from: i32| -> Vec<i32> { (from..from + 49).collect() };
        let mut there = context(&model, |p| p.reference = true);
        feed(&mut there, &tokens[..49], &at(70), &[0]);
        let there = feed(&mut there, &tokens[49..], &[119], &[0]);
        let mut ctx = context(&model, |p| p.reference = true);
        let unmoved = feed(&mut ctx, &tokens[..49], &at(0), &[0]);
        // In parts, and more than once before the keys are turned.
        ctx.kv_mut().seq_add(0, 20, 49, 100);
        ctx.kv_mut().seq_add(0, 0, 20, 30);
        ctx.kv_mut().seq_add(0, 30, 50, 40);
        ctx.kv_mut().seq_add(0, 120, i32::MAX, -30);
        let moved = feed(&mut ctx, &tokens[49..], &[119], &[0]);
        assert_close(&moved, &there, name);
        assert_ne!(unmoved, moved);
    }
}

/// With a cache of half the precision the turned keys are rounded once more.
#[test]
fn a_shifted_f16_cache_is_rounded_twice() {
    let spec = tiny::spec("gqa");
    let model = tiny::bare_model(&spec);
    let tokens = tiny::tokens(50, spec.n_vocab);
    let run = |shift: i32| {
        let mut ctx = context(&model, |_| ());
        let pos: Vec<i32> = (shift..shift + 49).collect();
        feed(&mut ctx, &tokens[..49], &pos, &[0]);
        ctx.kv_mut().seq_add(0, 0, i32::MAX, 10 - shift);
        feed(&mut ctx, &tokens[49..], &[59], &[0])
    };
    let (there, moved) = (run(10), run(30));
    let error: f32 = there.iter().zip(&moved).map(|(a, b)| (a - b).powi(2)).sum();
    let power: f32 = there.iter().map(|a| a * a).sum();
    assert!(error > 0.0 && error / power < 1e-3, "{}", error / power);
}

/// Positions stay where there is a next one.
#[test]
fn positions_never_overflow() {
    let model = tiny::bare_model(&tiny::MICRO);
    let mut ctx = context(&model, |p| p.n_seq_max = 2);
    let last = i32::MAX - 1;
    feed(&mut ctx, &[1, 2], &[last - 1, last], &[0]);
    let error = crate::try_feed(&mut ctx, &[3], &[i32::MAX], &[0]).unwrap_err();
    assert_eq!(error.code(), -1, "{error}");
    feed(&mut ctx, &[1, 2, 3], &[0, 1, 2], &[1]);
    ctx.kv_mut().seq_add(1, 2, 3, i32::MAX);
    assert_eq!(pos_max(&ctx, 1), last);
    // The way from one end to the other is not walked step by step.
    ctx.kv_mut().seq_add(1, last, i32::MAX, -1);
    feed(&mut ctx, &[4], &[last], &[1]);
    ctx.kv_mut().seq_add(1, 0, i32::MAX, i32::MIN);
    assert_eq!(pos_max(&ctx, 1), -1);
}
