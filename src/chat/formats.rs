//! The built-in formats. What they are called and how they lay out a conversation is llama.cpp's
//! contract with its users, odd corners included; the goldens of tests/chat_golden.rs hold it.

use super::Message;
use When::{Any, First, FirstOfAny, Last, Role};

/// Which messages a pattern is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// Those of a role.
    Role(&'static str),
    /// The first message, if it is of a role.
    First(&'static str),
    /// The last message, if it is of a role.
    Last(&'static str),
    /// The first message.
    FirstOfAny,
    /// All.
    Any,
}

/// How a conversation is laid out.
pub(super) struct Format {
    pub(super) name: &'static str,
    /// What stands before the first message.
    pub(super) opening: fn(&[Message<'_>]) -> &'static str,
    /// For each message the first entry that applies is written; none means the message is left
    /// out. Placeholders: `{content}`, `{trimmed}` (content without white space at the ends),
    /// `{role}`, `{ROLE}`, `{Role}`, `{hold}` and `{hold trimmed}` (nothing now, but the content
    /// comes at the next `{held}`, with an empty line after it), `{close}` (see `turn`).
    pub(super) turns: &'static [(When, &'static str)],
    /// What introduces the answer.
    pub(super) answer: &'static str,
    /// In formats whose turns span several messages: what opens the next turn after `{close}`.
    pub(super) turn: &'static str,
    /// Is a turn open at the beginning (by `opening`)?
    pub(super) opens_turn: bool,
}

const fn format(
    name: &'static str,
    turns: &'static [(When, &'static str)],
    answer: &'static str,
) -> Format {
    Format { name, opening: |_| "", turns, answer, turn: "", opens_turn: true }
}

const fn opened(opening: fn(&[Message<'_>]) -> &'static str, format: Format) -> Format {
    Format { opening, ..format }
}

/// Mistral's: turns of system, user and assistant messages.
const fn mistral(
    name: &'static str,
    turn: &'static str,
    turns: &'static [(When, &'static str)],
) -> Format {
    Format { turn, opens_turn: false, ..format(name, turns, "") }
}

/// Llama 2's: the same with the first turn open from the start.
const fn llama2(
    name: &'static str,
    turn: &'static str,
    turns: &'static [(When, &'static str)],
) -> Format {
    Format { turn, opening: |_| "[INST] ", ..format(name, turns, "") }
}

const LLAMA2_SYS: &[(When, &str)] = &[
    (Role("system"), "<<SYS>>\n{content}\n<</SYS>>\n\n"),
    (Role("user"), "{content} [/INST]"),
    (Any, "{content}</s>{close}"),
];

const GRANITE_4: &[(When, &str)] = &[
    (
        Role("assistant_tool_call"),
        "<|start_of_role|>assistant<|end_of_role|><|tool_call|>{content}<|end_of_text|>\n",
    ),
    (Any, "<|start_of_role|>{role}<|end_of_role|>{content}<|end_of_text|>\n"),
];
const GRANITE_ANSWER: &str = "<|start_of_role|>assistant<|end_of_role|>";

const BAILING: &[(When, &str)] =
    &[(Role("user"), "<role>HUMAN</role>{content}"), (Any, "<role>{ROLE}</role>{content}")];

fn starts_with_system(messages: &[Message<'_>]) -> bool {
    messages.first().is_some_and(|message| message.role == b"system")
}

/// All that can be asked for, in alphabetical order.
pub(super) static FORMATS: [Format; 54] = [
    format("bailing", BAILING, "<role>ASSISTANT</role>"),
    format("bailing-think", BAILING, "<role>ASSISTANT</role><think>"),
    opened(
        |messages| match starts_with_system(messages) {
            true => "",
            false => "<role>SYSTEM</role>detailed thinking off<|role_end|>",
        },
        format(
            "bailing2",
            &[
                (Role("user"), "<role>HUMAN</role>{content}<|role_end|>"),
                (Any, "<role>{ROLE}</role>{content}<|role_end|>"),
            ],
            "<role>ASSISTANT</role>",
        ),
    ),
    opened(
        |_| "[gMASK]sop",
        format("chatglm3", &[(Any, "<|{role}|>\n {content}")], "<|assistant|>"),
    ),
    opened(
        |_| "[gMASK]<sop>",
        format("chatglm4", &[(Any, "<|{role}|>\n{content}")], "<|assistant|>\n"),
    ),
    format(
        "chatml",
        &[(Any, "<|im_start|>{role}\n{content}<|im_end|>\n")],
        "<|im_start|>assistant\n",
    ),
    format(
        "command-r",
        &[
            (
                Role("system"),
                "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{trimmed}<|END_OF_TURN_TOKEN|>",
            ),
            (Role("user"), "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{trimmed}<|END_OF_TURN_TOKEN|>"),
            (
                Role("assistant"),
                "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{trimmed}<|END_OF_TURN_TOKEN|>",
            ),
        ],
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    format(
        "deepseek",
        &[
            (Role("system"), "{content}"),
            (Role("user"), "### Instruction:\n{content}\n"),
            (Role("assistant"), "### Response:\n{content}\n<|EOT|>\n"),
        ],
        "### Response:\n",
    ),
    format("deepseek-ocr", &[(Any, "{content}")], ""),
    format(
        "deepseek2",
        &[
            (Role("system"), "{content}\n\n"),
            (Role("user"), "User: {content}\n\n"),
            (Role("assistant"), "Assistant: {content}<｜end▁of▁sentence｜>"),
        ],
        "Assistant:",
    ),
    format(
        "deepseek3",
        &[
            (Role("system"), "{content}\n\n"),
            (Role("user"), "<｜User｜>{content}"),
            (Role("assistant"), "<｜Assistant｜>{content}<｜end▁of▁sentence｜>"),
        ],
        "<｜Assistant｜>",
    ),
    format(
        "exaone-moe",
        &[
            (Role("system"), "<|system|>\n{trimmed}<|endofturn|>\n"),
            (Role("user"), "<|user|>\n{trimmed}<|endofturn|>\n"),
            (Role("assistant"), "<|assistant|>\n{trimmed}<|endofturn|>\n"),
            (Role("tool"), "<|tool|>\n{trimmed}<|endofturn|>\n"),
        ],
        "<|assistant|>\n",
    ),
    format(
        "exaone3",
        &[
            (Role("system"), "[|system|]{trimmed}[|endofturn|]\n"),
            (Role("user"), "[|user|]{trimmed}\n"),
            (Role("assistant"), "[|assistant|]{trimmed}[|endofturn|]\n"),
        ],
        "[|assistant|]",
    ),
    format(
        "exaone4",
        &[
            (Role("system"), "[|system|]{trimmed}[|endofturn|]\n"),
            (Role("user"), "[|user|]{trimmed}\n"),
            (Role("assistant"), "[|assistant|]{trimmed}[|endofturn|]\n"),
            (Role("tool"), "[|tool|]{trimmed}[|endofturn|]\n"),
        ],
        "[|assistant|]",
    ),
    format("falcon3", &[(Any, "<|{role}|>\n{content}\n")], "<|assistant|>\n"),
    format(
        "gemma",
        &[
            (Role("system"), "{hold trimmed}"),
            (Role("assistant"), "<start_of_turn>model\n{trimmed}<end_of_turn>\n"),
            (Role("model"), "<start_of_turn>model\n{trimmed}<end_of_turn>\n"),
            (Any, "<start_of_turn>{role}\n{held}{trimmed}<end_of_turn>\n"),
        ],
        "<start_of_turn>model\n",
    ),
    opened(
        |_| "<s>",
        format(
            "gigachat",
            &[
                (First("system"), "{content}<|message_sep|>"),
                (
                    Role("user"),
                    "user<|role_sep|>{content}<|message_sep|>available functions<|role_sep|>[]<|message_sep|>",
                ),
                (Role("assistant"), "assistant<|role_sep|>{content}<|message_sep|>"),
            ],
            "assistant<|role_sep|>",
        ),
    ),
    format("glmedge", &[(Any, "<|{role}|>\n{content}")], "<|assistant|>"),
    format(
        "gpt-oss",
        &[
            (Role("assistant"), "<|start|>assistant<|message|>{content}<|return|>"),
            (Any, "<|start|>{role}<|message|>{content}<|end|>"),
        ],
        "<|start|>assistant",
    ),
    format(
        "granite",
        &[
            (
                Role("assistant_tool_call"),
                "<|start_of_role|>{role}<|end_of_role|><|tool_call|>{content}<|end_of_text|>\n",
            ),
            (Any, "<|start_of_role|>{role}<|end_of_role|>{content}<|end_of_text|>\n"),
        ],
        GRANITE_ANSWER,
    ),
    format("granite-4.0", GRANITE_4, GRANITE_ANSWER),
    format("granite-4.1", GRANITE_4, GRANITE_ANSWER),
    format(
        "grok-2",
        &[
            (Role("system"), "System: {trimmed}<|separator|>\n\n"),
            (Role("user"), "Human: {trimmed}<|separator|>\n\n"),
            (Role("assistant"), "Assistant: {content}<|separator|>\n\n"),
        ],
        "Assistant:",
    ),
    format(
        "hunyuan-dense",
        &[
            (First("system"), "{content}<｜hy_place▁holder▁no▁3｜>"),
            (Role("assistant"), "<｜hy_Assistant｜>{content}<｜hy_place▁holder▁no▁2｜>"),
            (Role("user"), "<｜hy_User｜>{content}<｜hy_Assistant｜>"),
        ],
        "",
    ),
    format(
        "hunyuan-moe",
        &[
            (Role("system"), "<|startoftext|>{content}<|extra_4|>"),
            (Role("assistant"), "{content}<|eos|>"),
            (Any, "<|startoftext|>{content}<|extra_0|>"),
        ],
        "",
    ),
    opened(
        |_| "<｜hy_begin▁of▁sentence｜>",
        format(
            "hunyuan-vl",
            &[
                (First("system"), "{content}<｜hy_place▁holder▁no▁3｜>"),
                (Role("user"), "{content}<｜hy_User｜>"),
                (Role("assistant"), "{content}<｜hy_Assistant｜>"),
            ],
            "",
        ),
    ),
    format(
        "kimi-k2",
        &[
            (Role("system"), "<|im_system|>system<|im_middle|>{content}<|im_end|>"),
            (Role("user"), "<|im_user|>user<|im_middle|>{content}<|im_end|>"),
            (Role("assistant"), "<|im_assistant|>assistant<|im_middle|>{content}<|im_end|>"),
            (Role("tool"), "<|im_system|>tool<|im_middle|>{content}<|im_end|>"),
            (Any, "{content}<|im_end|>"),
        ],
        "<|im_assistant|>assistant<|im_middle|>",
    ),
    llama2(
        "llama2",
        "[INST] ",
        &[
            (Role("system"), "{content}\n"),
            (Role("user"), "{content} [/INST]"),
            (Any, "{content}</s>{close}"),
        ],
    ),
    llama2("llama2-sys", "[INST] ", LLAMA2_SYS),
    llama2("llama2-sys-bos", "<s>[INST] ", LLAMA2_SYS),
    llama2(
        "llama2-sys-strip",
        "[INST] ",
        &[
            (Role("system"), "<<SYS>>\n{trimmed}\n<</SYS>>\n\n"),
            (Role("user"), "{trimmed} [/INST]"),
            (Any, "{trimmed}</s>{close}"),
        ],
    ),
    format(
        "llama3",
        &[(Any, "<|start_header_id|>{role}<|end_header_id|>\n\n{trimmed}<|eot_id|>")],
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    format(
        "llama4",
        &[(Any, "<|header_start|>{role}<|header_end|>\n\n{trimmed}<|eot|>")],
        "<|header_start|>assistant<|header_end|>\n\n",
    ),
    format(
        "megrez",
        &[(Any, "<|role_start|>{role}<|role_end|>{content}<|turn_end|>")],
        "<|role_start|>assistant<|role_end|>",
    ),
    format("minicpm", &[(Role("user"), "<用户>{trimmed}<AI>"), (Any, "{trimmed}")], ""),
    mistral(
        "mistral-v1",
        " [INST] ",
        &[
            (Role("system"), "{content}\n\n"),
            (Role("user"), "{content} [/INST]"),
            (Any, " {content}</s>{close}"),
        ],
    ),
    mistral(
        "mistral-v3",
        "[INST] ",
        &[
            (Role("system"), "{content}\n\n"),
            (Role("user"), "{content}[/INST]"),
            (Any, " {trimmed}</s>{close}"),
        ],
    ),
    mistral(
        "mistral-v3-tekken",
        "[INST]",
        &[
            (Role("system"), "{content}\n\n"),
            (Role("user"), "{content}[/INST]"),
            (Any, "{content}</s>{close}"),
        ],
    ),
    format(
        "mistral-v7",
        &[
            (Role("system"), "[SYSTEM_PROMPT] {content}[/SYSTEM_PROMPT]"),
            (Role("user"), "[INST] {content}[/INST]"),
            (Any, " {content}</s>"),
        ],
        "",
    ),
    format(
        "mistral-v7-tekken",
        &[
            (Role("system"), "[SYSTEM_PROMPT]{content}[/SYSTEM_PROMPT]"),
            (Role("user"), "[INST]{content}[/INST]"),
            (Any, "{content}</s>"),
        ],
        "",
    ),
    format(
        "monarch",
        &[(FirstOfAny, "{role}\n{content}</s>\n"), (Any, "<s>{role}\n{content}</s>\n")],
        "<s>assistant\n",
    ),
    format(
        "openchat",
        &[
            (Role("system"), "{content}<|end_of_turn|>"),
            (Any, "GPT4 Correct {Role}: {content}<|end_of_turn|>"),
        ],
        "GPT4 Correct Assistant:",
    ),
    format(
        "orion",
        &[
            (Role("system"), "{hold}"),
            (Role("user"), "Human: {held}{content}\n\nAssistant: </s>"),
            (Any, "{content}</s>"),
        ],
        "",
    ),
    opened(
        |messages| match messages.is_empty() || starts_with_system(messages) {
            true => "",
            false => "[unused9]系统：[unused10]",
        },
        format(
            "pangu-embedded",
            &[
                (Role("system"), "[unused9]系统：{content}[unused10]"),
                (Role("user"), "[unused9]用户：{content}[unused10]"),
                (Role("assistant"), "[unused9]助手：{content}[unused10]"),
                (Role("tool"), "[unused9]工具：{content}[unused10]"),
                (Role("function"), "[unused9]方法：{content}[unused10]"),
            ],
            "[unused9]助手：",
        ),
    ),
    format("phi3", &[(Any, "<|{role}|>\n{content}<|end|>\n")], "<|assistant|>\n"),
    format(
        "phi4",
        &[(Any, "<|im_start|>{role}<|im_sep|>{content}<|im_end|>")],
        "<|im_start|>assistant<|im_sep|>",
    ),
    format(
        "rwkv-world",
        &[
            (Role("system"), "System: {trimmed}\n\n"),
            (Last("user"), "User: {trimmed}\n\nAssistant:"),
            (Role("user"), "User: {trimmed}\n\n"),
            (Role("assistant"), "Assistant: {trimmed}\n\n"),
        ],
        "",
    ),
    format(
        "seed_oss",
        &[
            (Role("assistant"), "<seed:bos>assistant\n{trimmed}<seed:eos>"),
            (Any, "<seed:bos>{role}\n{content}<seed:eos>"),
        ],
        "<seed:bos>assistant\n",
    ),
    opened(
        |_| "<|im_start|>",
        format(
            "smolvlm",
            &[
                (Role("system"), "{content}\n\n"),
                (Role("user"), "User: {content}<end_of_utterance>\n"),
                (Any, "Assistant: {content}<end_of_utterance>\n"),
            ],
            "Assistant:",
        ),
    ),
    format(
        "solar-open",
        &[(Any, "<|begin|>{role}<|content|>{content}<|end|>")],
        "<|begin|>assistant",
    ),
    format(
        "vicuna",
        &[
            (Role("system"), "{content}\n\n"),
            (Role("user"), "USER: {content}\n"),
            (Role("assistant"), "ASSISTANT: {content}</s>\n"),
        ],
        "ASSISTANT:",
    ),
    format(
        "vicuna-orca",
        &[
            (Role("system"), "SYSTEM: {content}\n"),
            (Role("user"), "USER: {content}\n"),
            (Role("assistant"), "ASSISTANT: {content}</s>\n"),
        ],
        "ASSISTANT:",
    ),
    format(
        "yandex",
        &[
            (Role("user"), " Пользователь: {content}\n\n"),
            (Role("assistant"), " Ассистент: {content}\n\n"),
        ],
        " Ассистент:[SEP]",
    ),
    format("zephyr", &[(Any, "<|{role}|>\n{content}<|endoftext|>\n")], "<|assistant|>\n"),
];

/// Recognised in templates, but not to be asked for by name.
pub(super) static DOTS1: Format = format(
    "dots1",
    &[
        (Role("system"), "<|system|>{content}<|endofsystem|>"),
        (Role("user"), "<|userprompt|>{content}<|endofuserprompt|>"),
        (Any, "<|response|>{content}<|endofresponse|>"),
    ],
    "<|response|>",
);
