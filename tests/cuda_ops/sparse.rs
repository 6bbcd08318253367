//! Feed-forward layers whose active neurons a list on the card names.

use powerinfer::backend::cuda::Buffer;
use powerinfer::backend::cuda::launch::{
    self, GateUp, List, ListRows, Output, SparseDown, sparse_down_scratch,
};
use powerinfer::quant::QuantType;
use powerinfer::tensor::Activation;

use crate::cuda_support::every_order;
use crate::gear::{Gear, Random, TYPES, Tokens, UNWRITTEN, Weights, activated, assert_close};

const N_TOKENS: usize = 3;

/// Lists for some tokens, or one that they share.
struct Lists {
    ids: Vec<Vec<i32>>,
    stride: usize,
    capacity: usize,
    on_card: (Buffer, Buffer),
}

impl Lists {
    /// Of about `share` eighths of the rows.
    fn new(gear: &Gear, random: &mut Random, n_rows: usize, share: u32, shared: bool) -> Self {
        let n_lists = if shared { 1 } else { N_TOKENS };
        let pick = |random: &mut Random| -> Vec<i32> {
            (0..n_rows as i32).filter(|_| random.bits() % 8 < share).collect()
        };
        let ids: Vec<Vec<i32>> = (0..n_lists).map(|_| pick(random)).collect();
        let stride = n_rows + 1;
        // What lies past a list's end must not matter.
        let mut flat = vec![i32::MIN; n_lists * stride];
        for (list, ids) in flat.chunks_mut(stride).zip(&ids) {
            list[..ids.len()].copy_from_slice(ids);
        }
        let counts: Vec<i32> = ids.iter().map(|ids| ids.len() as i32).collect();
        let on_card = (gear.put(&flat), gear.put(&counts));
        Self { ids, stride: if shared { 0 } else { stride }, capacity: n_rows, on_card }
    }

    fn list(&self) -> List<'_> {
        let (ids, counts) = (self.on_card.0.view(), self.on_card.1.view());
        List { ids, counts, stride: self.stride, capacity: self.capacity }
    }

    fn of(&self, t: usize) -> &[i32] {
        &self.ids[if self.stride == 0 { 0 } else { t }]
    }
}

/// Rows of `h` by place in the list, with what must not be written.
fn check_h(
    lists: &Lists,
    h: &[f32],
    stride: usize,
    what: &str,
    expected: impl Fn(usize, usize) -> (f64, f64),
) {
    for (i, found) in h.iter().enumerate() {
        let (t, place) = (i / stride, i % stride);
        match lists.of(t).get(place) {
            None => assert_eq!(*found, UNWRITTEN, "{what}: written past the list's end"),
            Some(id) => {
                let (value, magnitude) = expected(t, *id as usize);
                assert_close(*found, value, magnitude, what);
            }
        }
    }
}

fn check_gate_up(gear: &Gear, random: &mut Random, ty: QuantType, n_rows: usize, k: usize) {
    let gate = Weights::new(gear, random, ty, n_rows, k);
    let up = Weights::new(gear, random, ty, n_rows, k);
    let tokens = Tokens::new(gear, random, ty, N_TOKENS, k);
    let biases = (random.floats(n_rows), random.floats(n_rows));
    let on_card = (gear.put(&biases.0), gear.put(&biases.1));
    for (i, act) in Activation::ALL.into_iter().enumerate() {
        // No neuron, all, and some.
        let share = [0, 8, 1, 4][i % 4];
        let lists = Lists::new(gear, random, n_rows, share, i % 3 == 0);
        let (with_bias, stride) = (i % 2 == 0, n_rows + 2);
        let sums = |t: usize, id: usize| {
            let (g, g_all) = tokens.product(&gate, id, t);
            let (u, u_all) = tokens.product(&up, id, t);
            let bias = |b: &[f32]| if with_bias { f64::from(b[id]) } else { 0.0 };
            let (g, u) = (g + bias(&biases.0), u + bias(&biases.1));
            (g, u, (g_all + 2.0) * (u_all + 2.0))
        };
        let dst = gear.put(&vec![UNWRITTEN; N_TOKENS * stride]);
        let gate_up = GateUp {
            gate: gate.matrix(),
            up: up.matrix(),
            acts: tokens.acts(),
            n_tokens: N_TOKENS,
            list: lists.list(),
            gate_bias: with_bias.then(|| on_card.0.view()),
            up_bias: with_bias.then(|| on_card.1.view()),
            act,
            dst: dst.view(),
            stride,
        };
        launch::gate_up(&gear.stream, &gate_up).unwrap();
        let what = format!("{ty}, {n_rows} x {k}, {act:?}");
        check_h(&lists, &gear.get(dst.view(), N_TOKENS * stride), stride, &what, |t, id| {
            let (g, u, all) = sums(t, id);
            (activated(act, g, u), 2.0 * all * g.abs().max(1.0))
        });

        let act = (!act.is_gated_only()).then_some(act);
        let dst = gear.put(&vec![UNWRITTEN; N_TOKENS * stride]);
        let rows = ListRows {
            weights: gate.matrix(),
            acts: tokens.acts(),
            n_tokens: N_TOKENS,
            list: lists.list(),
            bias: with_bias.then(|| on_card.0.view()),
            act,
            dst: dst.view(),
            stride,
        };
        launch::list_rows(&gear.stream, &rows).unwrap();
        let what = format!("{ty}, {n_rows} x {k}, {act:?} alone");
        check_h(&lists, &gear.get(dst.view(), N_TOKENS * stride), stride, &what, |t, id| {
            let (g, _, all) = sums(t, id);
            (act.map_or(g, |act| activated(act, g, 1.0)), 2.0 * all * g.abs().max(1.0))
        });
    }
}

#[test]
fn gate_and_up_of_listed_neurons() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(6);
        for ty in TYPES {
            for k in [ty.block_len().max(32), 512] {
                check_gate_up(&gear, &mut random, ty, 23, k);
            }
            if ty.block_len() == 1 {
                check_gate_up(&gear, &mut random, ty, 5, 13);
            }
        }
    });
}

fn check_down(gear: &Gear, random: &mut Random, ty: QuantType, n_rows: usize, n_embd: usize) {
    let weights = Weights::new(gear, random, ty, n_rows, n_embd);
    let h_stride = n_rows + 1;
    let h = random.floats(N_TOKENS * h_stride);
    let bias = random.floats(n_embd);
    let (h_on_card, bias_on_card) = (gear.put(&h), gear.put(&bias));
    for (i, share) in [0, 1, 4, 8].into_iter().enumerate() {
        let lists = Lists::new(gear, random, n_rows, share, i % 2 == 0);
        let (stride, add) = (n_embd + 1, (i > 1).then_some(0.5f32));
        let before = random.floats(N_TOKENS * stride);
        let dst = gear.put(&before);
        let scratch = sparse_down_scratch(&weights.matrix(), N_TOKENS);
        let scratch = gear.put(&vec![UNWRITTEN; scratch / size_of::<f32>() + 1]);
        let down = SparseDown {
            weights: weights.matrix(),
            h: h_on_card.view(),
            h_stride,
            n_tokens: N_TOKENS,
            list: lists.list(),
            scratch: scratch.view(),
            out: Output {
                dst: dst.view(),
                stride,
                bias: (i % 2 == 1).then(|| bias_on_card.view()),
                add,
            },
        };
        launch::sparse_down(&gear.stream, &down).unwrap();
        let after: Vec<f32> = gear.get(dst.view(), before.len());
        for (at, (found, before)) in after.iter().zip(&before).enumerate() {
            let (t, column) = (at / stride, at % stride);
            if column >= n_embd {
                assert_eq!(found, before, "written beside the output");
                continue;
            }
            let (mut y, mut all) = (0.0, 0.0);
            for (place, id) in lists.of(t).iter().enumerate() {
                let w = weights.numbers[*id as usize * n_embd + column];
                let product = f64::from(h[t * h_stride + place]) * f64::from(w);
                (y, all) = (y + product, all + product.abs());
            }
            if i % 2 == 1 {
                y += f64::from(bias[column]);
            }
            let y = add.map_or(y, |factor| f64::from(*before) + f64::from(factor) * y);
            let what = format!("{ty}, {n_rows} neurons of {n_embd}, token {t}, column {column}");
            assert_close(*found, y, all + 1.0, &what);
        }
    }
}

#[test]
fn down_projection_of_listed_neurons() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(7);
        for ty in TYPES {
            let block = ty.block_len().max(32);
            for n_embd in [block, 512, 1024 + block] {
                check_down(&gear, &mut random, ty, 29, n_embd);
            }
            check_down(&gear, &mut random, ty, 1, block);
        }
        // No hot neuron at all: zeros, and the bias.
        check_down(&gear, &mut random, QuantType::Q4_0, 0, 64);
    });
}
