"""Chat, grammars, JSON mode, tool calls."""

import json
import re

import llama_cpp
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def said(llama, messages, **options):
    answer = llama.create_chat_completion(messages, temperature=0.0, **{"max_tokens": 24, **options})
    return answer["choices"][0]["message"]["content"]


def test_the_models_own_template_is_used(llama):
    template = llama.metadata["tokenizer.chat_template"]
    assert llama.chat_format == "chat_template.default" and "<|im_start|>" in template
    text = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
            "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
            "<|im_start|>assistant\n")
    by_hand = llama.create_completion(text, temperature=0.0, max_tokens=24, stop=["<|im_end|>"])
    assert said(llama, QUESTION) == by_hand["choices"][0]["text"] != ""


def test_llama_chat_apply_template(llama):
    message = llama_cpp.llama_chat_message(role=b"user", content=b"Hi")
    chat = (llama_cpp.llama_chat_message * 1)(message)
    buffer = bytes(128)
    n = llama_cpp.llama_chat_apply_template(b"chatml", chat, 1, True, buffer, len(buffer))
    assert buffer[:n] == b"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_streamed_answer_is_the_whole(llama):
    parts = list(llama.create_chat_completion(QUESTION, temperature=0.0, max_tokens=24, stream=True))
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant"}
    text = "".join(part["choices"][0]["delta"].get("content", "") for part in parts)
    assert text == said(llama, QUESTION)


def test_a_conversation_continues_in_the_cache(llama):
    first = said(llama, QUESTION)
    more = QUESTION + [{"role": "assistant", "content": first},
                       {"role": "user", "content": "And of Italy?"}]
    n_kept = llama.n_tokens
    warm = said(llama, more)
    assert llama.n_tokens > n_kept > 20
    llama.reset()
    assert said(llama, more) == warm


GRAMMARS = {
    "date": (r'root ::= [0-9]{4} "-" [0-1] [0-9] "-" [0-3] [0-9]', r"\d{4}-[01]\d-[0-3]\d"),
    "choice": ('root ::= ("red" | "green" | "blue") "!"', r"(red|green|blue)!"),
    "list": ('root ::= "[" item ("," item){2} "]"\nitem ::= [a-z]{1,4}', r"\[[a-z]{1,4}(,[a-z]{1,4}){2}\]"),
    "unicode": ('root ::= [あ-ん]{3}', r"[あ-ん]{3}"),
}


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_grammar_holds(llama, name, temperature):
    source, pattern = GRAMMARS[name]
    grammar = llama_cpp.LlamaGrammar.from_string(source, verbose=False)
    answer = llama.create_completion(
        "Answer: ", grammar=grammar, temperature=temperature, seed=3, max_tokens=64)
    assert re.fullmatch(pattern, answer["choices"][0]["text"])
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_wrong_grammar_is_no_sampler(llama):
    # The binding does not look, and adds what it got to a chain: with llama.cpp that is a crash.
    vocab = llama._model.vocab
    assert not llama_cpp.llama_sampler_init_grammar(vocab, b"root ::= (", b"root")
    grammar = llama_cpp.LlamaGrammar.from_string("root ::= (", verbose=False)
    answer = llama.create_completion("a", grammar=grammar, max_tokens=1)
    assert answer["usage"]["completion_tokens"] == 1


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "colour": {"enum": ["red", "green", "blue"]},
    },
    "required": ["name", "age", "colour"],
}


def test_json_by_a_schema(llama):
    text = said(llama, [{"role": "user", "content": "Describe a person as JSON."}], max_tokens=96,
                response_format={"type": "json_object", "schema": SCHEMA})
    person = json.loads(text)
    assert set(person) == {"name", "age", "colour"}
    assert isinstance(person["name"], str) and isinstance(person["age"], int)
    assert person["colour"] in SCHEMA["properties"]["colour"]["enum"]


def test_json_mode(llama):
    # The model may never end of itself: what was written is the beginning of JSON.
    text = said(llama, [{"role": "user", "content": 'Write {"a": 1} as JSON, nothing else.'}],
                max_tokens=96, response_format={"type": "json_object"})
    assert text.lstrip().startswith("{")
    decoder = json.JSONDecoder()
    try:
        decoder.raw_decode(text.lstrip())
    except json.JSONDecodeError as error:
        assert error.pos >= len(text.lstrip()) - 1 or "Unterminated" in error.msg or "Expecting" in error.msg


def test_a_tool_is_called(llama):
    tool = {"type": "function", "function": {
        "name": "weather", "description": "weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}},
                       "required": ["city"]}}}
    llama_fc = llama_cpp.llama_chat_format.get_chat_completion_handler("chatml-function-calling")
    answer = llama_fc(
        llama=llama, messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        tools=[tool], tool_choice={"type": "function", "function": {"name": "weather"}},
        temperature=0.0, max_tokens=32)
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    assert call["name"] == "weather"
    assert json.loads(call["arguments"])["city"] in ("Paris", "Rome")
