//! The points that codes of IQ1, IQ2 and IQ3 blocks index, and the signs.
//!
//! `grids.bin` holds them one after the other as 16-bit little-endian words, a word for a point:
//! 2 bits for each of 8 coordinates, or 4 bits for each of 4, the first in the lowest bits. Each
//! coordinate indexes the few levels of its grid. Here they are unpacked while compiling, a byte
//! per coordinate, the first in the lowest byte, as table look-ups of kernels want them.
//!
//! The choice of points is data of the formats and follows no formula; `grids.bin` was made from
//! the `gguf` Python package by `tests/goldens/gen_quant_reference.py`.

static PACKED: &[u8; 2 * 4608] = include_bytes!("grids.bin");

/// 8 magnitudes of 8, 25 or 43.
pub static IQ2_XXS: [u64; 256] = eights(0, [8, 25, 43, 0]);
/// 8 magnitudes of 8, 25 or 43.
pub static IQ2_XS: [u64; 512] = eights(256, [8, 25, 43, 0]);
/// 8 magnitudes of 8, 25 or 43.
pub static IQ2_S: [u64; 1024] = eights(768, [8, 25, 43, 0]);
/// 4 magnitudes of 4..=62.
pub static IQ3_XXS: [u32; 256] = fours(1792, [4, 12, 20, 28, 36, 44, 52, 62]);
/// 4 odd magnitudes of 1..=15.
pub static IQ3_S: [u32; 512] = fours(2048, [1, 3, 5, 7, 9, 11, 13, 15]);
/// 8 signed bytes of -1, 0 or 1; for IQ1_S and IQ1_M.
pub static IQ1: [u64; 2048] = eights(2560, [-1i8 as u8, 0, 1, 0]);

/// The 8 signs that the lowest 7 bits stand for: the eighth makes the number of negative ones even.
pub fn even_signs(seven: u32) -> u8 {
    static SIGNS: [u8; 128] = {
        let mut signs = [0; 128];
        let mut i = 0;
        while i < 128 {
            signs[i] = i as u8 | (((i as u32).count_ones() as u8 & 1) << 7);
            i += 1;
        }
        signs
    };
    SIGNS[(seven & 127) as usize]
}

/// A byte of ones for each bit that is set, the lowest bit first.
pub(super) static BYTES_OF_BITS: [u64; 256] = {
    let mut bytes = [0; 256];
    let mut i = 0;
    while i < 256 * 8 {
        if (i / 8) >> (i % 8) & 1 == 1 {
            bytes[i / 8] |= 0xff << (8 * (i % 8));
        }
        i += 1;
    }
    bytes
};

const fn eights<const N: usize>(start: usize, levels: [u8; 4]) -> [u64; N] {
    let mut points = [0; N];
    let mut i = 0;
    while i < N {
        let word = word(start + i);
        let mut j = 0;
        while j < 8 {
            let level = (word >> (2 * j)) & 3;
            assert!(level < 3, "no such level");
            points[i] |= (levels[level as usize] as u64) << (8 * j);
            j += 1;
        }
        i += 1;
    }
    points
}

const fn fours<const N: usize>(start: usize, levels: [u8; 8]) -> [u32; N] {
    let mut points = [0; N];
    let mut i = 0;
    while i < N {
        let word = word(start + i);
        let mut j = 0;
        while j < 4 {
            let level = (word >> (4 * j)) & 15;
            points[i] |= (levels[level as usize] as u32) << (8 * j); // checks the level
            j += 1;
        }
        i += 1;
    }
    points
}

/// Levels of the points of IQ2_XXS.
pub(super) fn iq2_xxs_levels() -> Vec<[u8; 8]> {
    (0..256).map(eight_levels).collect()
}

/// Levels of the points of IQ2_XS.
pub(super) fn iq2_xs_levels() -> Vec<[u8; 8]> {
    (256..768).map(eight_levels).collect()
}

/// Levels of the points of IQ2_S.
pub(super) fn iq2_s_levels() -> Vec<[u8; 8]> {
    (768..1792).map(eight_levels).collect()
}

/// Levels of the points of IQ3_XXS.
pub(super) fn iq3_xxs_levels() -> Vec<[u8; 4]> {
    (1792..2048).map(four_levels).collect()
}

/// Levels of the points of IQ3_S.
pub(super) fn iq3_s_levels() -> Vec<[u8; 4]> {
    (2048..2560).map(four_levels).collect()
}

/// Levels of the points of IQ1_S and IQ1_M: 0 for -1, 2 for 1.
pub(super) fn iq1_levels() -> Vec<[u8; 8]> {
    (2560..4608).map(eight_levels).collect()
}

fn four_levels(i: usize) -> [u8; 4] {
    std::array::from_fn(|k| (word(i) >> (4 * k) & 15) as u8)
}

fn eight_levels(i: usize) -> [u8; 8] {
    std::array::from_fn(|k| (word(i) >> (2 * k) & 3) as u8)
}

const fn word(i: usize) -> u16 {
    u16::from_le_bytes([PACKED[2 * i], PACKED[2 * i + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_even() {
        for bits in 0..=255 {
            assert_eq!(u32::from(even_signs(bits)) & 127, bits & 127);
            assert!(even_signs(bits).count_ones().is_multiple_of(2));
        }
    }

    /// No point twice: a table that was cut at the wrong place would have some.
    #[test]
    fn points_differ() {
        fn all_differ<T: Ord + Copy>(points: &[T]) -> bool {
            let mut sorted = points.to_vec();
            sorted.sort_unstable();
            sorted.windows(2).all(|w| w[0] < w[1])
        }
        assert!(all_differ(&IQ2_XXS) && all_differ(&IQ2_XS) && all_differ(&IQ2_S));
        assert!(all_differ(&IQ3_XXS) && all_differ(&IQ3_S) && all_differ(&IQ1));
    }
}
