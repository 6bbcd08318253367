//! The thread pool in every order in which its threads can meet, up to a bound on how often one
//! takes the processor from another: nobody waits for ever, every task runs once, and what one step
//! writes the next one may read.
//!
//! `cargo test --manifest-path tests/loom/Cargo.toml`; the source is the library's own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use powerinfer_loom::pool::threads::Pool;

/// Two elements that tasks write, with loom watching who may see what.
struct Cells([UnsafeCell<usize>; 2]);
// SAFETY: what is tested; loom reports an access that no barrier orders.
unsafe impl Sync for Cells {}

fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

#[test]
fn steps_follow_each_other_on_all_threads() {
    explore(3, || {
        let mut pool = Pool::new(2);
        let cells = Cells([UnsafeCell::new(0), UnsafeCell::new(0)]);
        let cells = &cells;
        pool.run(&|worker| {
            worker.step(2, |task| cells.0[task.index()].with_mut(|x| unsafe { *x += 1 }));
            worker.step(2, |task| {
                let sum: usize = cells.0.iter().map(|cell| cell.with(|x| unsafe { *x })).sum();
                assert_eq!(sum, 2, "task {} sees both", task.index());
            });
        });
        cells.0.iter().for_each(|cell| cell.with(|x| assert_eq!(unsafe { *x }, 1)));
    });
}

#[test]
fn one_run_follows_another() {
    explore(2, || {
        let mut pool = Pool::new(2);
        let cells = Cells([UnsafeCell::new(0), UnsafeCell::new(0)]);
        let cells = &cells;
        for run in 1..=2 {
            pool.run(&|worker| {
                worker.step(2, |task| cells.0[task.index()].with_mut(|x| unsafe { *x += 1 }));
            });
            cells.0.iter().for_each(|cell| cell.with(|x| assert_eq!(unsafe { *x }, run)));
        }
    });
}

#[test]
fn a_panic_of_any_thread_ends_the_run_and_the_next_one_works() {
    explore(2, || {
        let mut pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|worker| {
                worker.step(2, |task| {
                    if task.index() == 1 {
                        std::panic::resume_unwind(Box::new("expected"));
                    }
                });
                worker.step(2, |_| {});
            });
        }));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"expected"));
        let n = AtomicUsize::new(0);
        pool.run(&|worker| {
            worker.step(2, |_| {
                n.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(n.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn three_threads() {
    explore(1, || {
        let mut pool = Pool::new(3);
        let n = AtomicUsize::new(0);
        pool.run(&|worker| {
            worker.step(2, |_| {
                n.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(n.load(Ordering::Relaxed), 2);
    });
}
