#!/usr/bin/env python3
"""Chat template goldens: what llama.cpp makes of some conversations in every built-in format, and
which format it recognises in texts with the marks of several.

    chat_golden.py > tests/data/chat.json

Needs llama-cpp-python 0.3.36 (llama.cpp 0c1e57098).
"""
import ctypes
import json
import random

import llama_cpp as L

quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)


def names():
    n = L.llama_chat_builtin_templates(None, 0)
    out = (ctypes.c_char_p * n)()
    L.llama_chat_builtin_templates(out, n)
    return [x.decode() for x in out]


def apply(template, messages, add_assistant):
    chat = [L.llama_chat_message(role=r.encode(), content=c.encode()) for r, c in messages]
    array = (L.llama_chat_message * max(1, len(chat)))(*chat)
    buf = ctypes.create_string_buffer(1 << 14)
    n = L.llama_chat_apply_template(template.encode(), array, len(chat), add_assistant, buf, len(buf))
    return buf.raw[:n].decode() if n >= 0 else None


CONVERSATIONS = [
    [["system", "  You are helpful. \n"], ["user", " Hi!\n"], ["assistant", "\v Hello \t"], ["user", "1 + 1?"]],
    [["user", "No system"], ["assistant", "yes"], ["user", "{role} {content} ünïcode 你好"]],
    [["system", "one"], ["system", " two"], ["user", "a"], ["user", "b"], ["assistant", "c"], ["assistant", " d"], ["system", "late"], ["model", " m "], ["user", "e"]],
    [["assistant", "starts"], ["tool", " result "], ["function", "f"], ["assistant_tool_call", " call "], ["tool_response", "r"], ["developer", "dev"], ["", "nobody"], ["user", ""]],
    [],
    [["system", "only system"]],
]

# Every text that some rule looks for.
MARKS = """<|im_start|> <|im_sep|> <end_of_utterance> mistral [INST] [SYSTEM_PROMPT] [AVAILABLE_TOOLS] <<SYS>> content.strip() "[INST]"
<|assistant|> <|end|> [gMASK]<sop> <|user|> </s> <|tool_declare|> <|begin_of_image|> <|endoftext|> <start_of_turn> ### <|EOT|>
<|START_OF_TURN_TOKEN|> <|USER_TOKEN|> <|start_header_id|> <|end_header_id|> [gMASK]sop <用户> <｜Assistant｜> <｜User｜>
<｜end▁of▁sentence｜> [|system|] [|assistant|] [|endofturn|] [|tool|] rwkv-world <|start_of_role|> <tool_call> <tools>
g4_default_system_message <|role_start|> <role>ASSISTANT</role> 'HUMAN' "HUMAN" <think> <role>HUMAN</role> <|role_end|>
<|header_start|> <|header_end|> <|endofuserprompt|> <|extra_0|> <|extra_4|> <|start|> <|channel|> <｜hy_Assistant｜>
<｜hy_begin▁of▁sentence｜> <｜hy_place▁holder▁no▁3｜> <｜hy_place▁holder▁no▁2｜> <|im_assistant|>assistant<|im_middle|> <seed:bos> [unused9]系统：[unused10] <|begin|>
<|content|>""".split() + [
    "' [INST] ' + system_message", "bos_token + '[INST]", " [INST]", "<|{{ item['role'] }}|>", "bos_token + message['role']",
    "'\\n\\nAssistant: ' + eos_token", "GPT4 Correct ", "USER: ", "ASSISTANT: ", "SYSTEM: ", "### Instruction:",
    "'Assistant: ' + message['content'] + eos_token", "{{- 'User: ' + message['content']|trim + '\\n\\n' -}}", " Ассистент:",
    "message['role'] + additional_special_tokens[0] + message['content'] + additional_special_tokens[1]",
    "'Assistant: '  + message['content'] + '<|separator|>",
]


def main():
    probe = [["system", " s "], ["user", " u "], ["assistant", " a "], ["user", " v "], ["tool", " t "], ["function", " f "], ["assistant_tool_call", " c "]]
    by_text = {}
    for name in names():
        by_text.setdefault(apply(name, probe, True), name)
    by_text[apply("<|endofuserprompt|>", probe, True)] = "dots1"

    rng = random.Random(7)
    templates = list(MARKS)
    while len(templates) < 1500:
        templates.append("\n".join(rng.sample(MARKS, rng.choice([2, 2, 3, 4]))))
    # Formats that print the same stand for each other: the first of them is written.
    detected = {}
    for template in templates:
        text = apply(template, probe, True)
        detected[template] = by_text[text] if text is not None else None
    # Keep what is recognised as something, a few of the rest.
    some = [(t, d) for i, (t, d) in enumerate(detected.items()) if d or i % 8 == 0]

    print('{"conversations": ' + json.dumps(CONVERSATIONS, ensure_ascii=False) + ",")
    rows = [json.dumps([n, [[apply(n, c, a) for a in (False, True)] for c in CONVERSATIONS]], ensure_ascii=False) for n in [*names(), "<|endofuserprompt|>"]]
    print('"formats": [\n' + ",\n".join(rows) + "],")
    print('"probe": ' + json.dumps(probe) + ",")
    print('"detected": [\n' + ",\n".join(json.dumps(x, ensure_ascii=False) for x in some) + "]}")


main()
