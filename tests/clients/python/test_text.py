"""Completion: text, streams, probabilities, prompts that do not fit."""

import math

import llama_cpp
import pytest
from conftest import RECORD
from texts import PROMPTS, greedy

# Two tokens nearer to each other than this may change places with the arithmetic's noise.
MARGIN = 0.7


def stable_text(llama, prompt):
    """The greedy text up to the first choice that was close."""
    # The binding sorts the vocabulary for each token: few of them.
    answer = llama.create_completion(prompt, temperature=0.0, max_tokens=16, logprobs=2)
    text = ""
    logprobs = answer["choices"][0]["logprobs"]
    for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"]):
        best = sorted(top.values(), reverse=True)
        if best[0] - best[1] < MARGIN:
            break
        text += token
    return text


@pytest.mark.parametrize("prompt", PROMPTS, ids=["capital", "story", "code", "numbers"])
def test_greedy_text_is_the_references(llama, llama_logits, prompt, golden):
    text = greedy(llama, prompt)
    assert greedy(llama_logits, prompt) == text
    stable = golden(stable_text(llama_logits, prompt) if RECORD else None)
    assert stable and text.startswith(stable)


def test_a_stream_is_the_whole(llama):
    whole = llama.create_completion(PROMPTS[1], temperature=0.0, max_tokens=24)
    parts = list(llama.create_completion(PROMPTS[1], temperature=0.0, max_tokens=24, stream=True))
    assert len(parts) > 20
    assert "".join(part["choices"][0]["text"] for part in parts) == whole["choices"][0]["text"]
    assert parts[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"


def test_characters_of_several_tokens_arrive_whole(llama):
    # Forced, so that it does not depend on what the model would say.
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "日本語 🦙!"', verbose=False)
    parts = llama.create_completion("Say: ", temperature=0.0, max_tokens=32, stream=True, grammar=grammar)
    texts = [part["choices"][0]["text"] for part in parts]
    assert "".join(texts) == "日本語 🦙!"
    assert not any("\ufffd" in text for text in texts)


# With echo the binding takes it that the first token is BOS.
BOS = "<|im_start|>"


def test_logprobs_are_probabilities(llama_logits):
    prompt = BOS + PROMPTS[0]
    answer = llama_logits.create_completion(
        prompt, temperature=0.0, max_tokens=4, logprobs=5, echo=True)
    choice = answer["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"].startswith(prompt)
    assert BOS + "".join(logprobs["tokens"]) == choice["text"]
    n_prompt = len(llama_logits.tokenize(PROMPTS[0].encode(), add_bos=False))
    assert len(logprobs["tokens"]) == n_prompt + 4
    assert logprobs["token_logprobs"][0] is None, "nothing comes before the first token"
    rows = list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]))
    for token, own, top in rows[1:]:
        assert own <= 0.0 and len(top) in (5, 6)
        assert sum(map(math.exp, top.values())) <= 1.0 + 1e-4
        assert top[token] == pytest.approx(own)
    for _, own, top in rows[n_prompt:]:
        assert own == max(top.values()), "greedy: the chosen one is the best"


def test_logprobs_of_a_text_are_the_references(llama_logits, golden):
    text = BOS + "The river was high that spring, and nobody crossed it without need."
    answer = llama_logits.create_completion(text, temperature=0.0, max_tokens=1, logprobs=1, echo=True)
    ours = answer["choices"][0]["logprobs"]["token_logprobs"][1:-1]
    expected = golden([round(float(x), 4) for x in ours])
    difference = [a - b for a, b in zip(ours, expected, strict=True)]
    assert math.sqrt(sum(d * d for d in difference) / len(difference)) < 0.25
    assert abs(sum(difference)) / len(difference) < 0.08


def test_a_text_with_a_suffix(llama):
    answer = llama.create_completion(
        "def add(a, b):\n    return", suffix="\n", max_tokens=4, temperature=0.0)
    assert answer["usage"]["completion_tokens"] == 4


def test_a_prompt_longer_than_the_context_is_refused(llama):
    with pytest.raises(ValueError, match="exceed context window of 256"):
        llama.create_completion("a " * 300)


def test_a_batch_that_does_not_fit_is_refused(llama):
    # n_past goes beyond the context: decode says so, and the context is usable afterwards.
    llama.eval(llama.tokenize(b"a " * 120))
    with pytest.raises(RuntimeError, match="llama_decode returned 1"):
        for _ in range(3):
            llama.eval(llama.tokenize(b"b " * 100))
    llama.reset()
    assert greedy(llama, PROMPTS[0], max_tokens=1) == " Paris"
