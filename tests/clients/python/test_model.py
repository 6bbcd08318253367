"""Tokens, embeddings, states, adapters, overrides, and the functions themselves."""

import ctypes
import pickle

import llama_cpp
import numpy as np
import pytest
from conftest import N_THREADS

TEXTS = [
    "The cat sits on the mat.",
    "A kitten is lying on a rug.",
    "Interest rates were raised by the central bank.",
]


def greedy(llama, prompt, n=12):
    return llama.create_completion(prompt, temperature=0.0, max_tokens=n)["choices"][0]["text"]


def cosine(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---- tokens ----


def test_tokens_and_back(llama):
    assert llama.tokenize(b"Hello world\n") == [19556, 905, 198]
    for text in ("Hello, world!", "  two  spaces\n\n", "naïve café 🦙 日本", "a" * 100, "\t\x00x"):
        tokens = llama.tokenize(text.encode(), add_bos=False)
        assert llama.detokenize(tokens) == text.encode()
    assert llama.tokenize(b"<|im_start|>", special=True) == [1]
    assert len(llama.tokenize(b"<|im_start|>")) > 1
    assert llama.detokenize([1, 19556], special=True) == b"<|im_start|>Hello"
    assert (llama.n_vocab(), llama.n_embd(), llama.n_ctx()) == (49152, 576, 256)
    assert (llama.token_bos(), llama.token_eos(), llama.token_nl()) == (1, 2, 198)
    assert llama.tokenizer().decode(llama.tokenizer().encode("abc")) == "abc"


def test_metadata(llama):
    assert llama.metadata["general.architecture"] == "llama"
    assert llama.metadata["llama.block_count"] == "30"
    assert llama._model.desc() == "llama 256M Q4_1"
    assert (llama._model.n_params(), llama._model.size()) == (134_515_008, 96_576_768)


def test_only_the_vocabulary(model_path):
    llama = llama_cpp.Llama(model_path=model_path, vocab_only=True, verbose=False)
    assert llama.tokenize(b"Hello world\n") == [19556, 905, 198]
    assert llama.n_ctx() == 512
    # llama.cpp would crash here.
    token = (llama_cpp.llama_token * 1)(1)
    assert llama_cpp.llama_decode(llama.ctx, llama_cpp.llama_batch_get_one(token, 1)) < 0
    llama.close()


def test_what_is_no_model(tmp_path):
    for content in (b"", b"GGUF", b"not a model at all"):
        path = tmp_path / "no.gguf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="Failed to load model"):
            llama_cpp.Llama(model_path=str(path), verbose=False)


def test_overrides(model_path):
    overrides = {"llama.context_length": 1234, "general.name": "other", "tokenizer.ggml.add_bos_token": True,
                 "llama.rope.freq_base": 50000.0}
    llama = llama_cpp.Llama(
        model_path=model_path, n_ctx=0, n_threads=2, verbose=False, kv_overrides=overrides)
    assert llama._model.n_ctx_train() == 1234
    # As with llama.cpp: the texts that metadata gives are the file's, what runs is the override's.
    assert llama.tokenize(b"Hello") == [1, 19556]
    assert llama.n_ctx() == 1280
    llama.close()


# ---- embeddings ----


@pytest.mark.parametrize("pooling", ["MEAN", "CLS", "LAST"])
def test_embeddings_are_the_references(load, pooling, golden):
    llama = load(embedding=True, pooling_type=getattr(llama_cpp, f"LLAMA_POOLING_TYPE_{pooling}"))
    ours = llama.embed(TEXTS, normalize=True)
    for vector in ours:
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    alone = [llama.embed(text, normalize=True) for text in TEXTS]
    np.testing.assert_allclose(ours, alone, rtol=0, atol=1e-6)
    expected = golden([[round(x, 4) for x in vector] for vector in ours[:2]])
    for a, b in zip(ours, expected):
        assert cosine(a, b) > (0.9999 if pooling == "CLS" else 0.998)
    if pooling == "MEAN":
        assert cosine(ours[0], ours[1]) > cosine(ours[0], ours[2])
        response = llama.create_embedding(TEXTS)
        assert [row["index"] for row in response["data"]] == [0, 1, 2]
        assert response["usage"]["total_tokens"] == sum(len(llama.tokenize(t.encode())) for t in TEXTS)
        assert cosine(response["data"][2]["embedding"], ours[2]) == pytest.approx(1.0)


def test_embeddings_of_tokens(load):
    llama = load(embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE)
    rows = llama.embed(TEXTS[0])
    assert np.shape(rows) == (len(llama.tokenize(TEXTS[0].encode())), 576)


def test_embeddings_of_an_encoder(files, golden):
    llama = llama_cpp.Llama(
        model_path=str(files / "bert.gguf"), n_ctx=64, n_threads=N_THREADS,
        n_threads_batch=N_THREADS, embedding=True, verbose=False)
    texts = ["the ring and the king", "or else", "a"]
    ours = llama.embed(texts, normalize=True)
    for a, b in zip(ours, golden([[round(x, 5) for x in vector] for vector in ours]), strict=True):
        assert cosine(a, b) > 0.999
    np.testing.assert_allclose(ours, [llama.embed(t, normalize=True) for t in texts], atol=1e-5)
    llama.close()


# ---- states ----


def test_a_state_continues_where_it_was(llama, load):
    prompt = "Once upon a time there was a king who"
    tokens = llama.tokenize(prompt.encode())
    llama.eval(tokens)
    state = llama.save_state()
    expected = greedy(llama, prompt)
    greedy(llama, "Something else altogether:")
    llama.load_state(state)
    assert llama.n_tokens == len(tokens)
    assert greedy(llama, prompt) == expected

    other = load(n_ctx=512)
    greedy(other, "This context saw other things.")
    other.load_state(pickle.loads(pickle.dumps(llama_state_of(state, other))))
    assert greedy(other, prompt) == expected


def llama_state_of(state, llama):
    """The state with arrays of the other context's length."""
    ids = np.zeros_like(llama.input_ids)
    ids[: state.n_tokens] = state.input_ids[: state.n_tokens]
    return llama_cpp.LlamaState(
        input_ids=ids, scores=state.scores[: state.n_tokens], n_tokens=state.n_tokens,
        llama_state=state.llama_state, llama_state_size=state.llama_state_size, seed=state.seed)


def test_a_damaged_state_is_refused(llama):
    prompt = "The sky is"
    expected = greedy(llama, prompt)
    state = llama.save_state()
    cut = state.llama_state[: len(state.llama_state) // 2]
    for damaged in (cut, b"\xff" * 64 + state.llama_state[64:]):
        state.llama_state, state.llama_state_size = damaged, len(damaged)
        with pytest.raises(RuntimeError, match="Failed to set llama state"):
            llama.load_state(state)
        llama.reset()
        assert greedy(llama, prompt) == expected


def test_the_cache_of_prompts(llama, load):
    prompt = "A prompt that is worth remembering, because it is long:"
    expected = greedy(llama, prompt)
    cache = llama_cpp.LlamaRAMCache()
    llama.set_cache(cache)
    greedy(llama, prompt)
    assert cache.cache_size > 1 << 16
    greedy(llama, "Other text")
    loads = []
    real = llama.load_state
    llama.load_state = lambda state: (loads.append(state.n_tokens), real(state))
    try:
        assert greedy(llama, prompt) == expected
    finally:
        del llama.load_state
    assert loads and loads[0] >= len(llama.tokenize(prompt.encode()))


def test_a_pickled_model_is_loaded_again(llama):
    again = pickle.loads(pickle.dumps(llama))
    assert greedy(again, "The sky is") == greedy(llama, "The sky is")
    again.close()


def test_kinds_of_cache(llama, model_path):
    expected = greedy(llama, "1, 2, 3, 4,", 8)
    for kind in (llama_cpp.GGML_TYPE_Q8_0, llama_cpp.GGML_TYPE_F32):
        other = llama_cpp.Llama(model_path=model_path, n_ctx=256, n_threads=2, flash_attn=True,
                                verbose=False, type_k=kind, type_v=kind)
        assert greedy(other, "1, 2, 3, 4,", 8) == expected
        other.close()
    with pytest.raises(ValueError, match="Failed to create llama_context"):
        llama_cpp.Llama(model_path=model_path, n_ctx=256, flash_attn=False, verbose=False,
                        type_v=llama_cpp.GGML_TYPE_Q8_0)


# ---- adapters ----


def adapted(model_path, files, scale):
    return llama_cpp.Llama(
        model_path=model_path, n_ctx=128, n_threads=N_THREADS, n_threads_batch=N_THREADS,
        embedding=True, verbose=False,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN, lora_path=str(files / "adapter.gguf"),
        lora_scale=scale)


def test_an_adapter_acts_as_in_the_reference(model_path, files, load, golden):
    plain = load(embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN).embed(TEXTS[0])
    llama = adapted(model_path, files, 4.0)
    ours = llama.embed(TEXTS[0])
    expected = golden([round(x, 3) for x in ours])
    assert cosine(ours, expected) > 0.995
    assert cosine(ours, plain) < 0.95, "it changes what comes out"
    llama.close()


def test_an_adapter_of_no_weight_changes_nothing(model_path, files, load):
    plain = load(embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN).embed(TEXTS[0])
    llama = adapted(model_path, files, 0.0)
    np.testing.assert_allclose(llama.embed(TEXTS[0]), plain, rtol=1e-5, atol=1e-5)
    llama.close()


def test_what_is_no_adapter(model_path):
    with pytest.raises(RuntimeError, match="LoRA"):
        llama_cpp.Llama(model_path=model_path, n_ctx=64, verbose=False, lora_path=model_path)


# ---- the functions themselves ----


def test_a_text_by_the_functions_alone(llama, model_path):
    prompt = b"The capital of France is"
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(model_path.encode(), llama_cpp.llama_model_default_params())
    vocab = llama_cpp.llama_model_get_vocab(model)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 64, 2, 2
    ctx = llama_cpp.llama_init_from_model(model, params)

    ids = (llama_cpp.llama_token * 32)()
    n = llama_cpp.llama_tokenize(vocab, prompt, len(prompt), ids, 32, True, True)
    assert n == 5 and llama_cpp.llama_tokenize(vocab, prompt, len(prompt), ids, 2, True, True) == -5
    llama_cpp.llama_tokenize(vocab, prompt, len(prompt), ids, 32, True, True)

    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
    text = b""
    piece = ctypes.create_string_buffer(64)
    batch = llama_cpp.llama_batch_get_one(ids, n)
    for _ in range(12):
        assert llama_cpp.llama_decode(ctx, batch) == 0
        token = llama_cpp.llama_sampler_sample(chain, ctx, -1)
        row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(ctx, -1), shape=(49152,))
        assert token == row.argmax()
        text += piece[: llama_cpp.llama_token_to_piece(vocab, token, piece, 64, 0, True)]
        one = (llama_cpp.llama_token * 1)(token)
        batch = llama_cpp.llama_batch_get_one(one, 1)
    assert text.decode() == greedy(llama, prompt.decode())
    memory = llama_cpp.llama_get_memory(ctx)
    assert llama_cpp.llama_memory_seq_pos_max(memory, 0) == 5 + 12 - 2
    llama_cpp.llama_sampler_free(chain)
    llama_cpp.llama_free(ctx)
    llama_cpp.llama_model_free(model)
