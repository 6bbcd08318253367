"""How the calls of functions are read out of an answer, and laid out for the model. What the model
writes is given by grammars that allow one text.

    tool_calls.py URL hermes|llama3|mistral
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from client import run_all

FORMAT = sys.argv[2]
TOOLS = [
    {"type": "function", "function": {
        "name": "weather", "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "now"}},
]
MANY = FORMAT != "llama3"  # its answers are one call at most, and nothing beside it


def written(calls):
    """The calls as the model writes them."""
    key = "parameters" if FORMAT == "llama3" else "arguments"
    texts = [json.dumps({"name": name, key: arguments}, ensure_ascii=False) for name, arguments in calls]
    if FORMAT == "hermes":
        return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)
    if FORMAT == "mistral":
        return "[TOOL_CALLS][" + ", ".join(texts) + "]"
    return texts[0]


def answer(c, text, **more):
    """The one choice of an answer with exactly this text; it is the same as a stream."""
    literal = "".join({"\n": "\\n", '"': '\\"', "\\": "\\\\"}.get(char, char) for char in text)
    body = {"messages": [{"role": "user", "content": "Go."}], "tools": TOOLS, "max_tokens": 300, "temperature": 0,
            "grammar": f'root ::= "{literal}"', **more}
    choice = c.ok("/v1/chat/completions", body)["choices"][0]
    content, calls, reason = "", [], None
    for chunk in c.stream("/v1/chat/completions", body):
        if chunk is None:
            break
        part = chunk["choices"][0]
        assert reason is None, "nothing comes after the reason"
        reason = part["finish_reason"]
        content += part["delta"].get("content") or ""
        for piece in part["delta"].get("tool_calls", []):
            if piece["index"] == len(calls):
                assert piece["id"] and piece["type"] == "function" and piece["function"]["name"]
                calls.append({"name": piece["function"]["name"], "arguments": ""})
            calls[piece["index"]]["arguments"] += piece["function"]["arguments"]
    message = choice["message"]
    assert (content, reason) == (message["content"] or "", choice["finish_reason"]), (content, reason, choice)
    assert calls == [one["function"] for one in message.get("tool_calls", [])], (calls, choice)
    return choice


def check(c, cases, **more):
    """Several of them at once: the texts, and what each comes to."""
    with ThreadPoolExecutor() as pool:
        running = [(pool.submit(answer, c, text, **more), expected) for text, *expected in cases]
        for one, (of, *expected) in running:
            of(one.result(), *expected)


def is_calls(choice, calls, content=None):
    message = choice["message"]
    assert choice["finish_reason"] == "tool_calls" and message["content"] == content, choice
    assert [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in message["tool_calls"]] == calls, choice
    ids = [one["id"] for one in message["tool_calls"]]
    assert len(set(ids)) == len(ids) and all(one["type"] == "function" for one in message["tool_calls"])


def is_text(choice, text, reason="stop"):
    assert choice["message"]["content"] == text and "tool_calls" not in choice["message"], choice
    assert choice["finish_reason"] == reason, choice


def test_calls(c):
    one = [("weather", {"city": "Paris"})]
    # The end of a call within a call's text; characters of several bytes, and of several tokens.
    odd = [("weather", {"city": 'a}b{ "c" \\ </tool_call>]\nGrüße 🦙', "more": {"deep": [{}, {"a": None}]}})]
    cases = [(written(calls), is_calls, calls) for calls in (one, odd, [("now", {})])]
    if MANY:
        two = [("weather", {"city": "Paris"}), ("now", {})]
        cases += [(written(two), is_calls, two), ("I look.\n" + written(two), is_calls, two, "I look.\n")]
    check(c, cases)


def test_text(c):
    plain = ["Nothing.", "1 < 2 and [a] and {b}", "<tool", "[TOOL", " a <tool_ca", " [TOOL_CALL ] {"]
    # What looks like a call and is none stays text.
    alike = ["{a}", '{"b": 1}', '{"name": 3, "arguments": {}}', "<tool_call>\nno\n</tool_call>", "[TOOL_CALLS]no"]
    check(c, [(text, is_text, text) for text in plain + alike])
    # A call is text where there are no tools, and where they are not to be called.
    text = written([("now", {})])
    check(c, [(text, is_text, text)], tools=[])
    check(c, [(text, is_text, text)], tool_choice="none")


def test_cut_off(c):
    text = written([("weather", {"city": "Paris"})])
    # Not half a call: what there is of it, as text.
    choice = answer(c, text, max_tokens=10)
    assert choice["finish_reason"] == "length" and "tool_calls" not in choice["message"], choice
    assert choice["message"]["content"] and text.startswith(choice["message"]["content"])
    if MANY:
        text = written([("now", {}), ("weather", {"city": "Paris"})])
        n = len(c.ok("/tokenize", {"content": text})["tokens"])
        choice = answer(c, text, max_tokens=n - 8)
        assert choice["finish_reason"] == "length" and choice["message"]["content"] is None, choice
        assert [one["function"]["name"] for one in choice["message"]["tool_calls"]] == ["now"], choice


def test_stop_words_and_odds(c):
    text = written([("now", {})])
    choice = answer(c, text, logprobs=True, top_logprobs=1)
    assert "".join(one["token"] for one in choice["logprobs"]["content"]) == text
    shown = "Some words. " + (text if MANY else "")
    is_text(answer(c, shown, stop=["words"]), "Some ")


def test_layout(c):
    # Mistral's templates are strict about it; openai_tools.py takes it from the answer.
    name = "abc123XYZ" if FORMAT == "mistral" else "call_1"
    calls = [{"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}]
    messages = [{"role": "user", "content": "Is it hot?"}, {"role": "assistant", "tool_calls": calls},
                {"role": "tool", "tool_call_id": name, "content": "31 degrees"}]
    prompt = c.ok("/apply-template", {"messages": messages, "tools": TOOLS})["prompt"]
    assert "The weather of a place" in prompt and '"city": "Paris"' in prompt.replace('":"', '": "')
    assert prompt.index("Is it hot?") < prompt.index("Paris") < prompt.index("31 degrees")
    # Only the tool that is demanded is shown.
    named = {"messages": messages, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "now"}}}
    assert "The weather of a place" not in c.ok("/apply-template", named)["prompt"]
    # No content needs to be there with calls; without, it does.
    c.refused("/v1/chat/completions", {"messages": [{"role": "assistant"}]}, 400, "content")


def test_refusals(c):
    def refused(words, status=400, **more):
        body = {"messages": [{"role": "user", "content": "Go."}], "tools": TOOLS, **more}
        c.refused("/v1/chat/completions", body, status, words)

    refused("tool_choice", tool_choice="perhaps")
    refused("no tool", tool_choice={"type": "function", "function": {"name": "absent"}})
    refused("tool_choice", tools=[], tool_choice="required")
    refused("list", tools={})
    refused("name", tools=[{"type": "function", "function": {}}])
    refused("functions", 501, tools=[{"type": "retrieval"}])
    refused("functions", 501, functions=[{"name": "a"}])
    refused("schema", tools=[{"type": "function", "function": {"name": "a", "parameters": {"type": "nonsense"}}}])
    broken = [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{"}}]
    refused("arguments", messages=[{"role": "assistant", "tool_calls": broken}])


run_all(globals())
