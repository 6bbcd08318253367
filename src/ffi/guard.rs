//! The fence between Rust and C: no panic leaves the library.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::log_error;

/// Runs the body of an exported function. A panic, which is always a defect of this library,
/// becomes one line in the log and `fallback`, the failure value that `llama.h` documents.
pub(super) fn call<T>(fallback: T, name: &str, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => {
            log_error!("{name}: internal error: {}", message(&*payload));
            fallback
        }
    }
}

/// What a panic said.
pub(super) fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_the_fallback() {
        assert_eq!(super::call(-1, "test", || panic!("expected in this test")), -1);
        assert_eq!(super::call(-1, "test", || 5), 5);
    }
}
