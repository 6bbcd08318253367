//! Feed-forward networks of which a card has all neurons, or the hot ones.
//!
//! Few tokens have a list of the neurons here that fire, by a predictor's scores or by all gates
//! here; only rows of these are read for the rest. With many tokens, where the card has all neurons,
//! products are whole.

use std::ops::Range;
use std::sync::Arc;

use super::crossing::Arrived;
use super::neurons::Part;
use super::slots::Use;
use super::steps::{factor, floats};
use super::watch::Watch;
use super::weights::CardRows;
use super::{CardModel, CardRun};
use crate::backend::cuda::launch::{
    self, Activate, Acts, GateUp, List, ListRows, Matrix, Output, Product, Select, SparseDown,
};
use crate::backend::cuda::pack::takes_q8;
use crate::backend::cuda::{CudaError, Purpose, View};
use crate::engine::run::{Job, MAX_TOKENS};
use crate::plan::{DownRows, Mat, SkippingFfn, SlotId, TensorId};
use crate::sparse::{Guess, Selector};
use crate::tensor::Activation;
use crate::util::bytes;

/// The neurons of a network that a card has.
struct Here<'a> {
    gate: Option<Matrix<'a>>,
    gate_bias: Option<View<'a>>,
    up: Matrix<'a>,
    up_bias: Option<View<'a>>,
    down: Matrix<'a>,
    /// Whether `down` has a row for each neuron, not for each output.
    by_neurons: bool,
    /// Neurons that the processor computes.
    cold: &'a [u32],
    guesser: Option<Guesser<'a>>,
}

/// Rows of a matrix, and a bias for each.
type Rows<'a> = (Matrix<'a>, Option<View<'a>>);

/// A predictor of which neurons fire.
struct Guesser<'a> {
    fc1: Rows<'a>,
    /// For the neurons here.
    hot: Rows<'a>,
    /// For the others.
    cold: Option<Rows<'a>>,
}

/// What the card makes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// Its hot neurons; the processor makes the cold ones meanwhile.
    Hot,
    /// Nothing: the processor makes all neurons.
    Nothing,
}

/// Where the ids of the list of all neurons begin.
const LIST_AT: usize = 16;

/// Activations of tokens in f32, and in 8 bits where weights want that.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: View<'a>,
    q8: Option<(View<'a>, View<'a>)>,
    k: usize,
}

impl<'a> Input<'a> {
    /// Those of the tokens from `t` on, for weights of a type.
    fn acts(&self, weights: &Matrix<'_>, t: usize) -> Acts<'a> {
        match self.q8.filter(|_| takes_q8(weights.ty)) {
            Some((codes, scales)) => {
                let scales = scales.from(t * self.k / 32 * 8);
                Acts::Q8 { codes: codes.from(t * self.k), scales }
            }
            None => Acts::F32(self.x.from(floats(t * self.k))),
        }
    }
}

impl<'a> Here<'a> {
    fn of(card: &'a CardModel, ffn: &SkippingFfn, n_embd: usize) -> Option<Self> {
        if let Some(layer) = card.hot(ffn.layer) {
            let view = |part: Option<Part>| part.map(|part| layer.view(&part));
            return Some(Self {
                gate: layer.gate.map(|part| layer.matrix(part)),
                gate_bias: view(layer.gate_bias),
                up: layer.matrix(layer.up),
                up_bias: view(layer.up_bias),
                down: layer.matrix(layer.down),
                by_neurons: true,
                cold: &layer.cold,
                guesser: layer.predictor.map(|p| Guesser {
                    fc1: (layer.matrix(p.fc1), view(p.fc1_bias)),
                    hot: (layer.matrix(p.hot), view(p.hot_bias)),
                    cold: Some((layer.matrix(p.cold), view(p.cold_bias))),
                }),
            });
        }
        let whole = |id, n_rows| {
            let CardRows { ty, k, data, .. } = card.rows(id)?;
            Some(Matrix { ty, n_rows, k, data })
        };
        let bias = |bias: Option<TensorId>| bias.and_then(|id| Some(card.rows(id)?.data));
        let by_neurons = ffn.down.rows == DownRows::Neurons;
        Some(Self {
            gate: ffn.gate.and_then(|gate| whole(gate.weight, ffn.n_ff)),
            gate_bias: bias(ffn.gate.and_then(|gate| gate.bias)),
            up: whole(ffn.up.weight, ffn.n_ff)?,
            up_bias: bias(ffn.up.bias),
            down: whole(ffn.down.weight, if by_neurons { ffn.n_ff } else { n_embd })?,
            by_neurons,
            cold: &[],
            guesser: ffn.predictor.and_then(|p| {
                let rows = |mat: &Mat| {
                    let plain = mat.scale.is_none() && mat.first_row == 0;
                    let rows = whole(mat.weight, mat.n_out).filter(|_| plain)?;
                    Some((rows, bias(mat.bias)))
                };
                Some(Guesser { fc1: rows(&p.fc1)?, hot: rows(&p.fc2)?, cold: None })
            }),
        })
    }

    /// The matrix whose outputs say which neurons fire, and its bias.
    fn first(&self) -> (Matrix<'a>, Option<View<'a>>) {
        self.gate.map_or((self.up, self.up_bias), |gate| (gate, self.gate_bias))
    }

    fn n_cold(&self) -> usize {
        self.cold.len()
    }
}

impl CardRun {
    /// Begins a network that [`super::Steps`] said runs here, and says what of it does. The result is
    /// added to what is in the network's `dst`; what the processor makes is added by
    /// [`Self::merge`]. With `on_host` all of it is left to the processor.
    pub fn ffn(
        &mut self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        on_host: bool,
    ) -> Result<Share, CudaError> {
        let (n, n_embd) = (job.n_rows(ffn.dst), self.slots.width(ffn.dst));
        let card = Arc::clone(&self.card);
        let (Some(selector), Some(here)) =
            (job.sparse.layer(ffn.layer), Here::of(&card, ffn, n_embd))
        else {
            return Ok(Share::Nothing);
        };
        if n == 0 {
            return Ok(Share::Whole);
        }
        if !ffn.add {
            self.stream().zero(self.slots.rows(ffn.dst, n))?;
        }
        let split = here.n_cold() > 0;
        // Without its predictor here the lists are the processor's to make.
        let blind = matches!(selector.guess, Guess::LowRank { .. }) && here.guesser.is_none();
        if on_host || split && (blind || n > MAX_TOKENS) {
            return Ok(Share::Nothing);
        }
        self.reserve(&here, ffn, n)?;
        if let Some(watch) = self.watch.as_mut().filter(|_| n <= MAX_TOKENS) {
            let guesses = matches!(selector.guess, Guess::LowRank { .. }) && here.guesser.is_some();
            let unguessed = (!guesses).then_some(here.up.n_rows);
            watch.begin(self.card.stream(), ffn.layer, n, unguessed)?;
        }
        if split {
            let src = self.slots.rows(ffn.src, n);
            self.crossing.fetch_rows(self.card.stream(), src)?;
        }
        match here.by_neurons && (n <= MAX_TOKENS || selector.least > 0.0) {
            true => {
                for t in (0..n).step_by(MAX_TOKENS) {
                    self.listed(job, ffn, selector, &here, t..n.min(t + MAX_TOKENS))?;
                }
            }
            false => self.all(job, ffn, &here, n)?,
        }
        if let Some(watch) = self.watch.as_ref().filter(|_| n <= MAX_TOKENS) {
            watch.done(self.card.stream())?;
        }
        Ok(if split { Share::Hot } else { Share::Whole })
    }

    /// The input of a network of which the processor makes a part, as soon as it is on the host: `n`
    /// rows, few when the card has a share.
    pub fn arrived(
        &mut self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        n: usize,
    ) -> Result<(Arrived<'_>, &[u32]), CudaError> {
        let Self { card, crossing, slots, .. } = self;
        let layer = card.hot(ffn.layer);
        let cold = layer.map_or(&[][..], |layer| &layer.cold);
        let selector = job.sparse.layer(ffn.layer);
        let guesses = selector.is_some_and(|s| matches!(s.guess, Guess::LowRank { .. }));
        let listed = guesses && layer.is_some_and(|layer| layer.predictor.is_some());
        Ok((crossing.arrived((n, slots.width(ffn.src)), cold, listed)?, cold))
    }

    /// Adds what the processor made to the card's part.
    pub fn merge(
        &mut self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        rows: &[f32],
    ) -> Result<(), CudaError> {
        let n = job.n_rows(ffn.dst);
        self.ensure(Use::Partial, size_of_val(rows))?;
        let Self { card, crossing, slots, watch, .. } = self;
        let partial = slots.scratch(Use::Partial, size_of_val(rows));
        crossing.send(card.stream(), rows, partial)?;
        let dst = slots.rows(ffn.dst, n);
        launch::accumulate(card.stream(), partial, dst, rows.len(), ffn.scale)?;
        match watch.as_mut().filter(|_| n <= MAX_TOKENS) {
            Some(watch) => watch.merged(card.stream(), ffn.layer),
            None => Ok(()),
        }
    }

    /// Makes room for all that a network keeps for itself.
    fn reserve(&mut self, here: &Here<'_>, ffn: &SkippingFfn, n: usize) -> Result<(), CudaError> {
        let (few, n_here, n_cold) = (n.min(MAX_TOKENS), here.up.n_rows, here.n_cold());
        let rank = ffn.predictor.map_or(0, |p| p.fc1.n_out);
        let widest = self.slots.width(ffn.src).max(n_here).max(rank);
        self.ensure(Use::Codes, n * widest)?;
        self.ensure(Use::Scales, n * widest / 32 * 8)?;
        self.ensure(Use::Hidden, floats(n * rank))?;
        self.ensure(Use::First, floats(n * n_here))?;
        self.ensure(Use::Product, floats(n * n_here))?;
        self.ensure(Use::Neurons, floats(n * n_here))?;
        self.ensure(Use::Ids, floats(few * n_here))?;
        self.ensure(Use::Counts, floats(few))?;
        self.ensure(Use::ColdScores, floats(few * n_cold))?;
        self.ensure(Use::ColdIds, floats(few * n_cold))?;
        self.ensure(Use::ColdCounts, floats(few))?;
        if here.by_neurons {
            self.ensure(Use::Sums, launch::sparse_down_scratch(&here.down, few))?;
            self.list_everything(n_here)?;
        }
        if n_cold > 0 {
            let n_embd = self.slots.width(ffn.src).max(self.slots.width(ffn.dst));
            self.ensure(Use::Partial, floats(few * n_embd))?;
            self.crossing.ensure(self.card.stream().device(), n_embd, n_cold)?;
        }
        Ok(())
    }

    /// A list of the neurons 0 to `n`, behind its length.
    fn list_everything(&mut self, n: usize) -> Result<(), CudaError> {
        if self.everything.as_ref().is_none_or(|list| list.len() < LIST_AT + floats(n)) {
            self.everything = None;
            let mut words = vec![n as u32; LIST_AT / 4];
            words.extend(0..n as u32);
            let (stream, budget) = (self.card.stream(), self.card.budget());
            let len = floats(words.len());
            let list = stream.device().alloc(budget, Purpose::Compute, len)?;
            stream.upload(list.view().slice(0..len), bytes::as_bytes(&words))?;
            self.everything = Some(list);
        }
        Ok(())
    }

    /// Rows of a slot, or of scratch memory, as operands of products with some matrices.
    fn input<'a>(
        &'a self,
        x: View<'a>,
        (n, k): (usize, usize),
        weights: &[Option<Matrix<'_>>],
    ) -> Result<Input<'a>, CudaError> {
        let quantized = weights.iter().flatten().any(|weights| takes_q8(weights.ty));
        let q8 = quantized.then(|| {
            let codes = self.slots.scratch(Use::Codes, n * k);
            (codes, self.slots.scratch(Use::Scales, n * k / 32 * 8))
        });
        if let Some((codes, scales)) = q8 {
            launch::quantize_q8(self.stream(), x, codes, scales, n * k)?;
        }
        Ok(Input { x, q8, k })
    }

    /// The tokens `t` with lists of neurons.
    fn listed(
        &self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        selector: &Selector,
        here: &Here<'_>,
        t: Range<usize>,
    ) -> Result<(), CudaError> {
        let (n, n_here) = (t.len(), here.up.n_rows);
        let row = |slot: SlotId| {
            let width = self.slots.width(slot);
            self.slots.rows(slot, t.end).from(floats(t.start * width))
        };
        let guess = match (&selector.guess, &here.guesser, ffn.predictor) {
            (Guess::LowRank { threshold }, Some(guesser), Some(p)) => {
                Some((*threshold, guesser, p.src))
            }
            _ => None,
        };
        if let Some((threshold, guesser, src)) = guess {
            self.predict(guesser, row(src), n, threshold)?;
        }
        let x = row(ffn.src);
        let k = self.slots.width(ffn.src);
        let input = self.input(x, (n, k), &[here.gate, Some(here.up)])?;
        let ids = self.slots.scratch(Use::Ids, floats(n * n_here));
        let counts = self.slots.scratch(Use::Counts, floats(n));
        if guess.is_none() && n_here > 0 {
            let (first, bias) = here.first();
            let gates = self.slots.scratch(Use::First, floats(n * n_here));
            let product = plain(first, input.acts(&first, 0), n, gates, bias);
            launch::mat_mul(self.stream(), &product)?;
            let activate = together(gates, None, n, n_here, gates);
            launch::activate(self.stream(), ffn.act.of_gate(), &activate)?;
            let select = Select { scores: gates, ids, counts, n_tokens: n, n: n_here };
            match selector.least > 0.0 {
                true => launch::select_beyond(self.stream(), &select, selector.least)?,
                false => launch::select_nonzero(self.stream(), &select)?,
            }
        }
        if n_here == 0 {
            return Ok(());
        }
        let list = List { ids, counts, stride: n_here, capacity: n_here };
        let h = self.slots.scratch(Use::Neurons, floats(n * n_here));
        if self.watch.is_some() {
            // So that what fires can be counted.
            self.stream().zero(h)?;
        }
        let rows = |weights: Matrix<'_>, bias, act, dst| {
            let (acts, stride) = (input.acts(&weights, 0), n_here);
            let rows = ListRows { weights, acts, n_tokens: n, list, bias, act, dst, stride };
            launch::list_rows(self.stream(), &rows)
        };
        match here.gate {
            Some(gate) if gate.ty == here.up.ty => launch::gate_up(
                self.stream(),
                &GateUp {
                    gate,
                    up: here.up,
                    acts: input.acts(&here.up, 0),
                    n_tokens: n,
                    list,
                    gate_bias: here.gate_bias,
                    up_bias: here.up_bias,
                    act: ffn.act,
                    dst: h,
                    stride: n_here,
                },
            )?,
            Some(gate) => {
                let first = self.slots.scratch(Use::First, floats(n * n_here));
                let up = self.slots.scratch(Use::Product, floats(n * n_here));
                rows(gate, here.gate_bias, None, first)?;
                rows(here.up, here.up_bias, None, up)?;
                // What lies past the lists' ends is anything, and stays unseen.
                launch::activate(self.stream(), ffn.act, &together(first, Some(up), n, n_here, h))?;
            }
            None => rows(here.up, here.up_bias, Some(ffn.act), h)?,
        }
        self.down(job, ffn, here, (h, list), t)?;
        match &self.watch {
            Some(watch) => self.count(watch, here, (h, list), n),
            None => Ok(()),
        }
    }

    /// Counts listed neurons, and those of them with an output.
    fn count(
        &self,
        watch: &Watch,
        here: &Here<'_>,
        (h, list): (View<'_>, List<'_>),
        n: usize,
    ) -> Result<(), CudaError> {
        let n_here = here.up.n_rows;
        let ids = self.slots.scratch(Use::First, floats(n * n_here));
        let counts = self.slots.scratch(Use::ColdCounts, floats(n));
        let select = Select { scores: h, ids, counts, n_tokens: n, n: n_here };
        launch::select_nonzero(self.stream(), &select)?;
        watch.count(self.stream(), list.counts, counts)
    }

    /// Lists of the neurons whose scores are not below the threshold: of those here in
    /// [`Use::Ids`], of the others to the host.
    fn predict(
        &self,
        guesser: &Guesser<'_>,
        x: View<'_>,
        n: usize,
        threshold: f32,
    ) -> Result<(), CudaError> {
        let (fc1, bias) = guesser.fc1;
        let rank = fc1.n_rows;
        let hidden = self.slots.scratch(Use::Hidden, floats(n * rank));
        let input = self.input(x, (n, fc1.k), &[Some(fc1)])?;
        let product = plain(fc1, input.acts(&fc1, 0), n, hidden, bias);
        launch::mat_mul(self.stream(), &product)?;
        let activate = together(hidden, None, n, rank, hidden);
        launch::activate(self.stream(), Activation::Relu, &activate)?;
        let input = self.input(hidden, (n, rank), &[Some(guesser.hot.0)])?;
        let here = Some((guesser.hot, Use::First, Use::Ids, Use::Counts));
        let there = guesser.cold.map(|cold| (cold, Use::ColdScores, Use::ColdIds, Use::ColdCounts));
        let parts = here.into_iter().chain(there);
        for ((rows, bias), scores, ids, counts) in parts.filter(|part| part.0.0.n_rows > 0) {
            let scores = self.slots.scratch(scores, floats(n * rows.n_rows));
            let product = plain(rows, input.acts(&rows, 0), n, scores, bias);
            launch::mat_mul(self.stream(), &product)?;
            let ids = self.slots.scratch(ids, floats(n * rows.n_rows));
            let counts = self.slots.scratch(counts, floats(n));
            let select = Select { scores, ids, counts, n_tokens: n, n: rows.n_rows };
            launch::select_above(self.stream(), &select, threshold)?;
        }
        if let Some((cold, _)) = guesser.cold.filter(|(cold, _)| cold.n_rows > 0) {
            let ids = self.slots.scratch(Use::ColdIds, floats(n * cold.n_rows));
            let counts = self.slots.scratch(Use::ColdCounts, floats(n));
            self.crossing.fetch_lists(self.stream(), ids, counts)?;
        }
        Ok(())
    }

    /// The way back of listed neurons with outputs `h`.
    fn down(
        &self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        here: &Here<'_>,
        (h, list): (View<'_>, List<'_>),
        t: Range<usize>,
    ) -> Result<(), CudaError> {
        let width = self.slots.width(ffn.dst);
        let scratch = launch::sparse_down_scratch(&here.down, t.len());
        let (add, bias) = self.factor_and_bias(job, ffn, here);
        launch::sparse_down(
            self.stream(),
            &SparseDown {
                weights: here.down,
                h,
                h_stride: here.up.n_rows,
                n_tokens: t.len(),
                list,
                scratch: self.slots.scratch(Use::Sums, scratch),
                out: Output {
                    dst: self.slots.rows(ffn.dst, t.end).from(floats(t.start * width)),
                    stride: width,
                    bias,
                    add: Some(add),
                },
            },
        )
    }

    /// The factor on the way back, and its bias, which the processor adds where it has a part.
    fn factor_and_bias<'a>(
        &'a self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        here: &Here<'_>,
    ) -> (f32, Option<View<'a>>) {
        let scale = ffn.down.scale.map_or(1.0, |id| factor(job, id));
        let bias = ffn.down.bias.filter(|_| here.n_cold() == 0);
        (scale * ffn.scale, self.vector(bias))
    }

    /// Many tokens, with all neurons.
    fn all(
        &self,
        job: &Job<'_>,
        ffn: &SkippingFfn,
        here: &Here<'_>,
        n: usize,
    ) -> Result<(), CudaError> {
        let n_here = here.up.n_rows;
        if n_here == 0 {
            return Ok(());
        }
        let src = self.slots.rows(ffn.src, n);
        let k = self.slots.width(ffn.src);
        let input = self.input(src, (n, k), &[here.gate, Some(here.up)])?;
        let h = self.slots.scratch(Use::Neurons, floats(n * n_here));
        let up = self.slots.scratch(Use::Product, floats(n * n_here));
        let product = plain(here.up, input.acts(&here.up, 0), n, up, here.up_bias);
        launch::mat_mul(self.stream(), &product)?;
        let (mut gate, mut other) = (up, None);
        if let Some(weights) = here.gate {
            (gate, other) = (self.slots.scratch(Use::First, floats(n * n_here)), Some(up));
            let product = plain(weights, input.acts(&weights, 0), n, gate, here.gate_bias);
            launch::mat_mul(self.stream(), &product)?;
        }
        launch::activate(self.stream(), ffn.act, &together(gate, other, n, n_here, h))?;
        if here.by_neurons {
            let list = self.everything.as_ref().expect("`reserve` made it").view();
            let (ids, counts) = (list.from(LIST_AT), list.slice(0..4));
            // It may be longer: no more than `capacity` are looked at.
            let list = List { ids, counts, stride: 0, capacity: n_here };
            for t in (0..n).step_by(MAX_TOKENS) {
                let rows = h.from(floats(t * n_here));
                self.down(job, ffn, here, (rows, list), t..n.min(t + MAX_TOKENS))?;
            }
            return Ok(());
        }
        let input = self.input(h, (n, n_here), &[Some(here.down)])?;
        let (add, bias) = self.factor_and_bias(job, ffn, here);
        let dst = self.slots.rows(ffn.dst, n);
        let product = plain(here.down, input.acts(&here.down, 0), n, dst, bias);
        let out = Output { add: Some(add), ..product.out };
        launch::mat_mul(self.stream(), &Product { out, ..product })
    }
}

/// `dst = weights * acts + bias`
fn plain<'a>(
    weights: Matrix<'a>,
    acts: Acts<'a>,
    n: usize,
    dst: View<'a>,
    bias: Option<View<'a>>,
) -> Product<'a> {
    let out = Output { dst, stride: weights.n_rows, bias, add: None };
    Product { weights, acts, n_tokens: n, scale: 1.0, out }
}

/// `n` rows of `width` numbers without gaps.
fn together<'a>(
    gate: View<'a>,
    up: Option<View<'a>>,
    n: usize,
    width: usize,
    dst: View<'a>,
) -> Activate<'a> {
    Activate { gate, up, stride: width, n, width, dst }
}
