//! Matrices that all threads of a pool read or write together.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::runs::is_running;
use super::{ColsMut, Task};
use crate::util::aligned::{AlignedVec, OutOfMemory, Pod};

/// How the tasks of a step share a matrix: blocks of `rows` x `cols`, numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows of a block.
    pub rows: usize,
    /// Columns of a block.
    pub cols: usize,
}

/// Mode bits of the access state: all threads read.
const READ: u64 = 0;
/// Access state before a run's first access; its step number is never reached.
const NO_STEP: u64 = u64::MAX;
/// Owner while a thread hands the matrix from one run to another.
const CHANGING: u64 = u64::MAX;

/// A row-major matrix whose rows are `ld` elements apart.
///
/// Within one step of a pool it is either read or written; see the module's introduction.
pub struct Shared<T: Pod> {
    data: UnsafeCell<AlignedVec<T>>,
    ld: usize,
    /// The run that uses the matrix, or used it last.
    owner: AtomicU64,
    /// Step number in the upper half; lower half [`READ`] or the grid of the writers.
    access: AtomicU64,
}

// SAFETY: `access` lets the tasks of a step either read, or write tiles that are disjoint because
// they come from one grid and task numbers are unique in a step; steps are separated by barriers,
// and `owner` keeps a second run out while one is in progress.
unsafe impl<T: Pod> Sync for Shared<T> {}

impl<T: Pod> Shared<T> {
    /// A zeroed matrix.
    pub fn new(n_rows: usize, ld: usize) -> Result<Self, OutOfMemory> {
        let len = n_rows.checked_mul(ld).ok_or(OutOfMemory { bytes: usize::MAX })?;
        let data = UnsafeCell::new(AlignedVec::try_zeroed(len)?);
        Ok(Self { data, ld, owner: AtomicU64::new(0), access: AtomicU64::new(NO_STEP) })
    }

    /// Makes room for `n_rows`; contents are lost when it has to grow.
    pub fn ensure_rows(&mut self, n_rows: usize) -> Result<(), OutOfMemory> {
        if self.data.get_mut().len() < n_rows.saturating_mul(self.ld) {
            // Freed first: the old and the new buffer need not exist together.
            *self.data.get_mut() = AlignedVec::new();
            *self = Self::new(n_rows, self.ld)?;
        }
        Ok(())
    }

    /// Gives the memory back: it has no rows then.
    pub fn free(&mut self) {
        *self.data.get_mut() = AlignedVec::new();
    }

    /// Elements from one row to the next.
    pub fn ld(&self) -> usize {
        self.ld
    }

    /// Bytes of memory.
    pub fn n_bytes(&mut self) -> usize {
        size_of_val(&**self.data.get_mut())
    }

    /// All elements, outside of a pool's run.
    pub fn get(&mut self) -> &[T] {
        self.data.get_mut()
    }

    /// All elements, outside of a pool's run.
    pub fn get_mut(&mut self) -> &mut [T] {
        self.data.get_mut()
    }

    fn parts(&self) -> (*mut T, usize) {
        // SAFETY: only the vector's own fields are read here, which change under &mut self alone.
        let v = unsafe { &*self.data.get() };
        (v.as_ptr().cast_mut(), v.len())
    }

    /// Makes the matrix this run's, if it is not already.
    ///
    /// # Panics
    /// When another run that uses it is still in progress.
    fn claim_for(&self, run: u64) {
        let mut owner = self.owner.load(Ordering::Acquire);
        while owner != run {
            if owner != CHANGING {
                assert!(!is_running(owner), "two runs use one buffer at the same time");
                let change = self.owner.compare_exchange(
                    owner,
                    CHANGING,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                if change.is_ok() {
                    self.access.store(NO_STEP, Ordering::Release);
                    self.owner.store(run, Ordering::Release);
                    return;
                }
            }
            std::hint::spin_loop();
            owner = self.owner.load(Ordering::Acquire);
        }
    }

    /// Declares an access for the current step.
    ///
    /// # Panics
    /// When the step accesses the matrix in another way.
    fn enter(&self, task: &Task, mode: u64) {
        self.claim_for(task.run());
        let step = task.step();
        let want = u64::from(step) << 32 | mode;
        let old = self.access.load(Ordering::Acquire);
        if old == want {
            return;
        }
        let same_step = |x: u64| (x >> 32) as u32 == step;
        let swapped = !same_step(old)
            && match self.access.compare_exchange(old, want, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(now) => now == want,
            };
        assert!(swapped, "a step uses one buffer in two ways (a bug in the step's code)");
    }

    /// All elements, to read during this task's step.
    pub fn read<'t>(&'t self, task: &'t Task) -> &'t [T] {
        self.enter(task, READ);
        let (ptr, len) = self.parts();
        // SAFETY: in this step everybody reads (enter), and the slice ends with the task.
        unsafe { std::slice::from_raw_parts(ptr, len) }
    }

    /// Rows `rows`, to read during this task's step.
    pub fn read_rows<'t>(&'t self, task: &'t Task, rows: Range<usize>) -> &'t [T] {
        &self.read(task)[rows.start * self.ld..rows.end * self.ld]
    }

    /// This task's tile of the first `n_rows` rows, cut by `grid`, to write.
    /// Returns the tile with the rows and columns that it covers.
    ///
    /// # Panics
    /// When the grid has no such tile, or the step uses the matrix in another way.
    pub fn tile<'t>(&'t self, task: &'t Task, n_rows: usize, grid: Grid) -> Tile<'t, T> {
        let (ptr, len) = self.parts();
        assert!(n_rows * self.ld <= len && grid.rows > 0 && grid.cols > 0);
        // Exact, so that two grids never look alike. More rows than fit mean "all of them".
        let rows = grid.rows.min(n_rows);
        assert!(rows < 1 << 12 || rows == n_rows);
        assert!(grid.cols.min(self.ld) < 1 << 19);
        let row_code = if rows == n_rows { 0 } else { rows as u64 };
        let mode = 1 << 31 | row_code << 19 | grid.cols.min(self.ld) as u64;
        self.enter(task, mode);
        task.claim(std::ptr::from_ref(self).addr());

        let across = self.ld.div_ceil(grid.cols);
        let (block, col) = (task.index() / across, task.index() % across);
        let rows = block * rows..((block + 1) * rows).min(n_rows);
        let cols = col * grid.cols..((col + 1) * grid.cols).min(self.ld);
        assert!(rows.start < rows.end, "task {} has no tile", task.index());
        // SAFETY: the tile lies inside the matrix (asserts), no other task of the step has the
        // same number and thus none shares elements, nobody reads in this step (enter), and this
        // task takes it once (claim).
        let view = unsafe {
            ColsMut::from_raw(ptr.add(rows.start * self.ld), self.ld, cols.clone(), rows.len())
        };
        Tile { view, rows, cols }
    }
}

/// A part of a [`Shared`] matrix that one task writes.
pub struct Tile<'t, T> {
    /// The elements; row 0 is row `rows.start` of the matrix.
    pub view: ColsMut<'t, T>,
    /// Rows of the matrix.
    pub rows: Range<usize>,
    /// Columns of the matrix.
    pub cols: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;

    #[test]
    fn tiles_cover_the_matrix() {
        for n_threads in [1, 3] {
            let mut m = Shared::<u32>::new(7, 10).unwrap();
            let mut pool = Pool::new(n_threads);
            for grid in
                [Grid { rows: 2, cols: 4 }, Grid { rows: 100, cols: 3 }, Grid { rows: 1, cols: 10 }]
            {
                let n = 7usize.div_ceil(grid.rows) * 10usize.div_ceil(grid.cols);
                let total = Shared::<u32>::new(1, 1).unwrap();
                pool.run(&|w| {
                    w.step(n, |t| {
                        let mut tile = m.tile(t, 7, grid);
                        for r in 0..tile.rows.len() {
                            for x in tile.view.row(r) {
                                *x += 1;
                            }
                        }
                    });
                    w.step(1, |t| {
                        total.tile(t, 1, Grid { rows: 1, cols: 1 }).view.row(0)[0] =
                            m.read(t).iter().sum();
                    });
                });
                let mut total = total;
                assert_eq!(total.get(), [70]);
                m.get_mut().fill(0);
            }
        }
    }

    fn panics(f: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
    }

    #[test]
    fn misuse_is_caught() {
        let m = Shared::<f32>::new(4, 4).unwrap();
        let grid = Grid { rows: 1, cols: 4 };
        let mut pool = Pool::new(1);
        // Reading what the step writes.
        assert!(panics(|| pool.run(&|w| w.step(1, |t| {
            let _tile = m.tile(t, 4, grid);
            m.read(t);
        }))));
        // Taking one tile twice.
        assert!(panics(|| pool.run(&|w| w.step(1, |t| {
            let _a = m.tile(t, 4, grid);
            let _b = m.tile(t, 4, grid);
        }))));
        // Two grids in one step.
        assert!(panics(|| pool.run(&|w| w.step(2, |t| {
            m.tile(t, 4, Grid { rows: 1 + t.index(), cols: 4 });
        }))));
        // A task beyond the grid.
        assert!(panics(|| pool.run(&|w| w.step(5, |t| {
            m.tile(t, 4, grid);
        }))));
        // Afterwards all is well.
        pool.run(&|w| w.step(4, |t| m.tile(t, 4, grid).view.row(0).fill(1.0)));
    }
}
