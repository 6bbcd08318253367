//! Arguments from bytes: mostly plausible, at times hostile.

use std::ffi::{CString, c_char};
use std::ptr;

/// Bytes that are used up argument by argument; when none are left, every argument is 0.
pub struct Args<'a>(pub &'a [u8]);

impl Args<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// True one time in `n`.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.byte() as usize % list.len()]
    }

    /// An index, length, id or enum value: -2 to 13, and sometimes far outside.
    pub fn int(&mut self) -> i32 {
        const FAR: [i32; 12] = [
            i32::MIN,
            i32::MIN + 1,
            -1000,
            31,
            40,
            64,
            96,
            257,
            65_536,
            1 << 30,
            i32::MAX - 1,
            i32::MAX,
        ];
        match self.byte() {
            byte @ 0..=223 => i32::from(byte % 16) - 2,
            byte => FAR[byte as usize % FAR.len()],
        }
    }

    pub fn uint(&mut self) -> u32 {
        self.int() as u32
    }

    /// A size that memory can be had for.
    pub fn small(&mut self) -> usize {
        self.byte() as usize % 80
    }

    /// A bool of C, which need not be 0 or 1.
    pub fn flag(&mut self) -> u8 {
        self.pick(&[0, 1, 1, 0, 2, 255])
    }

    pub fn float(&mut self) -> f32 {
        const FAR: [f32; 10] = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            1e-40,
            -0.0,
            1e9,
            -1.0,
            f32::MIN_POSITIVE,
        ];
        match self.byte() {
            byte @ 0..=199 => f32::from(byte) / 100.0,
            byte => FAR[byte as usize % FAR.len()],
        }
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        let (first, step) = (self.float(), self.float());
        (0..n).map(|i| first + step * i as f32).collect()
    }

    pub fn ints(&mut self, n: usize) -> Vec<i32> {
        (0..n).map(|_| self.int()).collect()
    }

    /// Bytes without an end, mostly text.
    pub fn bytes(&mut self) -> Vec<u8> {
        const TEXTS: [&[u8]; 14] = [
            b"",
            b"the",
            b" and then <|im_end|>\n",
            b"\xff\xfe\x80",
            b"\xe2\x82",
            b"root ::= [a-z]+",
            b"root ::= root | \"a\"",
            b"general.architecture",
            b"chatml",
            b"{{ messages[0].content }}",
            b"%s%n%d",
            b"../\\\"'\t",
            b"blk.0.ffn_up.weight",
            b"(",
        ];
        match self.byte() {
            byte @ 0..=199 => TEXTS[byte as usize % TEXTS.len()].to_vec(),
            _ => {
                let n = (self.byte() as usize % 24).min(self.0.len());
                let (text, rest) = self.0.split_at(n);
                self.0 = rest;
                text.to_vec()
            }
        }
    }

    /// A C string, or NULL.
    pub fn text(&mut self) -> Text {
        if self.one_in(16) {
            return Text(None);
        }
        let mut bytes = self.bytes();
        bytes.retain(|&byte| byte != 0);
        Text(CString::new(bytes).ok())
    }

    /// Room for `self.small()` bytes, and how much of it to tell; or none.
    pub fn room(&mut self) -> Room {
        let bytes = vec![0; self.small()].into_boxed_slice();
        Room { bytes, null: self.one_in(8) }
    }
}

/// A C string that may be NULL.
pub struct Text(pub Option<CString>);

impl Text {
    pub fn ptr(&self) -> *const c_char {
        self.0.as_ref().map_or(ptr::null(), |text| text.as_ptr())
    }
}

/// A buffer of exactly the size that is told, so that a write behind it is seen; or NULL with a
/// size.
pub struct Room {
    bytes: Box<[u8]>,
    null: bool,
}

impl Room {
    pub fn ptr(&mut self) -> *mut c_char {
        if self.null { ptr::null_mut() } else { self.bytes.as_mut_ptr().cast() }
    }
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads `n` values, so that a pointer to less is seen.
///
/// # Safety
/// That is what is tested.
pub unsafe fn touch<T: Copy>(data: *const T, n: usize) {
    if !data.is_null() {
        for i in 0..n {
            // SAFETY: as the library promises.
            std::hint::black_box(unsafe { *data.add(i) });
        }
    }
}
