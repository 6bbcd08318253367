"""Completion: text, streams, probabilities, sampling, stopping, speculation."""

import math

import llama_cpp
import pytest
from conftest import RECORD
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "1, 2, 3, 4, 5, 6, 7,",
]
# Two tokens nearer to each other than this may change places with the arithmetic's noise.
MARGIN = 0.7


def greedy(llama, prompt, **options):
    answer = llama.create_completion(prompt, temperature=0.0, **{"max_tokens": 24, **options})
    return answer["choices"][0]["text"]


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


def test_a_seed_makes_it_repeatable(llama):
    def told(seed, **options):
        answer = llama.create_completion(PROMPTS[1], max_tokens=8, temperature=1.0, seed=seed, **options)
        return answer["choices"][0]["text"]

    texts = [told(seed) for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3] and len(set(texts)) == 3
    for options in ({"mirostat_mode": 1}, {"mirostat_mode": 2}, {"typical_p": 0.7}, {"top_k": 5},
                    {"min_p": 0.2}, {"repeat_penalty": 1.3}, {"frequency_penalty": 0.7}):
        assert told(7, **options) == told(7, **options), options


def test_one_token_is_left_by_top_k(llama):
    for options in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        answer = llama.create_completion(
            PROMPTS[0], max_tokens=8, temperature=1.5, seed=5, **{"top_k": 0, **options})
        assert answer["choices"][0]["text"] == greedy(llama, PROMPTS[0], max_tokens=8)


def test_penalties_end_a_repetition(llama):
    prompt = "na na na na na na na na"
    assert greedy(llama, prompt, max_tokens=8) == " na" * 8
    assert " na na" not in greedy(llama, prompt, max_tokens=8, repeat_penalty=2.0)
    assert " na na" not in greedy(llama, prompt, max_tokens=8, presence_penalty=20.0)


def test_logit_bias_and_processor(llama):
    paris = llama.tokenize(b" Paris", add_bos=False)[0]
    assert greedy(llama, PROMPTS[0], max_tokens=1) == " Paris"
    assert "Paris" not in greedy(llama, PROMPTS[0], logit_bias={paris: -100.0})
    rome = llama.tokenize(b" Rome", add_bos=False)[0]
    calls = []

    def only_rome(input_ids, scores):
        calls.append(len(input_ids))
        scores[:] = -1e9
        scores[rome] = 0.0
        return scores

    processors = llama_cpp.LogitsProcessorList([only_rome])
    assert greedy(llama, PROMPTS[0], max_tokens=3, logits_processor=processors) == " Rome" * 3
    assert len(calls) == 3


def test_stops(llama):
    answer = llama.create_completion(PROMPTS[3], temperature=0.0, max_tokens=24, stop=[" 10", "x"])
    assert answer["choices"][0]["text"] == " 8, 9,"
    assert answer["choices"][0]["finish_reason"] == "stop"
    n_prompt = len(llama.tokenize(PROMPTS[3].encode(), add_bos=False))
    after_4 = llama_cpp.StoppingCriteriaList([lambda ids, logits: len(ids) >= n_prompt + 4])
    text = greedy(llama, PROMPTS[3], stopping_criteria=after_4)
    whole = greedy(llama, PROMPTS[3])
    assert 0 < len(text) < len(whole) and whole.startswith(text)


def test_speculation_changes_nothing(load, llama):
    prompt = "one two three four one two three four one two three four one two"
    draft = LlamaPromptLookupDecoding(max_ngram_size=3, num_pred_tokens=6)
    proposed = []
    real = type(draft).__call__

    class Counted(LlamaPromptLookupDecoding):
        def __call__(self, input_ids, /, **more):
            found = real(self, input_ids, **more)
            proposed.append(len(found))
            return found

    fast = llama_cpp.Llama(
        model_path=llama.model_path, n_ctx=256, n_threads=2, n_threads_batch=2, flash_attn=True,
        verbose=False, draft_model=Counted(max_ngram_size=3, num_pred_tokens=6))
    text = greedy(fast, prompt, max_tokens=32)
    assert text == greedy(llama, prompt, max_tokens=32)
    assert sum(proposed) > 16 and len(proposed) < 32, "several tokens were taken at once"
    fast.close()


def test_infill_needs_tokens_that_this_vocabulary_has(llama):
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
