#!/usr/bin/env python3
"""Writes tests/data/jinja.json: what Jinja2 (PyPI: jinja2 3.1.6) makes of chat templates.

    python3 tests/tools/jinja_goldens.py > tests/data/jinja.json

The environment is set up as transformers' `apply_chat_template` sets it up: an immutable sandbox with
trim_blocks, lstrip_blocks and loop controls, a filter `tojson` that is `json.dumps`, and
`raise_exception`. The templates are written for this test; together they use what templates of
published models use. `null` stands for an exception.
"""

import itertools
import json
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATES = {
    "turns": """{% for message in messages %}
{% if loop.first and message['role'] != 'system' %}
{{ '[sys]be brief[/sys]\n' }}
{%- endif %}
{{ '<' + message['role'] + '>' }}{{ message.content | trim }}{{ '</' ~ message.role ~ '>\n' }}
{%- endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}
""",
    "alternating": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
  {%- set system = messages[0]['content'] -%}{%- set rest = messages[1:] -%}
{%- else -%}
  {%- set rest = messages -%}
{%- endif -%}
{%- for m in rest if m.role not in ['tool'] -%}
  {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('Roles must alternate, got ' + m.role) -}}
  {%- endif -%}
  {%- if m.role == 'user' -%}
    [I] {%- if loop.last and system is defined -%}{{ '<<' ~ system ~ '>> ' }}{%- endif -%} {{ m.content }} [/I]
  {%- else -%} {{ m.content ~ eos_token }} {%- endif -%}
{%- endfor -%}""",
    "tools": """{%- if tools is not none and tools -%}
{{ 'tools:\n' }}
    {%- for tool in tools -%}
        {%- set f = tool.function if tool.function is defined else tool -%}
{{ f.name }}({% for name, p in f.parameters.properties.items() %}{{ name }}: {{ p.type | upper }}{{ "=" ~ p.default | tojson if p.default is defined }}{{ ", " if not loop.last }}{% endfor %})
{{ tool | tojson(indent=2) }}
{{ tool | tojson }}
{{ tool | tojson(separators=(',', ':'), sort_keys=true) }}
    {%- endfor -%}
{%- endif -%}
{%- for m in messages -%}
{%- if m.tool_calls -%}
{%- for call in m.tool_calls -%}
{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}
{%- if call.id is string and call.id | length > 3 %} #{{ call['id'][-3:] }}{% endif -%}
{%- endfor -%}
{%- elif m.content is string -%}{{ m.content | tojson(ensure_ascii=true) }}
{%- elif m.content is mapping or m.content is iterable -%}
{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('|') }}
{%- else -%}{{ m.content }}{%- endif -%};
{%- endfor -%}""",
    "thinking": """{%- macro visible(content) -%}
  {%- if content is string -%}{{- content -}}
  {%- elif content is iterable and content is not mapping -%}
    {%- for part in content -%}{%- if part.type == 'text' -%}{{- part.text -}}{%- else -%}({{ part.type }}){%- endif -%}{%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last=-1, tools=0) -%}
{%- for m in messages[::-1] -%}
  {%- set at = (messages | length - 1) - loop.index0 -%}
  {%- if ns.last < 0 and m.role == 'user' -%}{%- set ns.last = at -%}{%- endif -%}
  {%- if m.role == 'tool' -%}{%- set ns.tools = ns.tools + 1 -%}{%- continue -%}{%- endif -%}
{%- endfor -%}
last {{ ns.last }} of {{ messages | length }}, {{ ns.tools }} tools
{% for m in messages %}
    {%- set content = visible(m.content) %}
    {%- if m.role == 'assistant' and '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- if loop.index0 > ns.last %}({{ reasoning.strip() }}){% endif %}
    {%- endif %}
{{ loop.index }}{{ loop.cycle('a', 'b') }} {{ m.role.title() }}: {{ content.replace('\n', ' / ') }}{% if content.startswith('He') or content.endswith('?') %} !{% endif %}

{% endfor %}
{%- if add_generation_prompt -%}
{{ '<think>\n' if enable_thinking is not defined or enable_thinking else '<think></think>' }}
{%- endif %}""",
    "values": """{{ true }} {{ none }} {{ 1.0 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ -7 % 3 }} {{ 2 ** 5 }} {{ [1, 'a', none, false] }} {{ {'a': [1.5, "b'c"]} }}
{{ missing }}|{{ missing | default('d') }}|{{ '' | default('e', true) }}|{{ missing is none }}
{{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ [3, 1, 2] | sort }} {{ [3, 1, 2] | first }} {{ 'a,b' .split(',') | last }}
{% set x = [] %}{% for m in messages %}{% set x = x + [m.role] %}{% endfor %}{{ x }}
{% for c in 'abc' %}{% if loop.index == 3 %}{% break %}{% endif %}{{ c }}{% if not loop.last %}-{% endif %}{% else %}none{% endfor %}
{%- set captured %}  in {{ messages[0].role }} {% endset %}
{{ captured | trim | upper | replace('I', '1') }} {{ 'x' if captured else 'y' }} {{ messages[-1]['nothing'] is undefined }}
{{ messages | map(attribute='role') | list | unique | join(', ') }} {{ '%s=%d' | format('n', 3) }} {{ 'a b' | capitalize }} {{ ' x ' | trim | length }}
{{ 'system' in messages | map(attribute='role') | list }} {{ (messages | rejectattr('role', 'equalto', 'user') | list | length) }}
{{ "tab\\tquote\\"" }} {{ '<&>' }} {{ messages[0] is mapping and messages is sequence and 1 is number and 'a' is string }}
{{ {'b': 1, 'a': 2} | dictsort }} {{ {'k': 'v'}.get('k') }} {{ {'k': 'v'}.get('z', 'none') }} {{ {'b': 1, 'a': 2}.keys() | list }}
""",
}

USER = {"role": "user", "content": "Hello, how are you?"}
SYSTEM = {"role": "system", "content": "  Answer in one line. "}
ANSWER = {"role": "assistant", "content": "<think>\nhm, \"fine\"\n</think>\n\nFine.\nAnd you?"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_12345", "type": "function", "function": {
            "name": "weather", "arguments": {"city": "Zürich 🏔", "days": 3, "exact": True, "unit": None}}},
        {"id": "x", "type": "function", "function": {"name": "time", "arguments": {}}},
    ],
}
RESULT = {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "call_12345"}
PARTS = {"role": "user", "content": [
    {"type": "text", "text": "What is this"}, {"type": "image"}, {"type": "text", "text": "?"}]}
CONVERSATIONS = [
    [USER],
    [SYSTEM, USER],
    [USER, ANSWER, {"role": "user", "content": "Well\n\ttoo. \u007f\u2028"}],
    [SYSTEM, USER, CALL, RESULT, ANSWER],
    [PARTS],
    [USER, USER],
    [],
]
TOOLS = [
    {"type": "function", "function": {
        "name": "weather", "description": "The weather, soon & <here>",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "enum": []}, "days": {"type": "integer", "default": 1}}}}},
    {"name": "time", "parameters": {"properties": {}}},
]


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def main():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for (name, template), (i, messages), tools, thinking, prompt in itertools.product(
            TEMPLATES.items(), enumerate(CONVERSATIONS), [None, TOOLS], [None, False], [False, True]):
        if (tools and name != "tools") or (thinking is not None and name != "thinking"):
            continue
        variables = {} if thinking is None else {"enable_thinking": thinking}
        try:
            text = env.from_string(template).render(
                messages=messages, tools=tools, documents=None, add_generation_prompt=prompt,
                **special, **variables)
        except Exception as e:
            print(f"{name} {i}: {e}", file=sys.stderr)
            text = None
        cases.append({"template": name, "conversation": i, "tools": tools is not None,
                      "variables": variables, "prompt": prompt, "text": text})
    # As texts: the order of keys matters to templates.
    json.dump({"templates": TEMPLATES, "conversations": [json.dumps(c) for c in CONVERSATIONS],
               "tools": json.dumps(TOOLS), "cases": cases}, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
