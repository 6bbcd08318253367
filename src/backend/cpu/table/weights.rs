//! Weight matrices as kernels see them: rows of quantised blocks.

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
}
