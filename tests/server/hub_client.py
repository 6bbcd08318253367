"""The client of Hugging Face's package `huggingface_hub`, as it is, which reads OpenAI's API with code of
its own, against the server.

    hub_client.py URL
"""

import json
import sys

from client import Client, run
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

URL = sys.argv[1]
c = InferenceClient(base_url=URL + "/v1", api_key="none", timeout=60)
plain = Client(URL)
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
SAME = dict(messages=ASK, max_tokens=12, temperature=0)
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}}}


def test_chat():
    whole = c.chat.completions.create(**SAME, logprobs=True, top_logprobs=2)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert "".join(one.token for one in choice.logprobs.content) == choice.message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(c.chat_completion(**SAME, stream=True, stream_options={"include_usage": True}))
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == choice.message.content and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    first = c.chat_completion(**{**SAME, "temperature": 1.5}, seed=4, stop=["\n"]).choices[0].message
    assert first.content == c.chat_completion(**{**SAME, "temperature": 1.5}, seed=4, stop=["\n"]).choices[0].message.content


def test_schema():
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    text = c.chat_completion(**{**SAME, "max_tokens": 60}, response_format=form).choices[0].message.content
    assert json.loads(text)["city"] in ("Paris", "Rome")


def test_tools():
    more = dict(tools=[WEATHER], tool_choice={"function": {"name": "weather"}}, extra_body={"parallel_tool_calls": False})
    call = c.chat_completion(**{**SAME, "max_tokens": 60}, **more).choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    name, text = "", ""
    for chunk in c.chat_completion(**{**SAME, "max_tokens": 60}, **more, stream=True):
        for one in chunk.choices[0].delta.tool_calls or []:
            name += one.function.name or ""
            text += one.function.arguments or ""
    assert (name, json.loads(text)) == ("weather", json.loads(call.function.arguments))


def test_errors():
    for body, word in ((dict(messages=[]), "messages"), (dict(messages=ASK, temperature="hot"), "temperature")):
        try:
            c.chat_completion(**body)
            raise AssertionError(body)
        except HfHubHTTPError as error:
            assert error.response.status_code == 400 and word in error.response.text, error
    stream = c.chat_completion(messages=ASK, max_tokens=900, stream=True, extra_body={"ignore_eos": True})
    next(stream)
    stream.close()
    plain.all_free()


run(globals())
