//! Times and counts of a context, as `llama_perf_context` reports them.

use crate::util::sys::time_us;

/// Counters since the context was made or reset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perf {
    /// When counting began, in ms of the process clock.
    pub t_start_ms: f64,
    /// Time of batches of several tokens, in ms.
    pub t_p_eval_ms: f64,
    /// Time of single tokens, in ms.
    pub t_eval_ms: f64,
    /// Tokens in batches of several.
    pub n_p_eval: i32,
    /// Single tokens.
    pub n_eval: i32,
}

impl Perf {
    /// Zero counters that begin now.
    pub fn start() -> Self {
        Self { t_start_ms: time_us() as f64 / 1000.0, ..Self::default() }
    }

    /// Counts a batch; `t_us` is 0 when times are not measured.
    pub fn count(&mut self, n_tokens: usize, t_us: i64) {
        let t_ms = t_us as f64 / 1000.0;
        if n_tokens == 1 {
            self.t_eval_ms += t_ms;
            self.n_eval = self.n_eval.saturating_add(1);
        } else {
            self.t_p_eval_ms += t_ms;
            self.n_p_eval =
                self.n_p_eval.saturating_add(i32::try_from(n_tokens).unwrap_or(i32::MAX));
        }
    }
}
