//! One step on the card.

use super::CardRun;
use super::slots::Use;
use crate::backend::cuda::launch::{self, ATTEND_KEYS, Acts, CacheType, Matrix, Output, Product};
use crate::backend::cuda::pack::takes_q8;
use crate::backend::cuda::{CudaError, Stream, View};
use crate::engine::run::Job;
use crate::plan::{Attention, Map, Mat, Norm, NormKind, RopeStyle, SlotId, StepKind, TensorId};
use crate::quant::QuantType;
use crate::util::bytes;

/// Least keys that one block of the attention kernel walks.
const SPLIT_KEYS: usize = 4 * ATTEND_KEYS;

/// Bytes that partial results of attention take at most, unless there are so many tokens that each of
/// them has one alone.
const MOST_PARTIALS: usize = 64 << 20;

/// Bytes of so many floats.
pub(super) fn floats(n: usize) -> usize {
    n * 4
}

impl CardRun {
    /// Runs a step that [`super::Steps`] said runs here. `class_of` says how layers see the cache.
    pub fn step(&mut self, job: &Job<'_>, class_of: &[usize], i: usize) -> Result<(), CudaError> {
        match &job.plan.steps[i].kind {
            StepKind::Norm { src, norm, dst, add } => self.norm(job, *src, norm, *dst, *add),
            StepKind::NormHeads { slot, first, n_head, head_dim, norm } => {
                self.norm_heads(job, *slot, (*first, *n_head, *head_dim), norm)
            }
            StepKind::MatMul { src, mats, dst, add } => self.mat_mul(job, *src, mats, *dst, *add),
            StepKind::StoreKv { layer, qkv } => self.store_kv(job, *layer, *qkv),
            StepKind::Attend { layer, qkv, dst } => {
                self.attend(job, *layer, class_of[*layer], *qkv, *dst)
            }
            StepKind::Activate { src, act, gated, dst } => {
                let (n, width) = (job.n_rows(*dst), self.slots.width(*dst));
                let stride = self.slots.width(*src);
                let gate = self.slots.rows(*src, n);
                let up = gated.then(|| gate.from(floats(width)));
                let a =
                    launch::Activate { gate, up, stride, n, width, dst: self.slots.rows(*dst, n) };
                launch::activate(self.stream(), *act, &a)
            }
            StepKind::Map { slot, map } => self.map(job, *slot, *map),
            StepKind::Accumulate { src, scale, dst } => {
                let n = job.n_rows(*dst);
                let (x, y) = (self.slots.rows(*src, n), self.slots.rows(*dst, n));
                launch::accumulate(self.stream(), x, y, n * self.slots.width(*dst), *scale)
            }
            StepKind::Copy { src, dst } => self.copy(job, *src, *dst),
            // `Steps::on_card` lets no other pass.
            _ => Ok(()),
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        self.card.stream()
    }

    /// A vector of the model, if there is one.
    pub(super) fn vector(&self, id: Option<TensorId>) -> Option<View<'_>> {
        self.card.rows(id?).map(|rows| rows.data)
    }

    fn norm(
        &mut self,
        job: &Job<'_>,
        src: SlotId,
        norm: &Norm,
        dst: SlotId,
        add: bool,
    ) -> Result<(), CudaError> {
        let (n, width) = (job.n_rows(dst), self.slots.width(dst));
        if add {
            self.ensure(Use::Product, floats(n * width))?;
        }
        let y = self.slots.rows(dst, n);
        let out = if add { self.slots.scratch(Use::Product, floats(n * width)) } else { y };
        launch::norm(
            self.stream(),
            &launch::Norm {
                rows: launch::Rows::plain(n, width),
                x: self.slots.rows(src, n),
                add: None,
                weight: self.vector(norm.weight),
                bias: self.vector(norm.bias),
                sum: None,
                dst: out,
                q8: None,
                eps: norm.eps,
                mean: norm.kind == NormKind::Layer,
            },
        )?;
        match add {
            true => launch::accumulate(self.stream(), out, y, n * width, 1.0),
            false => Ok(()),
        }
    }

    fn norm_heads(
        &mut self,
        job: &Job<'_>,
        slot: SlotId,
        (first, n_head, head_dim): (usize, usize, usize),
        norm: &Norm,
    ) -> Result<(), CudaError> {
        let n = job.n_rows(slot);
        let x = self.slots.rows(slot, n).from(floats(first));
        launch::norm(
            self.stream(),
            &launch::Norm {
                rows: launch::Rows {
                    n: n * n_head,
                    width: head_dim,
                    per_group: n_head,
                    group_stride: self.slots.width(slot),
                },
                x,
                add: None,
                weight: self.vector(norm.weight),
                bias: self.vector(norm.bias),
                sum: None,
                dst: x,
                q8: None,
                eps: norm.eps,
                mean: norm.kind == NormKind::Layer,
            },
        )
    }

    fn mat_mul(
        &mut self,
        job: &Job<'_>,
        src: SlotId,
        mats: &[Mat],
        dst: SlotId,
        add: Option<f32>,
    ) -> Result<(), CudaError> {
        let (n, k) = (job.n_rows(dst), self.slots.width(src));
        if n == 0 {
            return Ok(());
        }
        let quantized = mats.iter().any(|mat| takes_q8(mat.ty));
        if quantized {
            self.ensure(Use::Codes, n * k)?;
            self.ensure(Use::Scales, n * k / 32 * 8)?;
        }
        let x = self.slots.rows(src, n);
        let q8 = quantized.then(|| {
            let codes = self.slots.scratch(Use::Codes, n * k);
            (codes, self.slots.scratch(Use::Scales, n * k / 32 * 8))
        });
        if let Some((codes, scales)) = q8 {
            launch::quantize_q8(self.stream(), x, codes, scales, n * k)?;
        }
        let stride = self.slots.width(dst);
        let mut first = 0;
        for mat in mats {
            let acts = match q8.filter(|_| takes_q8(mat.ty)) {
                Some((codes, scales)) => Acts::Q8 { codes, scales },
                None => Acts::F32(x),
            };
            let Some(rows) = self.card.rows(mat.weight) else { continue };
            let data = rows.data.from(mat.first_row * rows.stride);
            let product = Product {
                weights: Matrix { ty: rows.ty, n_rows: mat.n_out, k: rows.k, data },
                acts,
                n_tokens: n,
                scale: mat.scale.map_or(1.0, |id| factor(job, id)),
                out: Output {
                    dst: self.slots.rows(dst, n).from(floats(first)),
                    stride,
                    bias: self.vector(mat.bias),
                    add,
                },
            };
            launch::mat_mul(self.stream(), &product)?;
            first += mat.n_out;
        }
        Ok(())
    }

    /// Rotates heads from a column of a slot on.
    fn rotate(
        &self,
        job: &Job<'_>,
        layer: usize,
        slot: SlotId,
        first: usize,
        n_heads: usize,
    ) -> Result<(), CudaError> {
        let spec = &job.plan.layers[layer];
        let Some(rope) = &spec.rope else { return Ok(()) };
        let Some(table) = self.lists.cos_sin(rope.table) else { return Ok(()) };
        let n = job.n_rows(slot);
        launch::rope(
            self.stream(),
            &launch::Rope {
                x: self.slots.rows(slot, n).from(floats(first)),
                table,
                n_tokens: n,
                n_heads,
                head_dim: spec.head_dim_k,
                n_rot: rope.n_rot,
                stride: self.slots.width(slot),
                halves: rope.style == RopeStyle::Neox,
            },
        )
    }

    fn store_kv(&self, job: &Job<'_>, layer: usize, qkv: SlotId) -> Result<(), CudaError> {
        let spec = &job.plan.layers[layer];
        let keys = spec.n_embd_q();
        self.rotate(job, layer, qkv, keys, spec.n_head_kv)?;
        let kv = job.kv.layer(layer);
        let (n, n_rows) = (job.n_rows(qkv), job.kv.n_rows(kv.part));
        let Some(rows) = self.lists.kv_rows(kv.part) else { return Ok(()) };
        let x = self.slots.rows(qkv, n);
        let values = keys + spec.n_embd_k();
        let types = job.kv.types();
        let sides =
            [(&kv.k, types.0, keys, spec.n_embd_k()), (&kv.v, types.1, values, spec.n_embd_v())];
        for (side, ty, first, width) in sides {
            let Some(cache) = side.card() else { continue };
            launch::store(
                self.stream(),
                &launch::Store {
                    x: x.from(floats(first)),
                    cache,
                    kind: cache_type(ty),
                    rows,
                    n_rows,
                    n_tokens: n,
                    width,
                    stride: self.slots.width(qkv),
                },
            )?;
        }
        Ok(())
    }

    fn attend(
        &mut self,
        job: &Job<'_>,
        layer: usize,
        class: usize,
        qkv: SlotId,
        dst: SlotId,
    ) -> Result<(), CudaError> {
        let spec = &job.plan.layers[layer];
        let n = job.n_rows(qkv);
        self.rotate(job, layer, qkv, 0, spec.n_head)?;
        let most = self.lists.seen(class).map_or(0, |(_, most)| most);
        let split_keys = split_keys(n, spec, most);
        let scratch = partials(n, spec, most.div_ceil(split_keys).max(1));
        self.ensure(Use::Partials, scratch)?;
        let kv = job.kv.layer(layer);
        let (Some(k), Some(v)) = (kv.k.card(), kv.v.card()) else { return Ok(()) };
        let (Some(([list, key_pos, ranges], _)), Some(query_pos)) =
            (self.lists.seen(class), self.lists.pos())
        else {
            return Ok(());
        };
        let slopes = self.lists.slopes(spec);
        launch::attend(
            self.stream(),
            &launch::Attend {
                q: self.slots.rows(qkv, n),
                q_stride: self.slots.width(qkv),
                k,
                v,
                kind_k: cache_type(job.kv.types().0),
                kind_v: cache_type(job.kv.types().1),
                n_rows: job.kv.n_rows(kv.part),
                ranges,
                list,
                n_list: list.len() / 4,
                max_keys: most,
                alibi: slopes.map(|slopes| launch::Slopes { slopes, key_pos, query_pos }),
                sinks: self.vector(spec.sinks),
                partials: self.slots.scratch(Use::Partials, scratch),
                dst: self.slots.rows(dst, n),
                n_tokens: n,
                n_head: spec.n_head,
                n_head_kv: spec.n_head_kv,
                dim_k: spec.head_dim_k,
                dim_v: spec.head_dim_v,
                split_keys,
                scale: spec.scale,
                softcap: spec.softcap,
            },
        )
    }

    fn map(&self, job: &Job<'_>, slot: SlotId, map: Map) -> Result<(), CudaError> {
        let (n, width) = (job.n_rows(slot), self.slots.width(slot));
        let (x, n) = (self.slots.rows(slot, n), n * width);
        let scale = |factor| launch::scale(self.stream(), x, x, n, factor, 0.0);
        match map {
            Map::Scale(factor) => scale(factor),
            Map::SoftCap(cap) => launch::softcap(self.stream(), x, x, n, cap),
            Map::Tanh(factor) => {
                scale(factor)?;
                launch::softcap(self.stream(), x, x, n, 1.0)
            }
        }
    }

    fn copy(&self, job: &Job<'_>, src: SlotId, dst: SlotId) -> Result<(), CudaError> {
        let (n_src, n, width) = (job.n_rows(src), job.n_rows(dst), self.slots.width(dst));
        let (x, y) = (self.slots.rows(src, n_src), self.slots.rows(dst, n));
        if job.plan.slot(src).rows == job.plan.slot(dst).rows {
            return self.stream().copy(y, x);
        }
        match self.lists.outputs() {
            Some(ids) if n > 0 => launch::gather(self.stream(), x, n_src, ids, y, n, width),
            _ => Ok(()),
        }
    }

    pub(super) fn ensure(&mut self, of: Use, n_bytes: usize) -> Result<(), CudaError> {
        self.slots.ensure_scratch(of, n_bytes, self.card.stream(), self.card.budget())
    }
}

/// Keys of a split when `n` tokens see up to `most` keys: few for few tokens, so that a long past keeps
/// the whole card busy; as many as it takes with many, which do that by themselves, so that partial
/// results stay small.
fn split_keys(n: usize, spec: &Attention, most: usize) -> usize {
    let splits = (MOST_PARTIALS / partials(n, spec, 1).max(1)).max(1);
    most.div_ceil(splits).next_multiple_of(ATTEND_KEYS).max(SPLIT_KEYS)
}

/// Bytes of the partial results of `n` tokens in so many splits.
fn partials(n: usize, spec: &Attention, splits: usize) -> usize {
    launch::attend_scratch(n, spec.n_head, spec.head_dim_v, splits, 1).unwrap_or(usize::MAX)
}

/// Most bytes of partial results with up to `n` tokens that see up to `most` keys.
pub(super) fn most_partials(n: usize, spec: &Attention, most: usize) -> usize {
    partials(n, spec, most.div_ceil(SPLIT_KEYS).max(1)).min(MOST_PARTIALS.max(partials(n, spec, 1)))
}

/// The number in a tensor of one element.
pub(super) fn factor(job: &Job<'_>, id: TensorId) -> f32 {
    let data = job.model.weight(id).data.as_deref();
    data.and_then(bytes::cast::<f32>).and_then(|x| x.first()).copied().unwrap_or(1.0)
}

/// How a format of the cache is called on the card.
///
/// # Panics
/// For a format that [`super::keeps_kv`] does not let pass.
fn cache_type(ty: QuantType) -> CacheType {
    match ty {
        QuantType::F32 => CacheType::F32,
        QuantType::F16 => CacheType::F16,
        QuantType::Q8_0 => CacheType::Q8_0,
        ty => panic!("keys and values of type {ty} are not kept on a card"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_results_never_take_more_than_was_said() {
        let spec = Attention::new(32, 8, 128, 128);
        for (n_ubatch, n_ctx) in [(1, 131_072), (512, 131_072), (512, 4096), (4096, 8192), (7, 100)]
        {
            let said = most_partials(n_ubatch, &spec, n_ctx);
            for n in [1, 2, 7, 100, 300, 511, 512, 4096].into_iter().filter(|n| *n <= n_ubatch) {
                for most in
                    [0, 1, 100, 1000, 4000, 100_000, 131_072].map(|most: usize| most.min(n_ctx))
                {
                    let keys = split_keys(n, &spec, most);
                    assert!(keys.is_multiple_of(ATTEND_KEYS) && keys >= SPLIT_KEYS);
                    let bytes = partials(n, &spec, most.div_ceil(keys).max(1));
                    assert!(bytes <= said, "{n} tokens, {most} keys: {bytes} of {said}");
                    // A token alone is spread as far as it goes.
                    assert!(n > 1 || keys == SPLIT_KEYS);
                }
            }
        }
        let whole = most_partials(512, &spec, 131_072);
        assert!(whole <= 64 << 20, "{whole}");
    }
}
