//! Sorting in the very order of libstdc++.
//!
//! llama.cpp sorts candidates with `std::sort` and `std::partial_sort`, which are not stable: where
//! logits are equal, the algorithm itself decides which token comes first, and so which token a
//! seed picks. To be seed-equal these are the textbook algorithms with that library's choices:
//! introsort (Musser 1997; median of three, 16-element runs left to a final insertion sort, depth
//! limit `2 log2 n`) and heap selection with a bottom-up sift (Wegener 1993).
//!
//! `less(a, b)` means "a goes before b". With NaN in the keys the order is unspecified, but every
//! index stays in range.

/// Runs of at most this many elements are left to the final insertion sort.
const RUN: usize = 16;

/// Sorts the whole slice, like `std::sort`.
pub(super) fn sort<T: Copy>(x: &mut [T], less: impl Fn(&T, &T) -> bool + Copy) {
    if x.len() < 2 {
        return;
    }
    introsort(x, 2 * x.len().ilog2(), less);
    insertion_sort(x, less);
}

/// Puts the `n` first elements in order at the front, like `std::partial_sort`.
pub(super) fn partial_sort<T: Copy>(x: &mut [T], n: usize, less: impl Fn(&T, &T) -> bool + Copy) {
    let n = n.min(x.len());
    if n == 0 {
        return;
    }
    let (heap, rest) = x.split_at_mut(n);
    make_heap(heap, less);
    for item in rest {
        if less(item, &heap[0]) {
            let value = std::mem::replace(item, heap[0]);
            sift(heap, 0, value, less);
        }
    }
    for end in (1..n).rev() {
        let value = heap[end];
        heap[end] = heap[0];
        sift(&mut heap[..end], 0, value, less);
    }
}

/// Splits around a median of three until only short runs are out of order.
fn introsort<T: Copy>(mut x: &mut [T], mut depth: u32, less: impl Fn(&T, &T) -> bool + Copy) {
    while x.len() > RUN {
        if depth == 0 {
            let n = x.len();
            return partial_sort(x, n, less);
        }
        depth -= 1;
        let cut = partition(x, less);
        let (left, right) = x.split_at_mut(cut);
        introsort(right, depth, less);
        x = left;
    }
}

/// Moves the median of the second, middle and last element to the front and partitions the rest
/// around it; returns the start of the upper part.
fn partition<T: Copy>(x: &mut [T], less: impl Fn(&T, &T) -> bool + Copy) -> usize {
    let (a, b, c) = (1, x.len() / 2, x.len() - 1);
    let median = if less(&x[a], &x[b]) {
        match (less(&x[b], &x[c]), less(&x[a], &x[c])) {
            (true, _) => b,
            (false, true) => c,
            (false, false) => a,
        }
    } else {
        match (less(&x[a], &x[c]), less(&x[b], &x[c])) {
            (true, _) => a,
            (false, true) => c,
            (false, false) => b,
        }
    };
    x.swap(0, median);
    let pivot = x[0];
    let (mut lo, mut hi) = (1, x.len());
    loop {
        // Both scans end inside the slice: the other two of the three, and later the elements
        // swapped below, are not before (not after) the pivot. That needs only `less` itself.
        while less(&x[lo], &pivot) {
            lo += 1;
        }
        hi -= 1;
        while less(&pivot, &x[hi]) {
            hi -= 1;
        }
        if lo >= hi {
            return lo;
        }
        x.swap(lo, hi);
        lo += 1;
    }
}

/// Ends both sorts. A new minimum goes straight to the front, others sink from the right; for the
/// order of equal keys the two are the same, so one loop does.
fn insertion_sort<T: Copy>(x: &mut [T], less: impl Fn(&T, &T) -> bool + Copy) {
    for i in 1..x.len() {
        let value = x[i];
        let mut hole = i;
        while hole > 0 && less(&value, &x[hole - 1]) {
            x[hole] = x[hole - 1];
            hole -= 1;
        }
        x[hole] = value;
    }
}

fn make_heap<T: Copy>(heap: &mut [T], less: impl Fn(&T, &T) -> bool + Copy) {
    for hole in (0..heap.len() / 2).rev() {
        let value = heap[hole];
        sift(heap, hole, value, less);
    }
}

/// Fills `hole` with `value`: the hole first sinks to a leaf along the larger children, then the
/// value rises from there.
fn sift<T: Copy>(heap: &mut [T], top: usize, value: T, less: impl Fn(&T, &T) -> bool) {
    let mut hole = top;
    loop {
        let right = 2 * hole + 2;
        let child = match heap.len().checked_sub(right) {
            None => break,
            Some(0) => right - 1,
            Some(_) if less(&heap[right], &heap[right - 1]) => right - 1,
            Some(_) => right,
        };
        heap[hole] = heap[child];
        hole = child;
    }
    while hole > top {
        let parent = (hole - 1) / 2;
        if !less(&heap[parent], &value) {
            break;
        }
        heap[hole] = heap[parent];
        hole = parent;
    }
    if let Some(slot) = heap.get_mut(hole) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: usize, distinct: u64) -> Vec<(u64, usize)> {
        let mut state = 1u64;
        (0..n)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) % distinct, i)
            })
            .collect()
    }

    #[test]
    fn sorts_at_every_length() {
        for n in [0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 100, 255, 1000, 5000] {
            for distinct in [1, 2, 7, u64::MAX] {
                let mut x = keys(n, distinct);
                sort(&mut x, |a, b| a.0 > b.0);
                assert!(x.is_sorted_by(|a, b| a.0 >= b.0), "n = {n}, {distinct} keys");
                x.sort_by_key(|k| k.1);
                assert_eq!(x, keys(n, distinct), "a permutation");
            }
        }
    }

    #[test]
    fn partial_sort_agrees_with_sort_on_distinct_keys() {
        for n in [1, 2, 3, 17, 100, 1000] {
            for k in [1, 2, n / 2, n, n + 1] {
                let (mut a, mut b) = (keys(n, u64::MAX), keys(n, u64::MAX));
                sort(&mut a, |a, b| a.0 > b.0);
                partial_sort(&mut b, k, |a, b| a.0 > b.0);
                let k = k.min(n);
                assert_eq!(a[..k], b[..k], "n = {n}, k = {k}");
            }
        }
    }

    #[test]
    fn adversarial_input_reaches_the_heap_fallback_and_is_sorted() {
        // Depth 0 from the start is what an endless run of bad pivots leads to.
        let mut x = keys(200, u64::MAX);
        introsort(&mut x, 0, |a, b| a.0 > b.0);
        assert!(x.is_sorted_by(|a, b| a.0 >= b.0));
    }

    #[test]
    fn nan_keys_stay_in_range() {
        let mut x: Vec<f32> =
            (0..500).map(|i| if i % 3 == 0 { f32::NAN } else { i as f32 }).collect();
        sort(&mut x, |a, b| a > b);
        partial_sort(&mut x, 77, |a, b| a > b);
        assert_eq!(x.iter().filter(|v| v.is_nan()).count(), 167);
    }
}
