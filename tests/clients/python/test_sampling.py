"""How tokens are chosen, and when a text ends."""

import llama_cpp
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from texts import PROMPTS, greedy


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


def test_speculation_changes_nothing(llama):
    prompt = "one two three four one two three four one two three four one two"
    proposed = []

    class Counted(LlamaPromptLookupDecoding):
        def __call__(self, input_ids, /, **more):
            found = super().__call__(input_ids, **more)
            proposed.append(len(found))
            return found

    fast = llama_cpp.Llama(
        model_path=llama.model_path, n_ctx=256, n_threads=2, n_threads_batch=2, flash_attn=True,
        verbose=False, draft_model=Counted(max_ngram_size=3, num_pred_tokens=6))
    text = greedy(fast, prompt, max_tokens=32)
    assert text == greedy(llama, prompt, max_tokens=32)
    assert sum(proposed) > 16 and len(proposed) < 32, "several tokens were taken at once"
    fast.close()
