//! Default parameters. Programs change single fields of them, so every value is part of the ABI.

use core::ffi::c_int;
use core::ptr;

use super::types::*;

/// Default model parameters: every layer on a GPU if there is one, the file mapped if possible.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_default_params() -> llama_model_params {
    llama_model_params {
        devices: ptr::null_mut(),
        tensor_buft_overrides: ptr::null(),
        n_gpu_layers: -1,
        split_mode: llama_split_mode::LLAMA_SPLIT_MODE_LAYER as c_int,
        load_mode: llama_load_mode::LLAMA_LOAD_MODE_AUTO as c_int,
        lazy_mode: llama_lazy_mode::LLAMA_LAZY_MODE_AUTO as c_int,
        main_gpu: 0,
        tensor_split: ptr::null(),
        progress_callback: None,
        progress_callback_user_data: ptr::null_mut(),
        kv_overrides: ptr::null(),
        vocab_only: 0,
        check_tensors: 0,
        use_extra_bufts: 1,
        no_host: 0,
        no_alloc: 0,
        load_mtp: 0,
    }
}

/// Default context parameters: 512 tokens of context, 4 threads, an F16 cache.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_context_default_params() -> llama_context_params {
    llama_context_params {
        n_ctx: 512,
        n_batch: 2048,
        n_ubatch: 512,
        n_seq_max: 1,
        n_rs_seq: 0,
        n_outputs_max: 0,
        n_outputs_max_per_seq: 1,
        n_threads: GGML_DEFAULT_N_THREADS,
        n_threads_batch: GGML_DEFAULT_N_THREADS,
        ctx_type: llama_context_type::LLAMA_CONTEXT_TYPE_DEFAULT as c_int,
        rope_scaling_type: llama_rope_scaling_type::LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED as c_int,
        pooling_type: llama_pooling_type::LLAMA_POOLING_TYPE_UNSPECIFIED as c_int,
        attention_type: llama_attention_type::LLAMA_ATTENTION_TYPE_UNSPECIFIED as c_int,
        flash_attn_type: llama_flash_attn_type::LLAMA_FLASH_ATTN_TYPE_AUTO as c_int,
        rope_freq_base: 0.0,
        rope_freq_scale: 0.0,
        yarn_ext_factor: -1.0,
        yarn_attn_factor: -1.0,
        yarn_beta_fast: -1.0,
        yarn_beta_slow: -1.0,
        yarn_orig_ctx: 0,
        defrag_thold: -1.0,
        cb_eval: None,
        cb_eval_user_data: ptr::null_mut(),
        type_k: ggml_type::GGML_TYPE_F16 as c_int,
        type_v: ggml_type::GGML_TYPE_F16 as c_int,
        abort_callback: None,
        abort_callback_data: ptr::null_mut(),
        embeddings: 0,
        offload_kqv: 1,
        no_perf: 1,
        op_offload: 1,
        swa_full: 1,
        kv_unified: 0,
        samplers: ptr::null_mut(),
        n_samplers: 0,
        ctx_other: ptr::null_mut(),
    }
}

/// Default sampler chain parameters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_sampler_chain_default_params() -> llama_sampler_chain_params {
    llama_sampler_chain_params { no_perf: 1 }
}

/// Default quantisation parameters: Q8_0 with all processors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_quantize_default_params() -> llama_model_quantize_params {
    llama_model_quantize_params {
        nthread: 0,
        ftype: llama_ftype::LLAMA_FTYPE_MOSTLY_Q8_0 as c_int,
        output_tensor_type: ggml_type::GGML_TYPE_COUNT as c_int,
        token_embedding_type: ggml_type::GGML_TYPE_COUNT as c_int,
        allow_requantize: 0,
        quantize_output_tensor: 1,
        only_copy: 0,
        pure: 0,
        keep_split: 0,
        dry_run: 0,
        imatrix: ptr::null(),
        kv_overrides: ptr::null(),
        tt_overrides: ptr::null(),
        prune_layers: ptr::null(),
        max_buf_size: 8 << 30,
    }
}
