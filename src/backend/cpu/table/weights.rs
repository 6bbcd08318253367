//! Weight matrices as kernels see them: rows of quantised blocks.

use std::ops::Range;

use crate::quant::QuantType;

/// A weight matrix, rows without gaps between them.
#[derive(Clone, Copy, Debug)]
pub struct WeightRows<'a> {
    /// Number format of the weights.
    pub ty: QuantType,
    /// The rows' bytes; needs no alignment.
    pub data: &'a [u8],
    /// Elements of a row: the K of the product.
    pub k: usize,
    /// Rows: outputs of the product.
    pub n_rows: usize,
}

impl WeightRows<'_> {
    /// Bytes of a row.
    ///
    /// # Panics
    /// When a row is not a whole number of blocks, or `data` does not hold `n_rows` of them.
    pub fn row_bytes(&self) -> usize {
        let bytes = self.ty.row_bytes(self.k as u64).and_then(|bytes| usize::try_from(bytes).ok());
        let Some(bytes) = bytes else {
            panic!("rows of {} {} elements are not whole blocks", self.k, self.ty);
        };
        assert!(
            bytes.checked_mul(self.n_rows).is_some_and(|all| all <= self.data.len()),
            "{} rows of {bytes} bytes do not fit into {} bytes of weights",
            self.n_rows,
            self.data.len()
        );
        bytes
    }

    /// A part of the rows.
    ///
    /// # Panics
    /// As [`Self::row_bytes`]; when there are no such rows.
    pub(super) fn rows(&self, rows: Range<usize>) -> SomeRows<'_> {
        let (row_bytes, n_rows) = (self.row_bytes(), self.n_rows);
        assert!(
            rows.start <= rows.end && rows.end <= n_rows,
            "rows {rows:?} of a matrix of {n_rows}"
        );
        let data = &self.data[rows.start * row_bytes..rows.end * row_bytes];
        SomeRows { ty: self.ty, data, row_bytes, k: self.k, n_rows: rows.len(), ids: None }
    }

    /// The rows of a list.
    ///
    /// # Panics
    /// As [`Self::row_bytes`]; when there is no row of an id.
    pub(super) fn listed<'a>(&'a self, ids: &'a [u32]) -> SomeRows<'a> {
        let (row_bytes, n_rows) = (self.row_bytes(), self.n_rows);
        let last = ids.iter().max().map_or(0, |&id| id as usize);
        assert!(ids.is_empty() || last < n_rows, "row {last} of a matrix of {n_rows}");
        let (ty, data, k) = (self.ty, self.data, self.k);
        SomeRows { ty, data, row_bytes, k, n_rows: ids.len(), ids: Some(ids) }
    }
}

/// Rows of a [`WeightRows`] that a product is made of; they exist.
pub(super) struct SomeRows<'a> {
    pub(super) ty: QuantType,
    pub(super) data: &'a [u8],
    pub(super) row_bytes: usize,
    pub(super) k: usize,
    /// How many.
    pub(super) n_rows: usize,
    /// Which; without a list the first ones.
    pub(super) ids: Option<&'a [u32]>,
}
