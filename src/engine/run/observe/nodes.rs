//! Which nodes a step of an unfused plan makes: names, sources, and where their numbers are.

use std::ops::Range;

use super::super::Job;
use super::{Op, weight};
use crate::plan::{
    Map, Mat, Norm, NormKind, Router, SkippingFfn, SlotId, Step, StepKind, TensorId, with_layer,
};
use crate::tensor::Activation;

/// Where the numbers of a node or a source are.
pub(super) enum Part {
    /// Columns of a buffer, cut into heads where these are narrower.
    Columns {
        slot: SlotId,
        cols: Range<usize>,
        head_dim: usize,
    },
    /// Columns of a buffer that is sorted by expert; a token's rows are the same if not `each`.
    Sorted {
        slot: SlotId,
        cols: Range<usize>,
        n_used: usize,
        each: bool,
    },
    Weight(TensorId),
    /// Ids of the tokens.
    Tokens,
    /// Their positions.
    Positions,
    /// Ids of the experts of each of `n` tokens, by rank.
    Experts {
        n_used: usize,
        n: usize,
    },
}

impl Part {
    /// The buffer and its first column.
    pub(super) fn place(&self) -> Option<(SlotId, usize)> {
        match self {
            Self::Columns { slot, cols, .. } | Self::Sorted { slot, cols, .. } => {
                Some((*slot, cols.start))
            }
            _ => None,
        }
    }
}

/// A node in outline.
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) op: Op,
    pub(super) out: Part,
    pub(super) sources: Vec<Part>,
}

/// The nodes of a step in order; none for steps that only store or move numbers, and for buffers
/// without rows.
pub(super) fn of_step(job: &Job<'_>, step: &Step) -> Vec<Spec> {
    if step.name.is_empty() {
        return Vec::new();
    }
    let specs = Specs { job, name: &step.name }.of(&step.kind);
    let has_rows = |spec: &Spec| spec.out.place().is_none_or(|(slot, _)| job.n_rows(slot) > 0);
    specs.into_iter().filter(has_rows).collect()
}

struct Specs<'a> {
    job: &'a Job<'a>,
    name: &'a str,
}

impl Specs<'_> {
    fn whole(&self, slot: SlotId) -> Part {
        let width = self.job.plan.slot(slot).width;
        Part::Columns { slot, cols: 0..width, head_dim: width }
    }

    fn one(&self, op: Op, out: Part, sources: Vec<Part>) -> Vec<Spec> {
        vec![Spec { name: self.name.to_owned(), op, out, sources }]
    }

    fn of(&self, kind: &StepKind) -> Vec<Spec> {
        match kind {
            StepKind::Embed { weight, dst, .. } => {
                let sources = vec![Part::Weight(*weight), Part::Tokens];
                vec![Spec {
                    name: "embd".to_owned(),
                    op: Op::GetRows,
                    out: self.whole(*dst),
                    sources,
                }]
            }
            StepKind::AddRow { table, dst, .. } => {
                let sources = vec![self.whole(*dst), Part::Weight(*table)];
                self.one(Op::Add, self.whole(*dst), sources)
            }
            StepKind::Norm { src, norm, dst, .. } => {
                self.one(norm_op(norm), self.whole(*dst), vec![self.whole(*src)])
            }
            StepKind::NormHeads { slot, first, n_head, head_dim, norm } => {
                let heads = || heads(*slot, *first, *n_head, *head_dim);
                let factors = norm.weight.map(Part::Weight);
                let op = if factors.is_some() { Op::Mul } else { norm_op(norm) };
                self.one(op, heads(), [heads()].into_iter().chain(factors).collect())
            }
            StepKind::MatMul { src, mats, dst, .. } => self.products(*src, mats, *dst),
            StepKind::FinishProducts { mats, slot } => self.finished(mats, *slot),
            StepKind::Rotate { slot, first, n_head, head_dim, .. } => {
                let heads = || heads(*slot, *first, *n_head, *head_dim);
                self.one(Op::Rope, heads(), vec![heads(), Part::Positions])
            }
            StepKind::Attend { layer, qkv, dst } => {
                let spec = &self.job.plan.layers[*layer];
                let queries = heads(*qkv, 0, spec.n_head, spec.head_dim_k);
                self.one(Op::Attention, self.whole(*dst), vec![queries])
            }
            StepKind::Activate { src, act, gated, dst } => {
                let n_rows_each = self.job.plan.slot(*src).per_row;
                let width = self.job.plan.slot(*dst).width;
                let cols = |cols: Range<usize>, slot| match n_rows_each {
                    1 => Part::Columns { slot, head_dim: cols.len(), cols },
                    n_used => Part::Sorted { slot, cols, n_used, each: true },
                };
                let (first, out) = (cols(0..width, *src), cols(0..width, *dst));
                let (op, sources) = match gated {
                    true => (Op::Glu(*act), vec![first, cols(width..2 * width, *src)]),
                    false => (Op::Unary(*act), vec![first]),
                };
                let name = match self.name.starts_with("ffn_gate_par") {
                    true => with_layer(gated_name(*act), self.name),
                    false => self.name.to_owned(),
                };
                vec![Spec { name, op, out, sources }]
            }
            StepKind::ActivateBy { src, by, first, dst, .. } => {
                let width = self.job.plan.slot(*dst).width;
                let by = Part::Columns { slot: *by, cols: *first..first + width, head_dim: width };
                self.one(Op::Mul, self.whole(*dst), vec![self.whole(*src), by])
            }
            StepKind::CutGates { slot, .. } => {
                let half = self.job.plan.slot(*slot).width / 2;
                let gates = || Part::Columns { slot: *slot, cols: 0..half, head_dim: half };
                let op = Op::Unary(Activation::Relu);
                self.one(op, gates(), vec![gates()])
            }
            StepKind::Multiply { src, factors, dst } => {
                let sources = vec![self.whole(*src), Part::Weight(*factors)];
                self.one(Op::Mul, self.whole(*dst), sources)
            }
            StepKind::Rescale { src, like, dst, .. } => {
                let sources = vec![self.whole(*src), self.whole(*like)];
                self.one(Op::Mul, self.whole(*dst), sources)
            }
            StepKind::MixStreams { streams, coefs } => {
                let all = streams.iter();
                all.flat_map(|&s| self.one(Op::Add, self.whole(s), vec![self.whole(*coefs)]))
                    .collect()
            }
            StepKind::CorrectStreams { streams, src, .. } => {
                let all = streams.iter();
                all.flat_map(|&s| self.one(Op::Add, self.whole(s), vec![self.whole(*src)]))
                    .collect()
            }
            StepKind::Map { slot, map } => {
                let op = match map {
                    Map::Scale(_) | Map::SoftCap(_) => Op::Scale,
                    Map::Tanh(_) => Op::Tanh,
                };
                self.one(op, self.whole(*slot), vec![self.whole(*slot)])
            }
            StepKind::Add { src, dst, .. }
            | StepKind::Accumulate { src, dst, .. }
            | StepKind::FromExperts { src, dst, .. } => {
                let src = match self.job.plan.slot(*src).per_row {
                    1 => self.whole(*src),
                    n_used => {
                        let cols = 0..self.job.plan.slot(*src).width;
                        Part::Sorted { slot: *src, cols, n_used, each: true }
                    }
                };
                self.one(Op::Add, self.whole(*dst), vec![src, self.whole(*dst)])
            }
            StepKind::Route { logits, router: Router { n_used, .. } } => {
                let chosen = Part::Experts { n_used: *n_used, n: self.job.n_rows(*logits) };
                self.one(Op::TopK, chosen, vec![self.whole(*logits)])
            }
            StepKind::ExpertMatMul { src, mats, dst, .. } => {
                let n_used = self.job.plan.slot(*dst).per_row;
                let n = self.job.n_rows(*dst) / n_used;
                // Before the first product a token's rows are copies of one.
                let each = self.job.plan.slot(*src).name != "expert_in";
                let in_cols = 0..self.job.plan.slot(*src).width;
                let mut first = 0;
                let mut specs = Vec::new();
                for mat in mats {
                    let cols = first..first + mat.n_out;
                    first = cols.end;
                    let src = Part::Sorted { slot: *src, cols: in_cols.clone(), n_used, each };
                    specs.push(Spec {
                        name: self.product_name(mat.weight),
                        op: Op::MulMatId,
                        out: Part::Sorted { slot: *dst, cols, n_used, each: true },
                        sources: vec![Part::Weight(mat.weight), src, Part::Experts { n_used, n }],
                    });
                }
                specs
            }
            StepKind::SkippingFfn(ffn) => self.network(ffn),
            StepKind::SkippingExperts(_)
            | StepKind::StoreKv { .. }
            | StepKind::ToExperts { .. }
            | StepKind::Copy { .. } => Vec::new(),
        }
    }

    /// What llama.cpp calls the product with a weight.
    fn product_name(&self, id: TensorId) -> String {
        let name = weight(self.job, id).name.strip_suffix(".weight").unwrap_or_default();
        let part = name.strip_prefix("blk.").and_then(|n| n.split_once('.')).map(|(_, part)| part);
        let node = match part {
            Some("attn_q") => "Qcur",
            Some("attn_k") => "Kcur",
            Some("attn_v") => "Vcur",
            Some("attn_qkv") => "wqkv",
            Some("attn_output") => "attn_out",
            Some("ffn_down") | Some("ffn_down_t") => "ffn_out",
            Some("ffn_gate_exps") => "ffn_moe_gate",
            Some("ffn_up_exps") => "ffn_moe_up",
            Some("ffn_gate_up_exps") => "ffn_moe_gate_up",
            Some("ffn_down_exps") => "ffn_moe_down",
            Some(part @ ("ffn_gate" | "ffn_up")) => part,
            _ => return self.name.to_owned(),
        };
        with_layer(node, self.name)
    }

    fn products(&self, src: SlotId, mats: &[Mat], dst: SlotId) -> Vec<Spec> {
        let product = |mat: &Mat, columns: &dyn Fn() -> Part| {
            let sources = vec![Part::Weight(mat.weight), self.whole(src)];
            let name = self.product_name(mat.weight);
            Some(Spec { name, op: Op::MulMat, out: columns(), sources })
        };
        // Neighbouring parts of one weight (queries, keys and values) are one product.
        let mut whole: Vec<Mat> = Vec::with_capacity(mats.len());
        for mat in mats {
            match whole.last_mut() {
                Some(last)
                    if last.weight == mat.weight
                        && last.first_row + last.n_out == mat.first_row =>
                {
                    last.n_out += mat.n_out;
                }
                _ => whole.push(*mat),
            }
        }
        side_by_side(&whole, dst, product)
    }

    /// Biases and factors of products.
    fn finished(&self, mats: &[Mat], slot: SlotId) -> Vec<Spec> {
        side_by_side(mats, slot, |mat, columns| {
            let (op, by) = match (mat.bias, mat.scale) {
                (Some(bias), _) => (Op::Add, bias),
                (None, Some(scale)) => (Op::Mul, scale),
                (None, None) => return None,
            };
            let sources = vec![columns(), Part::Weight(by)];
            Some(Spec { name: self.product_name(mat.weight), op, out: columns(), sources })
        })
    }

    /// The nodes of a network that could have skipped neurons, behind the products before it.
    fn network(&self, ffn: &SkippingFfn) -> Vec<Spec> {
        let n_ff = ffn.n_ff;
        let part = |first: usize| Part::Columns {
            slot: ffn.gate_up,
            cols: first..first + n_ff,
            head_dim: n_ff,
        };
        let (node, op, sources) = match ffn.gate {
            Some(_) => (gated_name(ffn.act), Op::Glu(ffn.act), vec![part(0), part(n_ff)]),
            None => ("ffn_act", Op::Unary(ffn.act), vec![part(0)]),
        };
        let name = with_layer(node, self.name);
        let acted = Spec { name, op, out: self.whole(ffn.acted), sources };
        let sources = vec![Part::Weight(ffn.down.weight), self.whole(ffn.acted)];
        let name = with_layer("ffn_out", self.name);
        vec![acted, Spec { name, op: Op::MulMat, out: self.whole(ffn.dst), sources }]
    }
}

/// Nodes of matrices whose products stand side by side.
fn side_by_side(
    mats: &[Mat],
    slot: SlotId,
    spec: impl Fn(&Mat, &dyn Fn() -> Part) -> Option<Spec>,
) -> Vec<Spec> {
    let mut first = 0;
    let mut specs = Vec::with_capacity(mats.len());
    for mat in mats {
        let cols = first..first + mat.n_out;
        first = cols.end;
        let columns = || Part::Columns { slot, cols: cols.clone(), head_dim: mat.n_out };
        specs.extend(spec(mat, &columns));
    }
    specs
}

/// What llama.cpp calls a gated activation.
fn gated_name(act: Activation) -> &'static str {
    match act {
        Activation::Silu | Activation::SwigluOai => "ffn_swiglu",
        Activation::Gelu | Activation::GeluErf | Activation::GeluQuick => "ffn_geglu",
        Activation::Relu | Activation::ReluSquared | Activation::DoubleRelu => "ffn_reglu",
    }
}

fn heads(slot: SlotId, first: usize, n_head: usize, head_dim: usize) -> Part {
    Part::Columns { slot, cols: first..first + n_head * head_dim, head_dim }
}

fn norm_op(norm: &Norm) -> Op {
    match norm.kind {
        NormKind::Rms => Op::RmsNorm,
        NormKind::Layer => Op::Norm,
    }
}
