//! Exclusive views of some columns of a row-major matrix.

use std::marker::PhantomData;
use std::ops::Range;

/// Columns `col0 .. col0 + width` of every row of a row-major matrix, exclusively.
///
/// Several of them over one matrix can live at the same time when their columns do not overlap;
/// that is how threads write one output together.
pub struct ColsMut<'a, T> {
    ptr: *mut T,
    ld: usize,
    col0: usize,
    width: usize,
    n_rows: usize,
    own: PhantomData<&'a mut T>,
}

// SAFETY: a ColsMut is an exclusive view of its elements, like &mut [T].
unsafe impl<T: Send> Send for ColsMut<'_, T> {}

impl<'a, T> ColsMut<'a, T> {
    /// View of columns `cols` of `data`, a matrix with rows of `ld` elements.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows or `cols` leaves a row.
    pub fn new(data: &'a mut [T], ld: usize, cols: Range<usize>) -> Self {
        assert!(cols.start <= cols.end && cols.end <= ld && data.len().is_multiple_of(ld.max(1)));
        let n_rows = data.len() / ld.max(1);
        // SAFETY: data is exclusively borrowed for 'a and covers n_rows rows of ld.
        unsafe { Self::from_raw(data.as_mut_ptr(), ld, cols, n_rows) }
    }

    /// View of columns `cols` of the `n_rows` x `ld` matrix at `ptr`.
    ///
    /// # Safety
    /// The matrix is valid for `'a`, `cols` lies inside a row, and nobody else touches these
    /// columns during `'a`.
    pub unsafe fn from_raw(ptr: *mut T, ld: usize, cols: Range<usize>, n_rows: usize) -> Self {
        Self { ptr, ld, col0: cols.start, width: cols.len(), n_rows, own: PhantomData }
    }

    /// Rows of the matrix.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Columns of the view.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The view's part of row `r`.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline]
    pub fn row(&mut self, r: usize) -> &mut [T] {
        assert!(r < self.n_rows);
        // SAFETY: r is in range, the columns are inside the row (constructor) and exclusively
        // ours; &mut self keeps two rows from being borrowed at once.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(r * self.ld + self.col0), self.width) }
    }

    /// A shorter-lived view of columns `cols` of this view.
    ///
    /// # Panics
    /// When `cols` leaves the view.
    pub fn narrow(&mut self, cols: Range<usize>) -> ColsMut<'_, T> {
        assert!(cols.start <= cols.end && cols.end <= self.width);
        // SAFETY: a part of our exclusive columns, borrowed from self.
        unsafe {
            ColsMut::from_raw(
                self.ptr,
                self.ld,
                self.col0 + cols.start..self.col0 + cols.end,
                self.n_rows,
            )
        }
    }

    /// A shorter-lived view of columns `cols` of rows `rows` of this view.
    ///
    /// # Panics
    /// When `rows` or `cols` leave the view.
    pub fn narrow_rows(&mut self, rows: Range<usize>, cols: Range<usize>) -> ColsMut<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.n_rows);
        let mut part = self.narrow(cols);
        // SAFETY: rows.start is at most n_rows, so the pointer stays inside the matrix or one past.
        part.ptr = unsafe { part.ptr.add(rows.start * part.ld) };
        part.n_rows = rows.len();
        part
    }

    /// Pointer to the view's first element, and the distance between rows in elements.
    /// For kernels, which check sizes through [`Self::n_rows`] and [`Self::width`].
    pub fn as_raw(&mut self) -> (*mut T, usize) {
        // SAFETY: col0 <= ld, so the pointer stays inside the matrix or one past it.
        (unsafe { self.ptr.add(if self.n_rows == 0 { 0 } else { self.col0 }) }, self.ld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_write_their_own_columns() {
        let mut m = vec![0; 12];
        let mut v = ColsMut::new(&mut m, 4, 1..4);
        v.row(2)[0] = 7;
        v.narrow(1..3).row(0).copy_from_slice(&[5, 6]);
        v.narrow_rows(1..2, 0..2).row(0)[1] = 8;
        assert_eq!((v.n_rows(), v.width()), (3, 3));
        assert_eq!(m, [0, 0, 5, 6, 0, 0, 8, 0, 0, 7, 0, 0]);
    }
}
