//! Inputs at the very start and end of mapped memory: nothing outside may be touched.
#![allow(unsafe_code, reason = "maps pages that must not be read")]

use super::data::{Pattern, TYPES, activations, weights};
use super::*;

/// `n` bytes in readable pages between two unreadable ones.
pub struct Pages {
    base: *mut u8,
    page: usize,
    readable: usize,
}

impl Pages {
    pub fn new(n: usize) -> Self {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let readable = n.next_multiple_of(page);
        // SAFETY: a fresh anonymous mapping; the readable part lies inside it.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let size = readable + 2 * page;
            let base = libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(base, libc::MAP_FAILED);
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(base.add(page), readable, rw), 0);
            base.cast::<u8>()
        };
        Self { base, page, readable }
    }

    /// Room for `n` values of `T` at the start or the end of the readable part.
    pub fn slice<T: powerinfer::util::aligned::Pod>(&mut self, n: usize, at_end: bool) -> &mut [T] {
        let bytes = n * size_of::<T>();
        assert!(bytes <= self.readable);
        let offset = self.page + if at_end { self.readable - bytes } else { 0 };
        // SAFETY: inside the readable part, aligned because page and n * size are.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(offset).cast(), n) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping that new() made.
        unsafe { libc::munmap(self.base.cast(), self.readable + 2 * self.page) };
    }
}

/// Pages for activations: codes, scales, sums.
pub struct ActPages([Pages; 3]);

impl ActPages {
    pub fn new(act: &Act) -> Self {
        Self([act.q.len(), 4 * act.d.len(), 4 * act.s.len()].map(Pages::new))
    }

    /// A copy of the activations in the pages.
    pub fn guarded(&mut self, act: &Act, at_end: bool) -> ActQ8<'_> {
        let [q_pages, d_pages, s_pages] = &mut self.0;
        let q = q_pages.slice(act.q.len(), at_end);
        let d = d_pages.slice(act.d.len(), at_end);
        let s = s_pages.slice(act.s.len(), at_end);
        q.copy_from_slice(&act.q);
        d.copy_from_slice(&act.d);
        s.copy_from_slice(&act.s);
        ActQ8 { k: act.k, n: act.q.len() / act.k, q, d, s }
    }
}

#[test]
fn nothing_outside_the_inputs_is_touched() {
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        for k in lengths(ty, &[32, 96, 576, 1024]) {
            for n_rows in [1, 7, 15, 16, 17, 33] {
                let source = weights(ty, k, n_rows, Pattern::Random);
                let mut w_pages = Pages::new(source.len());
                for (n, at_end) in [(1, false), (1, true), (5, true), (9, false), (9, true)] {
                    let data = w_pages.slice::<u8>(source.len(), at_end);
                    data.copy_from_slice(&source);
                    let w = WeightRows { ty, data, k, n_rows };

                    let act = Act::new(scalar, k, &activations(k, n, Pattern::Random));
                    let mut pages = ActPages::new(&act);
                    let guarded = pages.guarded(&act, at_end);

                    let expected = mul_mat(scalar, &w, 0..n_rows, &guarded, &mut scratch);
                    let mut y_pages = Pages::new(4 * n * n_rows);
                    for table in tables() {
                        let y = y_pages.slice::<f32>(n * n_rows, at_end);
                        let mut view = ColsMut::new(y, n_rows, 0..n_rows);
                        table.mul_mat_q8(&w, 0..n_rows, &guarded, &mut view, &mut scratch);
                        assert!(y.iter().zip(&expected).all(|(&a, &b)| same(a, b)));
                    }
                }
            }
        }
    }
}

/// Listed rows fill readable pages to their start or end; the rows before and after them are in
/// pages that nobody may read.
#[test]
fn rows_outside_of_the_list_are_not_touched() {
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        for k in lengths(ty, &[32, 576]) {
            let row_bytes = ty.row_bytes(k as u64).unwrap() as usize;
            let source = weights(ty, k, 17, Pattern::Random);
            let mut pages = Pages::new(source.len());
            let (before, n_before) = (pages.page / row_bytes * row_bytes, pages.page / row_bytes);
            for (n, n_listed, at_end) in
                [(1, 17, false), (1, 17, true), (2, 3, true), (9, 17, true)]
            {
                let readable = pages.slice::<u8>(n_listed * row_bytes, at_end);
                readable.copy_from_slice(&source[..n_listed * row_bytes]);
                let start = readable.as_ptr().wrapping_sub(before);
                // As many unreadable rows behind as before.
                let n_rows = n_before + n_listed + n_before;
                // SAFETY: all of it is mapped; what cannot be read is not to be read.
                let data = unsafe { std::slice::from_raw_parts(start, n_rows * row_bytes) };
                let w = WeightRows { ty, data, k, n_rows };
                let ids: Vec<u32> = (n_before..n_before + n_listed).map(|id| id as u32).collect();
                let alone = WeightRows { ty, data: &source, k, n_rows: 17 };
                let act = Act::new(scalar, k, &activations(k, n, Pattern::Random));
                let act = act.tokens(0..n);
                let expected = mul_mat(scalar, &alone, 0..n_listed, &act, &mut scratch);
                for table in tables() {
                    let mut y = vec![0.0; n * n_listed];
                    let mut view = ColsMut::new(&mut y, n_listed, 0..n_listed);
                    table.mul_mat_q8_listed(&w, &ids, &act, &mut view, &mut scratch);
                    assert!(y.iter().zip(&expected).all(|(&a, &b)| same(a, b)));
                }
            }
        }
    }
}

#[test]
fn quantise_stays_inside() {
    for k in [32, 64, 1024] {
        for at_end in [false, true] {
            let mut pages = [4 * k, k, k / 8, k / 8].map(Pages::new);
            let [x_pages, q_pages, d_pages, s_pages] = &mut pages;
            let x = x_pages.slice::<f32>(k, at_end);
            x.copy_from_slice(&activations(k, 1, Pattern::Random));
            let q = q_pages.slice(k, at_end);
            let d = d_pages.slice(k / 32, at_end);
            let s = s_pages.slice(k / 32, at_end);
            for table in tables() {
                table.quantize_q8(x, q, d, s);
            }
        }
    }
}
