//! The pool: threads, barrier, task counter.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::runs::Run;
use super::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use super::sync::thread::{Builder, JoinHandle};
use super::sync::{Arc, Condvar, Mutex, MutexGuard};
use crate::util::sys;

/// How often a waiting thread looks again before it sleeps; a look takes 10 to 40 ns.
const SPINS: u32 = 2000;
/// Tiles of distinct buffers that one task may write.
const MAX_TILES: usize = 8;

/// Something to wait for that changes once: a counter that spinners watch and sleepers are told of.
struct Event {
    value: AtomicU32,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Event {
    fn new() -> Self {
        Self {
            value: AtomicU32::new(0),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Waits until the value differs from `old`.
    fn wait(&self, old: u32, spins: u32) {
        for _ in 0..spins {
            if self.value.load(Ordering::Acquire) != old {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.value.load(Ordering::SeqCst) == old {
            guard = self.wake.wait(guard).unwrap_or_else(|e| e.into_inner());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn advance(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.lock));
            self.wake.notify_all();
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

/// A job as a raw pointer, so that threads which outlive it can hold it while it runs.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(&Worker<'_>) + Sync));
// SAFETY: the closure is Sync, and Pool::run keeps it alive until every thread has left it.
unsafe impl Send for Job {}

struct State {
    n_threads: usize,
    spins: u32,
    job: Mutex<Option<Job>>,
    /// Advances when a job is posted (or the pool ends).
    posted: Event,
    /// Advances when all threads have arrived at a barrier.
    passed: Event,
    arrived: AtomicUsize,
    /// Advances when the last thread has left the job.
    left: Event,
    n_left: AtomicUsize,
    /// Number of the current run.
    run: AtomicU64,
    /// Next task of the current step.
    next: AtomicUsize,
    /// A thread panicked: nobody may wait at a barrier any more.
    broken: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    ending: AtomicBool,
}

/// A fixed set of threads; the caller of [`Pool::run`] is one of them.
pub struct Pool {
    state: Arc<State>,
    handles: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `n_threads` (at least one, the caller's own).
    ///
    /// When the system refuses a thread the pool is smaller, and says so in the log.
    pub fn new(n_threads: usize) -> Self {
        let wanted = n_threads.clamp(1, 512);
        let mut pool = Self { state: Self::state(wanted), handles: Vec::new() };
        if let Err(error) = pool.spawn(wanted) {
            crate::log_warn!("thread pool: {error}; running on one thread instead of {wanted}");
            drop(std::mem::replace(&mut pool, Self { state: Self::state(1), handles: Vec::new() }));
        }
        pool
    }

    fn state(n_threads: usize) -> Arc<State> {
        Arc::new(State {
            n_threads,
            spins: if n_threads > sys::n_cpus() { 0 } else { SPINS },
            job: Mutex::new(None),
            posted: Event::new(),
            passed: Event::new(),
            arrived: AtomicUsize::new(0),
            left: Event::new(),
            n_left: AtomicUsize::new(0),
            run: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            panic: Mutex::new(None),
            ending: AtomicBool::new(false),
        })
    }

    fn spawn(&mut self, n_threads: usize) -> std::io::Result<()> {
        for index in 1..n_threads {
            let state = Arc::clone(&self.state);
            let handle = Builder::new()
                .name(format!("powerinfer-{index}"))
                .spawn(move || state.serve(index))?;
            self.handles.push(handle);
        }
        Ok(())
    }

    /// Number of threads, the caller's included.
    pub fn n_threads(&self) -> usize {
        self.state.n_threads
    }

    /// Runs `job` on every thread at once and returns when all have finished.
    ///
    /// # Panics
    /// Re-raises the first panic of any thread, after all have left the job.
    pub fn run(&mut self, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        let state = &*self.state;
        let run = Run::begin();
        state.next.store(0, Ordering::Relaxed);
        state.n_left.store(0, Ordering::Relaxed);
        let left = state.left.value.load(Ordering::Acquire);
        if state.n_threads > 1 {
            // SAFETY: only the lifetime is erased; this function does not return before every
            // thread has left the job, so the pointer never outlives the closure.
            let erased = unsafe {
                std::mem::transmute::<
                    *const (dyn Fn(&Worker<'_>) + Sync + '_),
                    *const (dyn Fn(&Worker<'_>) + Sync + 'static),
                >(job)
            };
            *lock(&state.job) = Some(Job(erased));
            state.run.store(run.id(), Ordering::Relaxed);
            state.posted.advance();
        }
        state.enter(0, run.id(), job);
        if state.n_threads > 1 {
            state.left.wait(left, state.spins);
            *lock(&state.job) = None;
        }
        drop(run);
        if state.broken.swap(false, Ordering::AcqRel) {
            state.arrived.store(0, Ordering::Release);
            let payload = lock(&state.panic).take();
            resume_unwind(payload.unwrap_or_else(|| Box::new("a worker thread panicked")));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::Release);
        self.state.posted.advance();
        for handle in self.handles.drain(..) {
            // A worker catches panics of jobs, so it has none of its own to report.
            let _ = handle.join();
        }
    }
}

impl State {
    /// The life of a worker thread.
    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            self.posted.wait(seen, self.spins);
            seen = seen.wrapping_add(1);
            if self.ending.load(Ordering::Acquire) {
                return;
            }
            let Some(job) = *lock(&self.job) else { continue };
            // SAFETY: Pool::run keeps the closure alive until we advance `left` below.
            let job = unsafe { &*job.0 };
            self.enter(index, self.run.load(Ordering::Relaxed), job);
        }
    }

    /// Runs the job on this thread and counts the thread out.
    fn enter(&self, index: usize, run: u64, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        let worker = Worker { state: self, index, run, step: Cell::new(0) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(&worker))) {
            lock(&self.panic).get_or_insert(payload);
            self.broken.store(true, Ordering::SeqCst);
            self.passed.advance();
        }
        if self.n_left.fetch_add(1, Ordering::AcqRel) + 1 == self.n_threads {
            self.left.advance();
        }
    }
}

/// One thread's place in a running job.
pub struct Worker<'p> {
    state: &'p State,
    index: usize,
    run: u64,
    step: Cell<u32>,
}

impl Worker<'_> {
    /// 0 for the thread that called [`Pool::run`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Threads in the pool.
    pub fn n_threads(&self) -> usize {
        self.state.n_threads
    }

    /// Runs tasks `0..n_tasks`, each on one of the threads, and waits until all are done.
    ///
    /// Every thread of the pool must call this with the same `n_tasks`.
    ///
    /// # Panics
    /// When another thread of the pool panicked in this job.
    pub fn step(&self, n_tasks: usize, mut run: impl FnMut(&Task)) {
        let n = self.state.n_threads;
        if n == 1 || n_tasks == 1 {
            // One task needs no counter: the first thread takes it.
            for index in 0..if self.index == 0 { n_tasks } else { 0 } {
                run(&Task::new(index, self.run, self.step.get()));
            }
        } else {
            loop {
                let index = self.state.next.fetch_add(1, Ordering::Relaxed);
                if index >= n_tasks {
                    break;
                }
                run(&Task::new(index, self.run, self.step.get()));
            }
        }
        self.barrier();
    }

    /// Waits until every thread of the pool is here.
    fn barrier(&self) {
        let state = self.state;
        self.step.set(self.step.get().wrapping_add(1));
        if state.n_threads == 1 {
            return;
        }
        let passed = state.passed.value.load(Ordering::Acquire);
        self.check_broken();
        if state.arrived.fetch_add(1, Ordering::AcqRel) + 1 == state.n_threads {
            state.arrived.store(0, Ordering::Relaxed);
            state.next.store(0, Ordering::Relaxed);
            state.passed.advance();
        } else {
            state.passed.wait(passed, state.spins);
        }
        self.check_broken();
    }

    fn check_broken(&self) {
        if self.state.broken.load(Ordering::SeqCst) {
            // Not a message of its own: the first panic is the one that is reported.
            resume_unwind(Box::new("another thread of the pool panicked"));
        }
    }
}

/// One task of a step. What it borrows from [`super::Shared`] buffers lives as long as it does.
pub struct Task {
    index: usize,
    run: u64,
    step: u32,
    tiles: Cell<[usize; MAX_TILES]>,
}

impl Task {
    fn new(index: usize, run: u64, step: u32) -> Self {
        Self { index, run, step, tiles: Cell::new([0; MAX_TILES]) }
    }

    /// Number of the task in its step.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of the run, unique in the process.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// Number of the step in its run.
    pub(super) fn step(&self) -> u32 {
        self.step
    }

    /// Notes that this task takes its tile of the buffer at `address`.
    ///
    /// # Panics
    /// When it has taken it before: two exclusive views of one tile would alias.
    pub(super) fn claim(&self, address: usize) {
        let mut tiles = self.tiles.get();
        let free = tiles.iter_mut().find(|t| **t == 0 || **t == address);
        match free {
            Some(slot) if *slot == 0 => *slot = address,
            Some(_) => panic!("a task took its tile of one buffer twice"),
            None => panic!("a task writes more than {MAX_TILES} buffers"),
        }
        self.tiles.set(tiles);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_every_step() {
        for n in [1, 2, 3, 8, 20] {
            let mut pool = Pool::new(n);
            for _ in 0..20 {
                let hits: Vec<AtomicUsize> = (0..37).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|w| {
                    for round in 0..50 {
                        w.step(37, |t| {
                            assert_eq!(hits[t.index()].fetch_add(1, Ordering::Relaxed), round);
                        });
                        w.step(1, |_| {});
                    }
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3);
        for bad in 0..6 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|w| {
                    for s in 0..4 {
                        w.step(6, |t| assert!(s != 2 || t.index() != bad, "task {bad}"));
                    }
                });
            }));
            let message = *caught.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains(&format!("task {bad}")), "{message}");
            let n = AtomicUsize::new(0);
            pool.run(&|w| {
                w.step(10, |_| {
                    n.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert_eq!(n.into_inner(), 10);
        }
    }
}
