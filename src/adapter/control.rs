//! Control vectors: a direction for each layer, added to the state that leaves it.

use std::ops::RangeInclusive;

/// Directions that a context adds to its layers' outputs.
#[derive(Clone, Debug, Default)]
pub struct ControlVector {
    /// `[n_embd, n_layer]`; the first layer's is zero.
    rows: Vec<f32>,
    /// Layers that get theirs; `None` for none.
    layers: Option<RangeInclusive<i32>>,
}

impl ControlVector {
    /// Takes directions, `n_embd` numbers for each layer from the second on, for layers `start` to
    /// `end`, both counted from 0. Layers that `data` ends before keep what they had: at first,
    /// zeros.
    pub fn set(&mut self, n_embd: usize, n_layer: usize, data: &[f32], start: i32, end: i32) {
        self.rows.resize(n_embd * n_layer, 0.0);
        let own = self.rows.chunks_exact_mut(n_embd.max(1)).skip(1);
        for (row, new) in own.zip(data.chunks_exact(n_embd.max(1))) {
            row.copy_from_slice(new);
        }
        self.layers = Some(start..=end);
    }

    /// Takes them away; what was set stays known to the next [`Self::set`].
    pub fn clear(&mut self) {
        self.layers = None;
    }

    /// Whether there is anything to clear.
    pub fn is_set(&self) -> bool {
        self.layers.is_some()
    }

    /// Whether layer `il` gets a direction. The first one never does.
    pub(super) fn acts_on(&self, il: usize) -> bool {
        let wanted = self.layers.as_ref().zip(i32::try_from(il).ok());
        il > 0 && wanted.is_some_and(|(layers, il)| layers.contains(&il))
    }

    /// `[n_embd, n_layer]`
    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_data_leaves_the_rest_and_the_first_layer_has_none() {
        let mut vector = ControlVector::default();
        vector.set(2, 3, &[1.0, 2.0, 3.0, 4.0], 0, 5);
        assert_eq!(vector.rows(), [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!([0, 1, 2].map(|il| vector.acts_on(il)), [false, true, true]);
        vector.set(2, 3, &[7.0, 8.0, 9.0], 2, 2);
        assert_eq!(vector.rows(), [0.0, 0.0, 7.0, 8.0, 3.0, 4.0], "half a row is none");
        assert_eq!([1, 2, 3].map(|il| vector.acts_on(il)), [false, true, false]);
        vector.clear();
        assert!(!vector.acts_on(2));
    }
}
