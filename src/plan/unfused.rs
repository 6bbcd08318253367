//! The same plan in small steps, for programs that look at every one of them.
//!
//! What the engine does at once because that is faster (a norm and its weights, a product and its
//! bias, the sum with the residual stream, rotation while keys are stored) becomes a step each, as
//! llama.cpp's graph has a node each. The results are the same up to the rounding of sums.

use super::{
    Down, LowRank, Mat, Norm, Plan, RowOf, Rows, SkippingExperts, SkippingFfn, Slot, SlotId, Step,
    StepKind, TensorId,
};

impl Plan {
    /// The plan in small steps. Buffers keep their numbers; more come after them.
    pub fn unfused(&self) -> Self {
        let mut out = Self { steps: Vec::new(), ..self.clone() };
        // Queries and keys are rotated in a step of their own.
        out.layers.iter_mut().for_each(|layer| layer.rope = None);
        // llama.cpp projects attention of all tokens before it picks those that are asked for.
        let mut picked = None;
        for step in &self.steps {
            match &step.kind {
                StepKind::Copy { src, dst } if out.picks_attention(*src, *dst) => {
                    picked = Some((*src, *dst));
                    out.steps.push(step.clone()); // adapters read it too
                }
                StepKind::MatMul { src, mats, dst, add }
                    if picked.is_some_and(|(_, dst)| dst == *src) =>
                {
                    let (all, _) = picked.take().expect("just looked at");
                    out.product_then_pick(&step.name, all, mats, *dst, *add);
                }
                _ => out.unfuse(self, step),
            }
        }
        out
    }

    fn picks_attention(&self, src: SlotId, dst: SlotId) -> bool {
        let (src, dst) = (self.slot(src), self.slot(dst));
        src.name == "attn" && (src.rows, dst.rows) == (Rows::Tokens, Rows::Outputs)
    }

    fn product_then_pick(
        &mut self,
        name: &str,
        src: SlotId,
        mats: &[Mat],
        dst: SlotId,
        add: Option<f32>,
    ) {
        let width = self.slot(dst).width;
        self.slots.push(Slot { per_row: 1, name: "unfused_all", width, rows: Rows::Tokens });
        let all = SlotId(self.slots.len() - 1);
        self.products(name, src, mats, all, None);
        let Some(scale) = add else {
            return self.push("inp_out_ids", StepKind::Copy { src: all, dst });
        };
        let out = self.slot_like("unfused_product", dst);
        self.push("inp_out_ids", StepKind::Copy { src: all, dst: out });
        self.push(name, StepKind::Accumulate { src: out, scale, dst });
    }

    fn push(&mut self, name: impl Into<String>, kind: StepKind) {
        self.steps.push(Step { name: name.into(), kind });
    }

    /// A buffer of this name with the shape of another.
    fn slot_like(&mut self, name: &'static str, like: SlotId) -> SlotId {
        let slot = Slot { name, ..self.slots[like.0].clone() };
        let known = self.slots.iter().position(|s| *s == slot);
        SlotId(known.unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        }))
    }

    fn unfuse(&mut self, fused: &Self, step: &Step) {
        let name = step.name.as_str();
        match &step.kind {
            StepKind::Norm { src, norm, dst, add: false } => self.norm(name, *src, norm, *dst),
            StepKind::Norm { src, norm, dst, add: true } => {
                let normed = self.slot_like("unfused_normed", *dst);
                self.norm(&with_layer("post_norm", name), *src, norm, normed);
                let kind = StepKind::Accumulate { src: normed, scale: 1.0, dst: *dst };
                self.push(name, kind);
            }
            StepKind::MatMul { src, mats, dst, add } => {
                self.products(name, *src, mats, *dst, *add);
            }
            StepKind::StoreKv { layer, qkv } => {
                self.rotate(fused, *layer, *qkv, true);
                self.steps.push(step.clone());
            }
            StepKind::Attend { layer, qkv, .. } => {
                if fused.layers[*layer].kv_of.is_some() {
                    self.rotate(fused, *layer, *qkv, false);
                }
                self.steps.push(step.clone());
            }
            StepKind::SkippingFfn(ffn) => self.network(name, ffn),
            StepKind::SkippingExperts(experts) => self.experts(name, experts),
            _ => self.steps.push(step.clone()),
        }
    }

    /// A norm, then its factors, then its summands.
    fn norm(&mut self, name: &str, src: SlotId, norm: &Norm, dst: SlotId) {
        let plain = Norm { weight: None, bias: None, ..*norm };
        let step = |dst| StepKind::Norm { src, norm: plain, dst, add: false };
        match (norm.weight, norm.bias) {
            (None, _) => self.push(name, step(dst)),
            (Some(factors), bias) => {
                let plain = self.slot_like("unfused_norm", dst);
                self.push(with_layer("norm", name), step(plain));
                match bias {
                    None => self.push(name, StepKind::Multiply { src: plain, factors, dst }),
                    Some(bias) => self.factors_and_bias(name, plain, factors, bias, dst),
                }
            }
        }
    }

    fn factors_and_bias(
        &mut self,
        name: &str,
        src: SlotId,
        factors: TensorId,
        bias: TensorId,
        dst: SlotId,
    ) {
        // A sum is made in a buffer of floats alone; the copy has the formats that readers want.
        let sum = self.slot_like("unfused_sum", dst);
        self.push(with_layer("norm_w", name), StepKind::Multiply { src, factors, dst: sum });
        let (row, scale) = (RowOf::Fixed(0), 1.0);
        self.push(name, StepKind::AddRow { table: bias, row, scale, dst: sum });
        self.push("", StepKind::Copy { src: sum, dst });
    }

    /// Products, then their factors and biases, then the sum.
    fn products(&mut self, name: &str, src: SlotId, mats: &[Mat], dst: SlotId, add: Option<f32>) {
        let out = if add.is_some() { self.slot_like("unfused_product", dst) } else { dst };
        let plain = mats.iter().map(|mat| Mat { scale: None, bias: None, ..*mat }).collect();
        self.push(name, StepKind::MatMul { src, mats: plain, dst: out, add: None });
        if mats.iter().any(|mat| mat.scale.is_some() || mat.bias.is_some()) {
            self.push(name, StepKind::FinishProducts { mats: mats.to_vec(), slot: out });
        }
        if let Some(scale) = add {
            self.push(name, StepKind::Accumulate { src: out, scale, dst });
        }
    }

    fn rotate(&mut self, fused: &Self, layer: usize, slot: SlotId, keys: bool) {
        let spec = &fused.layers[layer];
        let Some(rope) = spec.rope else { return };
        let parts = [("Qcur", 0, spec.n_head), ("Kcur", spec.n_embd_q(), spec.n_head_kv)];
        for (node, first, n_head) in parts.into_iter().take(1 + usize::from(keys)) {
            let head_dim = spec.head_dim_k;
            let kind = StepKind::Rotate { slot, first, n_head, head_dim, rope };
            self.push(format!("{node}-{layer}"), kind);
        }
    }

    /// A network's products, then the rest of it, its factor and bias, the sum. What adapters add
    /// comes behind each product.
    fn network(&mut self, name: &str, ffn: &SkippingFfn) {
        self.products(name, ffn.src, &ffn.inputs(), ffn.gate_up, None);
        if let Some(LowRank { a, hidden, b }) = &ffn.adapted_in {
            self.products("", ffn.src, &[*a], *hidden, None);
            self.products("", *hidden, b, ffn.gate_up, Some(1.0));
        }
        let mat = ffn.down.mat(self.slot(ffn.dst).width);
        let out = if ffn.add { self.slot_like("unfused_product", ffn.dst) } else { ffn.dst };
        let rest = SkippingFfn {
            fed: true,
            add: false,
            scale: 1.0,
            dst: out,
            down: Down { scale: None, bias: None, ..ffn.down },
            adapted_in: None,
            adapted_out: None,
            ..ffn.clone()
        };
        self.push(with_layer("ffn_out", name), StepKind::SkippingFfn(Box::new(rest)));
        if mat.scale.is_some() || mat.bias.is_some() {
            self.push(name, StepKind::FinishProducts { mats: vec![mat], slot: out });
        }
        if ffn.add {
            let kind = StepKind::Accumulate { src: out, scale: ffn.scale, dst: ffn.dst };
            self.push(name, kind);
        }
        if let Some(LowRank { a, hidden, b }) = &ffn.adapted_out {
            self.products("", ffn.acted, &[*a], *hidden, None);
            self.products("", *hidden, b, ffn.dst, Some(1.0));
        }
    }

    fn experts(&mut self, name: &str, experts: &SkippingExperts) {
        let SkippingExperts { src, gate, up, down, act, gate_up, acted, dst, .. } = *experts;
        let product = |src, mats, dst, add| StepKind::ExpertMatMul { src, mats, dst, add };
        self.push(
            with_layer("ffn_moe_gate_up", name),
            product(src, vec![gate, up], gate_up, false),
        );
        if let Some(added) = &experts.adapted_in {
            self.push("", product(src, vec![added.a], added.hidden, false));
            self.push("", product(added.hidden, added.b.clone(), gate_up, true));
        }
        let kind = StepKind::Activate { src: gate_up, act, gated: true, dst: acted };
        self.push(with_layer("ffn_moe_act", name), kind);
        self.push(name, product(acted, vec![down], dst, false));
        if let Some(added) = &experts.adapted_out {
            self.push("", product(acted, vec![added.a], added.hidden, false));
            self.push("", product(added.hidden, added.b.clone(), dst, true));
        }
    }
}

/// `node` with the layer number that `like` ends in, if it has one.
pub(crate) fn with_layer(node: &str, like: &str) -> String {
    match like.rsplit_once('-') {
        Some((_, layer)) if layer.parse::<usize>().is_ok() => format!("{node}-{layer}"),
        _ => node.to_owned(),
    }
}
