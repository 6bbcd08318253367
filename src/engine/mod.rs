//! Runs a plan: batches, ubatches, KV cache, outputs.
