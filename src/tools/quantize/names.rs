//! Layers in names of tensors: `blk.12.attn_q.weight`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

const PREFIX: &str = "blk.";

/// Where the first number between `blk.` and a dot stands.
pub(super) fn layer_range(name: &str) -> Option<Range<usize>> {
    name.match_indices(PREFIX).find_map(|(at, _)| {
        let start = at + PREFIX.len();
        let n = name[start..].bytes().take_while(u8::is_ascii_digit).count();
        let whole = n > 0 && name[start + n..].starts_with('.');
        whole.then_some(start..start + n)
    })
}

/// The layer at the beginning of a name.
pub(super) fn layer(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let n = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..n].parse().ok()
}

/// The order in which tensors are written: what belongs to no layer, then the layers.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    layer(a).cmp(&layer(b)).then_with(|| a.cmp(b))
}

/// Layers that are left out, and the numbers of those after them.
pub(super) struct Pruning {
    /// Ascending.
    layers: Vec<u32>,
    /// Numbers of the layers that stay, by their old ones.
    kept: BTreeMap<u32, u32>,
    next: u32,
}

impl Pruning {
    pub(super) fn new(layers: &[u32]) -> Self {
        let mut layers = layers.to_vec();
        layers.sort_unstable();
        layers.dedup();
        Self { layers, kept: BTreeMap::new(), next: 0 }
    }

    /// The new name of a tensor, `None` for one that is left out. Names come in [`order`].
    pub(super) fn rename(&mut self, name: &str) -> Option<String> {
        let digits = layer_range(name).filter(|_| !self.layers.is_empty());
        let Some((digits, old)) =
            digits.and_then(|range| Some((range.clone(), name[range].parse().ok()?)))
        else {
            return Some(name.to_owned());
        };
        if self.layers.binary_search(&old).is_ok() {
            return None;
        }
        let new = *self.kept.entry(old).or_insert_with(|| {
            // Those before the first that is left out keep their numbers, whatever these are.
            let new = if old < self.layers[0] { old } else { self.next };
            self.next = new.saturating_add(1);
            new
        });
        Some(format!("{}{new}{}", &name[..digits.start], &name[digits.end..]))
    }

    /// Whether any layer is left out.
    pub(super) fn is_wanted(&self) -> bool {
        !self.layers.is_empty()
    }

    pub(super) fn leaves_out(&self, layer: u32) -> bool {
        self.layers.binary_search(&layer).is_ok()
    }

    /// The layers that the caller named.
    pub(super) fn layers(&self) -> &[u32] {
        &self.layers
    }

    /// Number of layers after all names were seen.
    pub(super) fn n_layer(&self) -> u32 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_come_after_the_rest_and_by_number() {
        let mut names = ["blk.10.a", "token_embd", "blk.2.b", "blk.2.a", "output", "blk.x.a"];
        names.sort_by(|a, b| order(a, b));
        assert_eq!(names, ["blk.x.a", "output", "token_embd", "blk.2.a", "blk.2.b", "blk.10.a"]);
    }

    #[test]
    fn the_layers_that_stay_close_up() {
        let mut pruning = Pruning::new(&[3, 1, 3]);
        let names = ["output", "blk.0.a", "blk.1.a", "blk.2.a", "blk.2.b", "blk.3.a", "blk.4.a"];
        let renamed: Vec<_> = names.iter().map(|n| pruning.rename(n)).collect();
        let expected = [
            Some("output"),
            Some("blk.0.a"),
            None,
            Some("blk.1.a"),
            Some("blk.1.b"),
            None,
            Some("blk.2.a"),
        ];
        assert_eq!(renamed, expected.map(|n| n.map(str::to_owned)));
        assert_eq!(pruning.n_layer(), 3);
    }

    #[test]
    fn numbers_that_are_none_are_no_layers() {
        assert_eq!(layer_range("blk.12.attn_q.weight"), Some(4..6));
        assert_eq!(layer_range("v.blk.7.x"), Some(6..7));
        assert_eq!(layer_range("blk.12"), None);
        assert_eq!(layer_range("blk..x"), None);
        assert_eq!(layer("blk.99999999999.x"), None);
    }
}
