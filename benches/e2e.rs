//! Whole-model speed in llama-bench's terms, through the Rust API: `pp512` and `tg128`.
//!
//! `cargo bench --bench e2e -- MODEL [THREADS] [REPETITIONS]` prints one JSON line per test.
#![allow(clippy::print_stdout, reason = "a program")]

use std::time::Instant;

use powerinfer::api::{Batch, ContextParams, Input, LoadOptions, Model};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(path) = args.first() else {
        println!("usage: cargo bench --bench e2e -- MODEL [THREADS] [REPETITIONS]");
        return;
    };
    let number =
        |i: usize, default: usize| args.get(i).map_or(default, |a| a.parse().expect("a number"));
    let (n_threads, n_reps) = (number(1, 2), number(2, 5));
    let model = Model::load(path, &LoadOptions::default(), &mut |_| true).expect("a model");
    let params = ContextParams {
        n_ctx: 1024,
        n_threads,
        n_threads_batch: n_threads,
        ..ContextParams::default()
    };
    let mut ctx = model.context(params).expect("a context");
    let n_vocab = model.vocab().n_tokens() as i32;
    let tokens: Vec<i32> = (0..512).map(|i| (i * 7919 + 13) % n_vocab).collect();
    for (name, n, step) in [("pp512", 512, 512), ("tg128", 128, 1), ("pp64", 64, 64)] {
        let mut speeds: Vec<f64> = (0..=n_reps)
            .map(|_| {
                ctx.kv_mut().clear(false);
                let start = Instant::now();
                for part in tokens[..n].chunks(step) {
                    let input = Input::Tokens(part);
                    let batch = Batch { input, pos: None, seq_ids: None, outputs: None };
                    ctx.decode(&batch).expect("room for the batch");
                }
                n as f64 / start.elapsed().as_secs_f64()
            })
            .skip(1)
            .collect();
        speeds.sort_by(f64::total_cmp);
        let (min, median, max) = (speeds[0], speeds[n_reps / 2], speeds[n_reps - 1]);
        println!(
            "{{\"test\":\"{name}\",\"threads\":{n_threads},\"tokens_per_second\":\
             {{\"min\":{min:.1},\"median\":{median:.1},\"max\":{max:.1}}}}}"
        );
    }
}
