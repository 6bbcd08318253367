//! Shapes of tensors, in the order of the GGUF format: `ne[0]` is the contiguous dimension; and
//! the activation functions that plans name and backends compute.

mod activation;

use std::fmt;

pub use activation::Activation;

/// Most dimensions that a tensor can have.
pub const MAX_DIMS: usize = 4;

/// Extents of a tensor; unused dimensions are 1. The number of elements fits in `u64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    ne: [u64; MAX_DIMS],
    n_dims: usize,
}

impl Shape {
    /// Takes 1 to 4 extents; `None` when there are more, none, or their product overflows `i64`.
    pub fn new(dims: &[u64]) -> Option<Self> {
        if dims.is_empty() || dims.len() > MAX_DIMS {
            return None;
        }
        // Zeros do not count, so that the product of any of the extents fits.
        let product = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1)))?;
        i64::try_from(product).ok()?;
        let mut ne = [1; MAX_DIMS];
        ne[..dims.len()].copy_from_slice(dims);
        Some(Self { ne, n_dims: dims.len() })
    }

    /// Extents, always four.
    pub fn ne(&self) -> &[u64; MAX_DIMS] {
        &self.ne
    }

    /// The extents as they were given.
    pub fn dims(&self) -> &[u64] {
        &self.ne[..self.n_dims]
    }

    /// Number of elements.
    pub fn n_elements(&self) -> u64 {
        self.ne.iter().product()
    }

    /// Number of rows: the product of all dimensions but the first.
    pub fn n_rows(&self) -> u64 {
        self.ne[1..].iter().product()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dims()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_that_overflow_are_refused() {
        assert!(Shape::new(&[1 << 32, 1 << 31]).is_none());
        assert!(Shape::new(&[u64::MAX, 2]).is_none());
        assert!(Shape::new(&[]).is_none());
        assert!(Shape::new(&[1; 5]).is_none());
        assert!(Shape::new(&[0, 1 << 40, 1 << 40]).is_none());
        let s = Shape::new(&[576, 49152]).unwrap();
        assert_eq!(
            (s.n_elements(), s.n_rows(), s.to_string()),
            (28_311_552, 49152, "[576, 49152]".into())
        );
    }
}
