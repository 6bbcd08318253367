"""The official `openai` package for Python, as it is, with tools. The model is held to calls by the
server's grammars; it is small, so what it says in them does not matter.

    openai_tools.py URL hermes|llama3|mistral
"""

import json
import sys
from typing import Literal

import openai
from client import run
from openai import OpenAI
from pydantic import BaseModel

URL, FORMAT = sys.argv[1:3]
c = OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=60)
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]


class Weather(BaseModel):
    """The weather of a place."""
    city: Literal["Paris", "Rome"]
    unit: Literal["celsius", "fahrenheit"]


WEATHER = openai.pydantic_function_tool(Weather, name="weather")
NOW = {"type": "function", "function": {"name": "now", "description": "The time.",
                                        "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}
SAME = dict(model="any", messages=ASK, tools=[WEATHER, NOW], max_tokens=120, temperature=0)


def call(**more):
    return c.chat.completions.create(**{**SAME, **more}).choices[0]


def is_weather(one):
    assert one.type == "function" and one.id and one.function.name == "weather", one
    Weather.model_validate_json(one.function.arguments, strict=True)


def test_demanded():
    choice = call(tool_choice="required", parallel_tool_calls=False)
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert len(choice.message.tool_calls) == 1 and choice.message.tool_calls[0].function.name in ("weather", "now")
    named = call(tool_choice={"type": "function", "function": {"name": "weather"}}, parallel_tool_calls=False)
    assert len(named.message.tool_calls) == 1
    is_weather(named.message.tool_calls[0])
    other = call(tool_choice={"type": "function", "function": {"name": "now"}}, parallel_tool_calls=False)
    assert [one.function for one in other.message.tool_calls] == [other.message.tool_calls[0].function]
    assert other.message.tool_calls[0].function.name == "now"
    assert json.loads(other.message.tool_calls[0].function.arguments) == {}


def test_choice_of_the_model():
    for choice in (call(), call(tool_choice="auto")):
        assert choice.finish_reason in ("stop", "length", "tool_calls")
        assert choice.message.content or choice.message.tool_calls
    none = call(tool_choice="none", max_tokens=16)
    assert none.message.content and none.message.tool_calls is None
    # Pushed to begin a call, it is held to write a whole one of a tool that there is.
    begin = {"hermes": "<tool_call>", "llama3": '{"', "mistral": "[TOOL_CALLS]"}[FORMAT]
    tokens = c.post("/../tokenize", cast_to=object, body={"content": begin})["tokens"]
    if len(tokens) == 1:
        choice = call(logit_bias={tokens[0]: 100}, parallel_tool_calls=False)
        assert choice.message.tool_calls[0].function.name in ("weather", "now"), choice


def test_stream():
    named = dict(tool_choice={"type": "function", "function": {"name": "weather"}}, parallel_tool_calls=False)
    whole = call(**named).message.tool_calls[0].function
    name, arguments, reasons = "", "", []
    for chunk in c.chat.completions.create(**SAME, **named, stream=True):
        for one in chunk.choices[0].delta.tool_calls or []:
            assert one.index == 0
            name += one.function.name or ""
            arguments += one.function.arguments or ""
        assert not chunk.choices[0].delta.content
        reasons.append(chunk.choices[0].finish_reason)
    assert (name, arguments) == ("weather", whole.arguments)
    assert reasons[-1] == "tool_calls" and set(reasons[:-1]) == {None}
    # The package's own reading of a stream, with arguments as objects.
    with c.chat.completions.stream(**SAME, **named) as stream:
        kinds = {event.type for event in stream}
        end = stream.get_final_completion().choices[0].message.tool_calls[0].function
    assert "tool_calls.function.arguments.done" in kinds
    assert isinstance(end.parsed_arguments, Weather) and end.arguments == whole.arguments


def test_a_round():
    """The call, what came of it, and the answer to that."""
    parsed = c.chat.completions.parse(**{**SAME, "tools": [WEATHER]}, tool_choice={"type": "function", "function": {"name": "weather"}},
                                      parallel_tool_calls=False)
    message = parsed.choices[0].message
    assert isinstance(message.tool_calls[0].function.parsed_arguments, Weather)
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny, 31 degrees."}
    # Ids are random, and in what the model reads: it may have nothing to say.
    answer = call(messages=[*ASK, message, result], tool_choice="none", max_tokens=16, extra_body={"ignore_eos": True})
    assert answer.message.content and answer.message.tool_calls is None


def test_several_answers():
    choices = c.chat.completions.create(**SAME, tool_choice="required", parallel_tool_calls=False, n=3,
                                        seed=5, extra_body={"temperature": 1}).choices
    assert [one.index for one in choices] == [0, 1, 2]
    assert all(len(one.message.tool_calls) == 1 and one.finish_reason == "tool_calls" for one in choices)
    assert len({one.message.tool_calls[0].id for one in choices}) == 3


def test_parallel_calls():
    choice = call(tool_choice="required", tools=[NOW], max_tokens=40)
    if FORMAT == "llama3":
        assert len(choice.message.tool_calls) == 1
    # The model may not find an end; what it wrote are calls all the same.
    assert choice.finish_reason in ("tool_calls", "length")
    assert all(one.function.name == "now" for one in choice.message.tool_calls)


run(globals())
