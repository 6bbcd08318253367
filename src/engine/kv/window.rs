//! What a token sees: positions, by the mask and a layer's window.

use std::ops::Range;

use crate::plan::Window;

/// First position that a token at `pos` sees through a window. Grows with `pos`, or stays.
pub fn first_seen(window: Option<Window>, pos: i32) -> i32 {
    let n = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).max(1);
    let first = match window {
        None => 0,
        Some(Window::Sliding(w)) => pos - (n(w) - 1),
        Some(Window::Chunked(w)) => pos / n(w) * n(w),
        Some(Window::Symmetric(w)) => pos - n(w) / 2,
    };
    first.max(0)
}

/// All positions that a token at `pos` sees. Both ends grow with `pos`, or stay.
pub fn seen(window: Option<Window>, causal: bool, pos: i32) -> Range<i32> {
    let end = match window {
        _ if causal => pos + 1,
        Some(Window::Symmetric(w)) => {
            pos.saturating_add(i32::try_from(w / 2).unwrap_or(i32::MAX)).saturating_add(1)
        }
        _ => i32::MAX,
    };
    first_seen(window, pos)..end
}

/// The window of layers whose tokens can be forgotten once all later ones are past them, and how
/// many positions before a token it shows at most.
pub fn forgets(window: Option<Window>) -> Option<(Window, usize)> {
    match window? {
        w @ (Window::Sliding(n) | Window::Chunked(n)) => Some((w, n)),
        Window::Symmetric(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_of_positions() {
        let seen = |w, causal| [0, 3, 4, 9, 10].map(|pos| seen(w, causal, pos));
        assert_eq!(seen(None, true), [0..1, 0..4, 0..5, 0..10, 0..11]);
        assert_eq!(seen(Some(Window::Sliding(4)), true), [0..1, 0..4, 1..5, 6..10, 7..11]);
        assert_eq!(seen(Some(Window::Sliding(1)), true), [0..1, 3..4, 4..5, 9..10, 10..11]);
        assert_eq!(seen(Some(Window::Chunked(5)), true), [0..1, 0..4, 0..5, 5..10, 10..11]);
        assert_eq!(seen(Some(Window::Symmetric(6)), false), [0..4, 0..7, 1..8, 6..13, 7..14]);
        let max = i32::MAX;
        assert_eq!(seen(Some(Window::Sliding(4)), false)[2..4], [1..max, 6..max]);
    }

    #[test]
    fn windows_have_no_bounds_to_overflow() {
        for w in [Window::Sliding, Window::Chunked, Window::Symmetric] {
            for n in [0, 1, usize::MAX] {
                for pos in [0, i32::MAX - 1] {
                    for causal in [true, false] {
                        assert!(seen(Some(w(n)), causal, pos).contains(&pos), "{:?} {pos}", w(n));
                    }
                }
            }
        }
    }
}
