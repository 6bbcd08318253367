//! The library's thread pool over loom's threads and atomics; `pool.rs` tries it.

mod util {
    pub(crate) mod sys {
        /// None: a waiting thread sleeps at once, as loom cannot follow one that spins.
        pub(crate) fn n_cpus() -> usize {
            0
        }
    }
}

#[macro_export]
macro_rules! log_warn {
    ($($text:tt)*) => { eprintln!($($text)*) };
}

#[path = "../../src/backend/cpu/pool"]
pub mod pool {
    mod sync {
        pub(super) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
        pub(super) use loom::thread;

        /// Loom knows the one order of SeqCst of fences alone, so the counters, whose sleepers
        /// hang on it, have fences beside the accesses that ask for it. Flags have none: for them
        /// acquire and release must do.
        #[allow(dead_code, reason = "not every type needs every method")]
        pub(super) mod atomic {
            use loom::sync::atomic::fence;
            pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

            macro_rules! atomic {
                ($name:ident, $ty:ty) => {
                    pub(crate) struct $name(loom::sync::atomic::$name);

                    impl $name {
                        pub(crate) fn new(value: $ty) -> Self {
                            Self(loom::sync::atomic::$name::new(value))
                        }
                        pub(crate) fn load(&self, order: Ordering) -> $ty {
                            before(order);
                            self.0.load(order)
                        }
                        pub(crate) fn store(&self, value: $ty, order: Ordering) {
                            self.0.store(value, order);
                            after(order);
                        }
                        pub(crate) fn swap(&self, value: $ty, order: Ordering) -> $ty {
                            self.0.swap(value, order)
                        }
                    }
                };
            }

            macro_rules! counter {
                ($name:ident, $ty:ty) => {
                    impl $name {
                        pub(crate) fn fetch_add(&self, n: $ty, order: Ordering) -> $ty {
                            before(order);
                            let old = self.0.fetch_add(n, order);
                            after(order);
                            old
                        }
                        pub(crate) fn fetch_sub(&self, n: $ty, order: Ordering) -> $ty {
                            before(order);
                            let old = self.0.fetch_sub(n, order);
                            after(order);
                            old
                        }
                    }
                };
            }

            fn before(order: Ordering) {
                if order == Ordering::SeqCst {
                    fence(Ordering::SeqCst);
                }
            }

            fn after(order: Ordering) {
                before(order);
            }

            atomic!(AtomicU32, u32);
            atomic!(AtomicU64, u64);
            atomic!(AtomicUsize, usize);
            counter!(AtomicU32, u32);
            counter!(AtomicUsize, usize);
        }
    }
    #[allow(dead_code, reason = "some of it is for the buffers")]
    mod runs;
    #[allow(dead_code, reason = "some of it is for the buffers")]
    pub mod threads;
}
