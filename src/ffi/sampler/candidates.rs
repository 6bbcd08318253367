//! Candidates of C as candidates of Rust, and back.

use crate::ffi::types::{cbool, llama_token_data, llama_token_data_array};
use crate::log_error;
use crate::sampler::{Candidates, TokenData};

// The two are the same memory.
const _: () = {
    assert!(size_of::<TokenData>() == size_of::<llama_token_data>());
    assert!(align_of::<TokenData>() == align_of::<llama_token_data>());
    assert!(
        core::mem::offset_of!(TokenData, id) == core::mem::offset_of!(llama_token_data, id)
            && core::mem::offset_of!(TokenData, logit)
                == core::mem::offset_of!(llama_token_data, logit)
            && core::mem::offset_of!(TokenData, p) == core::mem::offset_of!(llama_token_data, p)
    );
};

/// The candidates that a C array describes; `None`, with a line in the log, when it cannot be one.
///
/// # Safety
/// `data` is NULL or valid for `size` rows, and nothing else uses them during `'a`.
pub(super) unsafe fn from_c<'a>(array: &llama_token_data_array) -> Option<Candidates<'a>> {
    let data = array.data.cast::<TokenData>();
    let rows: &mut [TokenData] = if array.size == 0 {
        &mut []
    } else if data.is_null() || !data.is_aligned() || array.size > MAX_ROWS {
        log_error!("token data array: {} rows at {data:?} are no memory", array.size);
        return None;
    } else {
        // SAFETY: valid for size rows by contract; not NULL, aligned and within isize::MAX bytes.
        unsafe { core::slice::from_raw_parts_mut(data, array.size) }
    };
    let selected = usize::try_from(array.selected).ok();
    Some(Candidates::with_marks(rows, selected, array.sorted != 0))
}

const MAX_ROWS: usize = isize::MAX as usize / size_of::<TokenData>();

/// The C array that describes these candidates.
pub(super) fn to_c(candidates: &mut Candidates<'_>) -> llama_token_data_array {
    llama_token_data_array {
        data: candidates.as_mut_ptr().cast(),
        size: candidates.len(),
        selected: candidates.selected().and_then(|i| i64::try_from(i).ok()).unwrap_or(-1),
        sorted: cbool::from(candidates.is_sorted()),
    }
}

/// Runs `work` on the candidates of `array`, and writes back what it made of them.
///
/// # Safety
/// `array` is NULL or valid, and so is the memory that it describes.
pub(super) unsafe fn edit(
    array: *mut llama_token_data_array,
    work: impl FnOnce(&mut Candidates<'_>),
) {
    // SAFETY: NULL or valid by contract.
    let Some(array) = (unsafe { array.as_mut() }) else { return };
    // SAFETY: the caller lends the memory for this call.
    let Some(mut candidates) = (unsafe { from_c(array) }) else { return };
    work(&mut candidates);
    let data = array.data;
    *array = to_c(&mut candidates);
    if array.size == 0 {
        array.data = data; // without rows there is no address to give back
    }
}
