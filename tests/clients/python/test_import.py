"""What happens before a model is loaded: the names, the one library, its log, its structures."""

import ctypes
import os
import pathlib

import llama_cpp
from llama_cpp import llama_cpp as low


def test_import_binds_253_functions():
    # The loader keeps every function that it was asked for.
    bound = [name for name in vars(low._lib) if name.startswith("llama_")]
    assert len(bound) == 253
    assert llama_cpp.__version__ == "0.3.36"


def test_the_library_is_the_one_that_was_named():
    wanted = pathlib.Path(os.environ["LLAMA_CPP_LIB_PATH"], "libllama.so").resolve()
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    ours = {path for path in mapped if "libllama" in path or "libggml" in path or "powerinfer.so" in path}
    if "powerinfer" in wanted.name:
        assert ours == {str(wanted)}, "one copy, and nothing of another llama.cpp"
    else:
        assert str(wanted) in ours


def test_structures_have_the_sizes_that_the_library_fills():
    # The last field of each structure has the default that only the right layout shows.
    model, context = llama_cpp.llama_model_default_params(), llama_cpp.llama_context_default_params()
    assert (ctypes.sizeof(model), ctypes.sizeof(context)) == (80, 160)
    assert model.n_gpu_layers == -1 and model.use_extra_bufts and not model.load_mtp
    assert (context.n_ctx, context.n_batch, context.n_ubatch) == (512, 2048, 512)
    assert context.offload_kqv and context.swa_full and not context.kv_unified and not context.samplers
    quantize = llama_cpp.llama_model_quantize_default_params()
    assert quantize.quantize_output_tensor and not quantize.pure and quantize.max_buf_size == 8 << 30


def test_log_goes_to_the_callback(tmp_path):
    seen = []
    callback = low.llama_log_callback(lambda level, text, _: seen.append((level, text)))
    before, data = low.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    llama_cpp.llama_log_set(callback, None)
    try:
        absent = str(tmp_path / "absent.gguf").encode()
        params = llama_cpp.llama_model_default_params()
        assert llama_cpp.llama_model_load_from_file(absent, params) is None
    finally:
        llama_cpp.llama_log_set(before, data)
    assert any(b"absent.gguf" in text for _, text in seen)
    assert {level for level, _ in seen} & {4}, "an error among them"
