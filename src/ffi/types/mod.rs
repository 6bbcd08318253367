//! The types that cross the C boundary, with the names, layouts and values of the C headers.
//!
//! Two rules keep invalid values from being undefined behaviour. A C enum arrives as the integer
//! alias `<name>_e` (cbindgen prints it as `enum <name>`) and becomes a Rust enum by `TryFrom`.
//! A C `bool` arrives as [`cbool`]; only results are `bool`.

mod backend;
mod ggml;
mod ggml_enums;
mod gguf;
mod handles;
mod llama;
mod llama_enums;
mod opt;

pub use backend::*;
pub use ggml::*;
pub use ggml_enums::*;
pub use gguf::*;
pub use handles::*;
pub use llama::*;
pub use llama_enums::*;
pub use opt::*;

/// A `bool` from C: 0 is false, anything else is true.
pub type cbool = u8;

/// A number that is no value of the C enum it was passed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is no value of enum {name}")]
pub struct BadEnum {
    /// Name of the enum in C.
    pub name: &'static str,
    /// What was passed.
    pub value: core::ffi::c_int,
}

/// `TryFrom<c_int>` for an enum, from the list of its variants; a forgotten one does not compile.
macro_rules! try_from_int {
    ($name:ident: $($variant:ident),+ $(,)?) => {
        const _: fn($name) = |v| match v {
            $($name::$variant => {})+
        };

        impl TryFrom<core::ffi::c_int> for $name {
            type Error = $crate::ffi::types::BadEnum;

            fn try_from(value: core::ffi::c_int) -> Result<Self, Self::Error> {
                $(if value == Self::$variant as core::ffi::c_int {
                    return Ok(Self::$variant);
                })+
                let name = stringify!($name);
                Err($crate::ffi::types::BadEnum { name, value })
            }
        }
    };
}
pub(super) use try_from_int;
