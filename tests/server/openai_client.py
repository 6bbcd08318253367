"""The official `openai` package for Python, as it is, against the server.

    openai_client.py URL
"""

import asyncio
import json
import math
import sys
import time
from typing import Literal

import openai
from client import Client, run
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

URL = sys.argv[1]
PROMPT = "The capital of France is"
ASK = [{"role": "user", "content": "Name three colours."}]

plain = Client(URL)  # for what is not OpenAI's


def client(**more):
    return OpenAI(**{"base_url": URL + "/v1", "api_key": "none", "max_retries": 0, "timeout": 60, **more})


c = client()
MODEL = c.models.list().data[0].id


def complete(**more):
    return c.completions.create(**{"model": MODEL, "prompt": PROMPT, "max_tokens": 16, "temperature": 0, **more})


def chat(**more):
    return c.chat.completions.create(**{"model": MODEL, "messages": ASK, "max_tokens": 16, "temperature": 0, **more})


def read_json(choice):
    """What a finished answer says in JSON."""
    assert choice.finish_reason == "stop", choice
    return json.loads(choice.message.content)


def raises(kind, status, words, call):
    """The call is answered by this exception; its body."""
    try:
        answer = call()
    except kind as error:
        assert type(error) is kind and error.status_code == status, repr(error)
        assert words in error.message and error.body["message"] and error.type, repr(error)
        return error
    raise AssertionError(answer)


def test_models():
    models = c.models.list()
    assert [one.id for one in models] == [MODEL] and models.data[0].object == "model"
    one = c.models.retrieve(MODEL)
    assert one.id == MODEL and abs(one.created - time.time()) < 3600 and one.owned_by == "powerinfer"
    raises(openai.NotFoundError, 404, "other", lambda: c.models.retrieve("other"))


def test_completion():
    whole = complete()
    assert whole.object == "text_completion" and whole.model == MODEL and whole.id.startswith("cmpl-")
    choice = whole.choices[0]
    assert choice.text.startswith(" Paris") and choice.finish_reason == "length" and choice.logprobs is None
    assert whole.usage.completion_tokens == 16
    assert whole.usage.total_tokens == 16 + whole.usage.prompt_tokens

    text, usage = "", None
    with complete(stream=True, stream_options={"include_usage": True}) as stream:
        for chunk in stream:
            assert chunk.object == "text_completion"
            text += "".join(one.text for one in chunk.choices)
            usage = chunk.usage
    assert text == choice.text
    assert usage.completion_tokens == 16 and usage.prompt_tokens == whole.usage.prompt_tokens
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1
    assert all(chunk.usage is None for chunk in complete(stream=True))

    # Tokens instead of text; several prompts with several answers to each.
    tokens = plain.ok("/tokenize", {"content": PROMPT, "add_special": True})["tokens"]
    assert complete(prompt=tokens).choices[0].text == choice.text
    many = complete(prompt=[PROMPT, "One two three"], n=2)
    assert [one.index for one in many.choices] == [0, 1, 2, 3]
    assert many.choices[0].text == many.choices[1].text == choice.text
    assert many.choices[2].text == many.choices[3].text != choice.text
    streamed = {}
    for chunk in complete(prompt=[PROMPT, "One two three"], n=2, stream=True):
        for one in chunk.choices:
            streamed[one.index] = streamed.get(one.index, "") + one.text
    assert streamed == {one.index: one.text for one in many.choices}


def test_chat():
    whole = chat()
    message = whole.choices[0].message
    assert whole.object == "chat.completion" and message.role == "assistant" and message.content
    assert message.tool_calls is None and message.refusal is None
    assert whole.choices[0].finish_reason in ("stop", "length")
    # max_tokens in its newer spelling, and content in parts.
    parts = [{"role": "user", "content": [{"type": "text", "text": "Name three "}, {"type": "text", "text": "colours."}]}]
    again = chat(messages=parts, max_tokens=openai.omit, max_completion_tokens=16)
    assert again.choices[0].message.content == message.content

    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].object == "chat.completion.chunk"
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == message.content
    assert [one.choices[0].finish_reason for one in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert len({one.id for one in chunks}) == 1
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens

    # The package's own reading of a stream, with events.
    with c.chat.completions.stream(model=MODEL, messages=ASK, max_tokens=16, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
    assert text == message.content

    raw = c.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=1)
    assert raw.status_code == 200 and raw.headers["content-type"].startswith("application/json")
    assert raw.parse().usage.completion_tokens == 1


def test_conversation():
    messages = [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "Hello!"}]
    first = chat(messages=messages).choices[0].message
    messages += [first, {"role": "user", "content": "And now?"}]
    second = chat(messages=messages)
    assert second.choices[0].message.content
    # The conversation so far is in the cache.
    assert second.usage.prompt_tokens_details.cached_tokens > 20


def test_choices_and_seeds():
    wild = dict(n=3, temperature=1.5, seed=11)
    first = [one.message.content for one in chat(**wild).choices]
    assert len(first) == 3 and len(set(first)) == 3
    assert first == [one.message.content for one in chat(**wild).choices]
    assert first != [one.message.content for one in chat(**{**wild, "seed": 12}).choices]
    streamed = {}
    for chunk in chat(**wild, stream=True):
        for one in chunk.choices:
            streamed[one.index] = streamed.get(one.index, "") + (one.delta.content or "")
    assert [streamed[i] for i in range(3)] == first


def test_stop():
    text = chat(max_tokens=24).choices[0].message.content
    word = text[8:12]
    for stop in (word, ["never there", word]):
        one = chat(max_tokens=24, stop=stop).choices[0]
        assert one.message.content == text[:text.index(word)] and one.finish_reason == "stop"
        chunks = list(chat(max_tokens=24, stop=stop, stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == text[:text.index(word)]
    text = complete().choices[0].text
    assert complete(stop=text[4:7]).choices[0].text == text[:text.index(text[4:7])]


def test_logprobs():
    choice = chat(logprobs=True, top_logprobs=4).choices[0]
    odds = choice.logprobs.content
    assert "".join(one.token for one in odds) == choice.message.content
    for one in odds:
        assert len(one.top_logprobs) == 4 and one.token == one.top_logprobs[0].token
        assert one.logprob == one.top_logprobs[0].logprob <= 0 and bytes(one.bytes).decode() == one.token
        assert sum(math.exp(top.logprob) for top in one.top_logprobs) <= 1.0001
    assert chat(logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    streamed = []
    for chunk in chat(logprobs=True, top_logprobs=4, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert streamed == odds
    choice = complete(logprobs=3).choices[0]
    lists = choice.logprobs
    assert "".join(lists.tokens) == choice.text and len(lists.token_logprobs) == 16
    assert all(len(top) == 3 and top[token] == logprob for top, token, logprob
               in zip(lists.top_logprobs, lists.tokens, lists.token_logprobs))
    for token, offset in zip(lists.tokens, lists.text_offset):
        assert choice.text[offset:].startswith(token)


def test_biases_and_penalties():
    token = plain.ok("/tokenize", {"content": " Paris"})["tokens"]
    assert len(token) == 1
    assert not complete(logit_bias={str(token[0]): -100}).choices[0].text.startswith(" Paris")
    assert complete(logit_bias={str(token[0]): 100}, max_tokens=3).choices[0].text == " Paris" * 3
    # But for what was said already.
    for penalty in ("frequency_penalty", "presence_penalty"):
        text = complete(logit_bias={str(token[0]): 100}, **{penalty: 1000}).choices[0].text
        assert text.startswith(" Paris") and text.count(" Paris") == 1, text


def test_grammar_of_llama_cpp():
    body = {"grammar": 'root ::= "yes" | "no"'}
    assert chat(extra_body=body).choices[0].message.content in ("yes", "no")


def test_embeddings():
    texts = ["A cat.", "A kitten.", "Nuclear physics"]
    # As the package asks when nothing is said: in base64, which it unpacks.
    vectors = [one.embedding for one in c.embeddings.create(model=MODEL, input=texts).data]
    floats = c.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert [one.index for one in floats.data] == [0, 1, 2] and floats.usage.prompt_tokens > 3
    for one, vector in zip(floats.data, vectors):
        assert len(vector) == 576 and abs(sum(x * x for x in vector) - 1) < 1e-4
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, vector))
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])
    one = c.embeddings.create(model=MODEL, input=texts[0]).data
    assert len(one) == 1 and one[0].embedding == vectors[0]
    tokens = plain.ok("/tokenize", {"content": texts[0], "add_special": True})["tokens"]
    assert c.embeddings.create(model=MODEL, input=tokens).data[0].embedding == vectors[0]
    assert len(c.embeddings.create(model=MODEL, input=[tokens, tokens]).data) == 2


def test_json():
    ask = [{"role": "user", "content": "Tell me about Paris in JSON."}]
    # Without a schema it finds no end by itself; pushed to end, it ends where an object may.
    end = {str(plain.ok("/tokenize", {"content": text})["tokens"][0]): 50 for text in ('"', "}")}
    body = read_json(chat(messages=ask, max_tokens=60, response_format={"type": "json_object"}, logit_bias=end).choices[0])
    assert isinstance(body, dict)

    class City(BaseModel):
        name: str = Field(max_length=12)
        inhabitants: int = Field(ge=0, le=99_999_999)
        capital: bool
        rivers: list[Literal["Seine", "Tiber"]] = Field(max_length=2)

    schema = {"name": "city", "strict": True,
              "schema": {**City.model_json_schema(), "additionalProperties": False}}
    body = read_json(chat(messages=ask, max_tokens=100, response_format={"type": "json_schema", "json_schema": schema}).choices[0])
    City.model_validate(body, strict=True)
    # The package writes the schema of a class, and reads the answer into one.
    whole = c.chat.completions.parse(model=MODEL, messages=ask, max_tokens=100, temperature=0, response_format=City)
    assert isinstance(whole.choices[0].message.parsed, City)
    assert whole.choices[0].message.parsed == City.model_validate(body)
    with c.chat.completions.stream(model=MODEL, messages=ask, max_tokens=100, temperature=0, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == City.model_validate(body)
    raises(openai.BadRequestError, 400, "schema",
           lambda: chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "no such"}}}))
    raises(openai.BadRequestError, 400, "response_format", lambda: chat(response_format={"type": "xml"}))


def test_errors():
    raises(openai.BadRequestError, 400, "temperature", lambda: chat(temperature="hot"))
    raises(openai.BadRequestError, 400, "messages", lambda: chat(messages=[]))
    raises(openai.BadRequestError, 400, "top_logprobs", lambda: chat(top_logprobs=2))
    raises(openai.BadRequestError, 400, "stream_options", lambda: chat(stream_options=3))
    error = raises(openai.BadRequestError, 400, "tokens", lambda: complete(prompt="word " * 3000))
    assert error.code and error.request is not None
    raises(openai.NotFoundError, 404, "/v1/nothing", lambda: c.get("/nothing", cast_to=object))
    raises(openai.NotFoundError, 404, "/v1/responses", lambda: c.responses.create(model=MODEL, input="a"))
    # What is not supported is said, and not left out.
    for body in ({"suffix": "end"}, {"echo": True}, {"best_of": 2}):
        raises(openai.InternalServerError, 501, next(iter(body)), lambda: complete(**body))
    # And it is not asked for again.
    patient = client(max_retries=2)
    error = raises(openai.InternalServerError, 501, "suffix", lambda: patient.completions.create(model=MODEL, prompt="a", suffix="b"))
    assert error.request.headers["x-stainless-retry-count"] == "0"
    raises(openai.BadRequestError, 400, "tools", lambda: chat(tools=[{"type": "function", "function": {"name": "a"}}]))
    # A page of another origin.
    foreign = client(default_headers={"Origin": "http://elsewhere.example"})
    raises(openai.PermissionDeniedError, 403, "elsewhere", foreign.models.list)
    try:
        complete(max_tokens=1000, timeout=0.2)
        raise AssertionError("no time-out")
    except openai.APITimeoutError:
        pass
    plain.all_free()


def test_many_at_once():
    async def ask():
        async with AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0) as a:
            async def one(prompt):
                whole = await a.completions.create(model=MODEL, prompt=prompt, max_tokens=12, temperature=0)
                return whole.choices[0].text

            async def streamed(prompt):
                stream = await a.completions.create(model=MODEL, prompt=prompt, max_tokens=12, temperature=0, stream=True)
                return "".join([chunk.choices[0].text async for chunk in stream])

            prompts = [f"{PROMPT} {i}" for i in range(8)]
            both = [call(prompt) for prompt in prompts for call in (one, streamed)]
            return prompts, await asyncio.gather(*both)

    prompts, texts = asyncio.run(ask())
    alone = [complete(prompt=prompt, max_tokens=12).choices[0].text for prompt in prompts]
    assert texts[::2] == alone and texts[1::2] == alone


def test_a_stream_that_is_left():
    stream = complete(max_tokens=1000, stream=True, extra_body={"ignore_eos": True})
    for _ in range(3):
        next(stream)
    assert any(one["is_processing"] for one in plain.ok("/slots"))
    stream.close()
    plain.all_free()

    async def leave():
        async with AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0) as a:
            call = a.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1000, extra_body={"ignore_eos": True})
            await asyncio.wait_for(call, 0.3)

    try:
        asyncio.run(leave())
        raise AssertionError("not left")
    except TimeoutError:
        pass
    plain.all_free()


run(globals())
