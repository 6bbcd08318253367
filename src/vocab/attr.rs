//! Attributes of a token: `enum llama_token_attr`.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of attributes; the bits are those of `enum llama_token_attr`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenAttr(u16);

impl TokenAttr {
    /// No attribute: the file's type for the token is unknown.
    pub const UNDEFINED: Self = Self(0);
    /// Stands for text that has no token.
    pub const UNKNOWN: Self = Self(1);
    /// Reserved, never produced.
    pub const UNUSED: Self = Self(2);
    /// An ordinary piece of text.
    pub const NORMAL: Self = Self(4);
    /// Steers the model and has no text of its own (`<|im_end|>`).
    pub const CONTROL: Self = Self(8);
    /// Text that is always a token of its own, also without parsing of special tokens.
    pub const USER_DEFINED: Self = Self(16);
    /// One byte (`<0x0A>`).
    pub const BYTE: Self = Self(32);
    /// Matched on normalised text.
    pub const NORMALIZED: Self = Self(64);
    /// Swallows white space on its left.
    pub const LSTRIP: Self = Self(128);
    /// Swallows white space on its right.
    pub const RSTRIP: Self = Self(256);
    /// Matched only as a whole word.
    pub const SINGLE_WORD: Self = Self(512);

    /// The attribute of a value of `tokenizer.ggml.token_type` (`enum llama_token_type`).
    pub(super) fn of_token_type(token_type: i32) -> Self {
        match token_type {
            1 => Self::NORMAL,
            2 => Self::UNKNOWN,
            3 => Self::CONTROL,
            4 => Self::USER_DEFINED,
            5 => Self::UNUSED,
            6 => Self::BYTE,
            _ => Self::UNDEFINED,
        }
    }

    /// The number that C sees.
    pub fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Is any of `others` set?
    pub fn any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(super) fn set(&mut self, other: Self, on: bool) {
        self.0 = if on { self.0 | other.0 } else { self.0 & !other.0 };
    }
}

impl BitOr for TokenAttr {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for TokenAttr {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for TokenAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenAttr({:#x})", self.0)
    }
}
