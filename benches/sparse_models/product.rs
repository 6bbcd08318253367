//! A product of F32 matrices in blocks: what gates of low rank are made by.

/// Columns in a panel, rows in a tile.
const WIDTH: usize = 8;
const HEIGHT: usize = 4;

/// The right factor `[depth, n_cols]`, in panels of a few columns that stay in the first cache.
pub struct Panels {
    depth: usize,
    n_cols: usize,
    /// Panel by panel, row by row; the last panel is filled up with zeros.
    numbers: Vec<[f32; WIDTH]>,
}

impl Panels {
    /// Lays out a matrix that is given by rows.
    pub fn new(matrix: &[f32], n_cols: usize) -> Self {
        let depth = matrix.len() / n_cols;
        let mut numbers = vec![[0.0; WIDTH]; depth * n_cols.div_ceil(WIDTH)];
        for (k, row) in matrix.chunks_exact(n_cols).enumerate() {
            for (panel, part) in row.chunks(WIDTH).enumerate() {
                numbers[panel * depth + k][..part.len()].copy_from_slice(part);
            }
        }
        Self { depth, n_cols, numbers }
    }

    /// `left [n, depth]` times this, into `out [n, n_cols]`; both by rows.
    pub fn multiply(&self, left: &[f32], out: &mut [f32]) {
        let tiles: Vec<Vec<[f32; HEIGHT]>> =
            left.chunks(HEIGHT * self.depth).map(|rows| interleaved(rows, self.depth)).collect();
        for (p, panel) in self.numbers.chunks_exact(self.depth).enumerate() {
            let first = p * WIDTH;
            let n = WIDTH.min(self.n_cols - first);
            for (tile, out) in tiles.iter().zip(out.chunks_mut(HEIGHT * self.n_cols)) {
                let sums = tile_product(tile, panel);
                for (sums, out) in sums.iter().zip(out.chunks_exact_mut(self.n_cols)) {
                    out[first..first + n].copy_from_slice(&sums[..n]);
                }
            }
        }
    }
}

/// Up to [`HEIGHT`] rows, element by element; missing rows are zeros.
fn interleaved(rows: &[f32], depth: usize) -> Vec<[f32; HEIGHT]> {
    let mut tile = vec![[0.0; HEIGHT]; depth];
    for (m, row) in rows.chunks_exact(depth).enumerate() {
        tile.iter_mut().zip(row).for_each(|(t, &x)| t[m] = x);
    }
    tile
}

fn tile_product(tile: &[[f32; HEIGHT]], panel: &[[f32; WIDTH]]) -> [[f32; WIDTH]; HEIGHT] {
    let mut sums = [[0.0; WIDTH]; HEIGHT];
    for (a, b) in tile.iter().zip(panel) {
        for m in 0..HEIGHT {
            for j in 0..WIDTH {
                sums[m][j] += a[m] * b[j];
            }
        }
    }
    sums
}
