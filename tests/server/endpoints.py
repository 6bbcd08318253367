"""What each endpoint answers, and that the text is the one that `main` writes.

    endpoints.py URL MAIN MODEL
"""

import base64
import struct
import subprocess
import sys

from client import run_all

MAIN, MODEL = sys.argv[2:4]
PROMPT = "The capital of France is"


def by_main(prompt, n):
    """What main writes after a prompt at temperature 0."""
    said = subprocess.run([MAIN, "-m", MODEL, "-p", prompt, "-n", str(n), "--temp", "0",
                           "--no-display-prompt"], capture_output=True, text=True, check=True)
    return said.stdout.rstrip("\n")


def test_health_and_models(c):
    assert c.ok("/health") == {"status": "ok"}
    models = c.ok("/v1/models")
    assert models["object"] == "list" and len(models["data"]) == 1
    name = models["data"][0]["id"]
    assert name in MODEL and models["data"][0]["meta"]["n_vocab"] == 49152
    assert c.ok("/v1/models/" + name)["id"] == name
    c.refused("/v1/models/other", None, 404)
    props = c.ok("/props")
    assert props["total_slots"] == 4 and "{%" in props["chat_template"]
    assert props["default_generation_settings"]["params"]["top_k"] == 40
    c.refused("/nothing", None, 404, "/nothing")


def test_completions(c):
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    whole = c.ok("/v1/completions", body)
    text = whole["choices"][0]["text"]
    assert text == by_main(PROMPT, 24)
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 24
    assert whole["usage"]["total_tokens"] == 24 + whole["usage"]["prompt_tokens"]

    chunks = list(c.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}}))
    assert chunks[-1] is None and chunks[-2]["choices"] == [] and chunks[-2]["usage"]["completion_tokens"] == 24
    assert "".join(one["choices"][0]["text"] for one in chunks[:-2]) == text
    assert all(one["usage"] is None for one in chunks[:-2])
    # llama.cpp's own form, from tokens.
    tokens = c.ok("/tokenize", {"content": PROMPT, "add_special": True})["tokens"]
    native = c.ok("/completion", {"prompt": tokens, "n_predict": 24, "temperature": 0, "return_tokens": True})
    assert native["content"] == text and native["stop_type"] == "limit" and native["stop"]
    assert len(native["tokens"]) == 24 and native["tokens_evaluated"] == len(tokens)
    assert c.ok("/detokenize", {"tokens": native["tokens"]})["content"] == text
    streamed = list(c.stream("/completion", {"prompt": PROMPT, "n_predict": 24, "temperature": 0}))
    assert "".join(one["content"] for one in streamed) == text
    assert streamed[-1]["stop"] and not any(one["stop"] for one in streamed[:-1])
    # Several prompts, several answers to each; the same seed writes the same.
    both = c.ok("/v1/completions", {**body, "prompt": [PROMPT, "One two three"], "n": 2})
    assert [one["index"] for one in both["choices"]] == [0, 1, 2, 3]
    assert [one["text"] for one in both["choices"]][:2] == [text, text]
    seeded = {"prompt": "Once upon a time", "max_tokens": 16, "seed": 7, "temperature": 1.5, "n": 3}
    first = [one["text"] for one in c.ok("/v1/completions", seeded)["choices"]]
    assert first == [one["text"] for one in c.ok("/v1/completions", seeded)["choices"]]
    assert len(set(first)) == 3


def test_the_cache_is_reused(c):
    prompt = "A long story about a fisherman and the sea. " * 8
    first = c.ok("/completion", {"prompt": prompt, "n_predict": 4, "temperature": 0})
    again = c.ok("/completion", {"prompt": prompt + "It ends", "n_predict": 4, "temperature": 0})
    assert first["timings"]["prompt_n"] + first["timings"]["cache_n"] == first["tokens_evaluated"]
    # All of the first prompt but perhaps the token at the seam.
    assert again["timings"]["cache_n"] >= first["tokens_evaluated"] - 2
    fresh = c.ok("/completion", {"prompt": prompt + "It ends", "n_predict": 4, "temperature": 0, "cache_prompt": False})
    assert fresh["timings"]["cache_n"] == 0 and fresh["content"] == again["content"]
    # Another slot copies what one has read: answers side by side to one prompt.
    many = c.ok("/v1/completions", {"prompt": prompt + "Then", "max_tokens": 4, "temperature": 0, "n": 3})
    assert len({one["text"] for one in many["choices"]}) == 1


def test_chat(c):
    body = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 16, "temperature": 0}
    whole = c.ok("/v1/chat/completions", body)
    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant" and message["content"]
    # It is the conversation laid out by the template, continued.
    prompt = c.ok("/apply-template", body)["prompt"]
    assert "Name a colour." in prompt and prompt.endswith("<|im_start|>assistant\n")
    text = c.ok("/completion", {"prompt": prompt, "n_predict": 16, "temperature": 0})["content"]
    assert text == message["content"]
    parts = {**body, "messages": [{"role": "user", "content": [{"type": "text", "text": "Name a "}, {"type": "text", "text": "colour."}]}]}
    assert c.ok("/v1/chat/completions", parts)["choices"][0]["message"] == message
    chunks = list(c.stream("/v1/chat/completions", body))
    assert chunks[-1] is None and chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks[:-1]) == text
    assert [one["choices"][0]["finish_reason"] for one in chunks[:-1]][-1] in ("stop", "length")
    assert all(one["choices"][0]["finish_reason"] is None for one in chunks[:-2])
    c.refused("/v1/chat/completions", {"messages": []}, 400, "messages")
    c.refused("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 501, "image_url")


def test_stop_words(c):
    text = c.ok("/completion", {"prompt": PROMPT, "n_predict": 24, "temperature": 0})["content"]
    word = text[10:14]
    for stream in (False, True):
        body = {"prompt": PROMPT, "n_predict": 24, "temperature": 0, "stop": ["never there", word]}
        if stream:
            chunks = list(c.stream("/completion", body))
            got, last = "".join(one["content"] for one in chunks), chunks[-1]
        else:
            last = c.ok("/completion", body)
            got = last["content"]
        assert got == text[:text.index(word)], (got, text)
        assert last["stop_type"] == "word" and last["stopping_word"] == word
    one = c.ok("/v1/completions", {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "stop": word})
    assert one["choices"][0]["finish_reason"] == "stop"


def test_odds(c):
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0,
            "logprobs": True, "top_logprobs": 3}
    whole = c.ok("/v1/chat/completions", body)["choices"][0]
    odds = whole["logprobs"]["content"]
    assert "".join(one["token"] for one in odds) == whole["message"]["content"]
    for one in odds:
        assert one["logprob"] == one["top_logprobs"][0]["logprob"] <= 0
        assert bytes(one["bytes"]).decode() == one["token"]
        sorted_down = [top["logprob"] for top in one["top_logprobs"]]
        assert sorted_down == sorted(sorted_down, reverse=True) and len(sorted_down) == 3
    streamed = [token for chunk in c.stream("/v1/chat/completions", body) if chunk
                for token in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert streamed == odds
    old = c.ok("/v1/completions", {"prompt": PROMPT, "max_tokens": 3, "temperature": 0, "logprobs": 2})
    lists = old["choices"][0]["logprobs"]
    assert len(lists["tokens"]) == len(lists["token_logprobs"]) == len(lists["top_logprobs"]) == 3
    assert lists["text_offset"][0] == 0 and lists["text_offset"][1] == len(lists["tokens"][0])


def test_what_may_be_written(c):
    def write(more):
        return c.ok("/completion", {"prompt": "The answer is", "n_predict": 8, "temperature": 0, **more})["content"]

    assert write({"grammar": 'root ::= " yes" | " no"'}) in (" yes", " no")
    plain = c.ok("/completion", {"prompt": "The answer is", "n_predict": 1, "temperature": 0, "return_tokens": True})
    token = plain["tokens"][0]
    for bias in ({str(token): -100}, [[token, False]]):
        assert not write({"logit_bias": bias}).startswith(plain["content"])
    assert write({"logit_bias": [[token, 100]], "n_predict": 3}) == plain["content"] * 3
    c.refused("/completion", {"prompt": "a", "grammar": "root ::= nothing"}, 400, "grammar")
    c.refused("/completion", {"prompt": "a", "logit_bias": {"999999999": 1}}, 400)


def test_embeddings(c):
    body = {"input": ["A cat.", "A kitten.", "Nuclear physics"]}
    floats = c.ok("/v1/embeddings", body)
    vectors = [one["embedding"] for one in floats["data"]]
    assert [len(one) for one in vectors] == [576] * 3
    assert abs(sum(x * x for x in vectors[0]) - 1) < 1e-4
    assert floats["usage"]["prompt_tokens"] == floats["usage"]["total_tokens"] > 3
    packed = c.ok("/v1/embeddings", {**body, "encoding_format": "base64"})["data"]
    for one, vector in zip(packed, vectors):
        data = base64.b64decode(one["embedding"])
        assert all(abs(a - b) < 1e-6 for a, b in zip(struct.unpack("<576f", data), vector))
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])
    own = c.ok("/embedding", {"content": "A cat."})
    assert own[0]["embedding"][0] == vectors[0]
    c.refused("/v1/embeddings", {"input": ""}, 400)
    c.refused("/v1/embeddings", {"input": "a", "dimensions": 7}, 501)


def test_tokens(c):
    tokens = c.ok("/tokenize", {"content": "Grüße 🦙", "with_pieces": True})["tokens"]
    data = b"".join(one["piece"].encode() if isinstance(one["piece"], str) else bytes(one["piece"]) for one in tokens)
    assert data.decode() == "Grüße 🦙"
    assert c.ok("/detokenize", {"tokens": [one["id"] for one in tokens]})["content"] == "Grüße 🦙"
    c.refused("/detokenize", {"tokens": [-1]}, 400)
    c.refused("/tokenize", {}, 400, "content")


def test_slots(c):
    slots = c.ok("/slots")
    assert [one["id"] for one in slots] == [0, 1, 2, 3] and not any(one["is_processing"] for one in slots)
    prompt = "A prompt that is kept in a file for later use, word by word."
    first = c.ok("/completion", {"prompt": prompt, "n_predict": 4, "temperature": 0, "id_slot": 1})
    assert first["id_slot"] == 1
    saved = c.ok("/slots/1?action=save", {"filename": "kept.bin"})
    assert saved["n_saved"] > 10 and saved["n_written"] > 1000
    erased = c.ok("/slots/1?action=erase", {})
    assert erased["n_erased"] == saved["n_saved"] and c.ok("/slots")[1]["n_cached"] == 0
    restored = c.ok("/slots/2?action=restore", {"filename": "kept.bin"})
    assert restored["n_restored"] == saved["n_saved"] and restored["n_read"] == saved["n_written"]
    again = c.ok("/completion", {"prompt": prompt, "n_predict": 4, "temperature": 0, "id_slot": 2})
    assert again["content"] == first["content"] and again["timings"]["prompt_n"] <= 1
    for name in ("../kept.bin", "/etc/passwd", "", ".hidden", "a/b", "a\\b", "x" * 200, "nul\0"):
        c.refused("/slots/1?action=save", {"filename": name}, 400, "filename")
        c.refused("/slots/1?action=restore", {"filename": name}, 400, "filename")
    c.refused("/slots/1?action=restore", {"filename": "absent"}, 404)
    c.refused("/slots/9?action=erase", {}, 404)
    c.refused("/slots/1?action=else", {}, 400)


def test_what_it_tells_of_itself(c):
    stats = c.ok("/stats")
    assert stats["slots_total"] == 4 and stats["generation_tokens_per_second"] > 0 and stats["layers"] == []
    _, headers, text = c.call("/metrics")
    assert headers.get_content_type() == "text/plain"
    values = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
    assert float(values["llamacpp:tokens_predicted_total"]) > 50
    assert float(values["llamacpp:requests_processing"]) == 0
    assert 0 < float(values["powerinfer:kv_tokens"]) <= float(values["powerinfer:kv_capacity"])


def test_limits(c):
    c.refused("/completion", {"prompt": "word " * 3000}, 400, "tokens")
    c.refused("/completion", b"x" * (2 << 20), 413)
    c.refused("/completion", {}, 400, "prompt")
    c.refused("/completion", {"prompt": "a", "temperature": "hot"}, 400, "temperature")
    c.refused("/completion", {"prompt": "a", "top_p": 7}, 400, "top_p")
    c.refused("/completion", {"prompt": "a", "n_predict": 1.5}, 400, "n_predict")
    c.refused("/completion", {"prompt": "a", "lora": [{"id": 0}]}, 501, "lora")
    full = c.ok("/completion", {"prompt": "word " * 1000, "n_predict": 4096, "temperature": 0, "ignore_eos": True})
    assert full["tokens_evaluated"] + full["tokens_predicted"] == 1025, full
    assert full["truncated"] and full["stop_type"] == "limit"
    # Pages of others may not call; the page of the server itself may.
    c.refused("/completion", {"prompt": "a"}, 403, headers={"Origin": "http://evil.example"})
    assert c.call("/tokenize", {"content": "a"}, headers={"Origin": "http://" + c.address})[0] == 200


run_all(globals())
