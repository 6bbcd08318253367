use crate::quant::QuantType;

/// Rows of a weight matrix as they lie in the model file.
#[derive(Clone, Copy, Debug)]
pub struct WeightRows<'a> {
    /// Number format.
    pub ty: QuantType,
    /// `n_rows` rows of whole blocks.
    pub data: &'a [u8],
    /// Elements of a row.
    pub k: usize,
    /// Rows.
    pub n_rows: usize,
}
