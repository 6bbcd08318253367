//! Scores of pooled embeddings.

use super::outputs::Outputs;
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::ColsMut;
use crate::backend::cpu::table::{ActF32, WeightRows};
use crate::model::Model;
use crate::plan::{Classifier, Mat, TensorId};
use crate::util::aligned::AlignedVec;
use crate::util::bytes;

/// Puts the scores in place of every pooled embedding. A few products of one vector, in f32.
pub(super) fn classify(
    classifier: &Classifier,
    model: &Model,
    table: &KernelTable,
    outputs: &mut Outputs,
) {
    let head = Head { model, table };
    for x in outputs.pooled_mut() {
        if let Some(dense) = &classifier.dense {
            *x = head.product(dense, x);
            x.iter_mut().for_each(|x| *x = x.tanh());
        }
        if let Some(out) = &classifier.out {
            *x = head.product(out, x);
        }
        // A head without its last matrix can be wider.
        x.resize(classifier.n_out, 0.0);
        if classifier.softmax {
            softmax(x);
        }
    }
}

struct Head<'a> {
    model: &'a Model,
    table: &'a KernelTable,
}

impl<'a> Head<'a> {
    fn vector(&self, id: TensorId) -> &'a [f32] {
        let data = self.model.weight(id).data.as_deref().unwrap_or(&[]);
        bytes::cast(data).expect("the plan takes F32 only, the file aligns tensors")
    }

    fn product(&self, mat: &Mat, x: &[f32]) -> Vec<f32> {
        let weight = self.model.weight(mat.weight);
        let rows = WeightRows {
            ty: weight.ty,
            data: weight.data.as_deref().unwrap_or(&[]),
            k: x.len(),
            n_rows: mat.n_out,
        };
        let mut y = vec![0.0; mat.n_out];
        let act = ActF32 { k: x.len(), n: 1, x };
        let mut view = ColsMut::new(&mut y, mat.n_out, 0..mat.n_out);
        self.table.mul_mat_f32(&rows, 0..mat.n_out, &act, &mut view, &mut AlignedVec::new());
        if let Some(scale) = mat.scale {
            self.table.scale(self.vector(scale)[0], &mut y);
        }
        if let Some(bias) = mat.bias {
            self.table.add(self.vector(bias), &mut y);
        }
        y
    }
}

fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}
