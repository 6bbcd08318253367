//! Recognising the family of a Jinja template by what its text contains.

use memchr::memmem;

use super::formats::{DOTS1, FORMATS, Format};

/// Alternatives, one of which must be in the template; `^` ties one to its beginning.
type Marks = &'static [&'static str];

/// Templates of Mistral and Llama 2 and what is told apart among them.
const INST: Marks = &["^mistral", "[INST]"];
const OFFICIAL_MISTRAL: Marks = &["' [INST] ' + system_message", "[AVAILABLE_TOOLS]"];
const GRANITE_4: Marks = &["<tool_call>", "<tools>"];

/// Name of the one format that templates are recognised for but that cannot be asked for.
const DOTS: &str = "dots1";

/// The first rule of which every line of marks is satisfied decides.
#[rustfmt::skip]
static RULES: &[(&str, &[Marks])] = &[
    ("phi4",              &[&["<|im_start|>"], &["<|im_sep|>"]]),
    ("smolvlm",           &[&["<|im_start|>"], &["<end_of_utterance>"]]),
    ("chatml",            &[&["<|im_start|>"]]),
    ("mistral-v7",        &[INST, &["[SYSTEM_PROMPT]"]]),
    ("mistral-v1",        &[INST, OFFICIAL_MISTRAL, &[" [INST]"]]),
    ("mistral-v3-tekken", &[INST, OFFICIAL_MISTRAL, &["\"[INST]\""]]),
    ("mistral-v3",        &[INST, OFFICIAL_MISTRAL]),
    ("llama2-sys-strip",  &[INST, &["content.strip()"]]),
    ("llama2-sys-bos",    &[INST, &["bos_token + '[INST]"]]),
    ("llama2-sys",        &[INST, &["<<SYS>>"]]),
    ("llama2",            &[INST]),
    ("phi3",              &[&["<|assistant|>"], &["<|end|>"]]),
    ("chatglm4",          &[&["[gMASK]<sop>"]]),
    ("exaone-moe",        &[&["<|assistant|>"], &["<|user|>"], &["<|tool_declare|>"]]),
    ("falcon3",           &[&["<|assistant|>"], &["<|user|>"], &["</s>"]]),
    ("glmedge",           &[&["<|assistant|>"], &["<|user|>"]]),
    ("glmedge",           &[&["<|{{ item['role'] }}|>"], &["<|begin_of_image|>"]]),
    ("zephyr",            &[&["<|user|>"], &["<|endoftext|>"]]),
    ("monarch",           &[&["bos_token + message['role']"]]),
    ("gemma",             &[&["<start_of_turn>"]]),
    ("orion",             &[&["'\\n\\nAssistant: ' + eos_token"]]),
    ("openchat",          &[&["GPT4 Correct "]]),
    ("vicuna-orca",       &[&["USER: "], &["ASSISTANT: "], &["SYSTEM: "]]),
    ("vicuna",            &[&["USER: "], &["ASSISTANT: "]]),
    ("deepseek",          &[&["### Instruction:"], &["<|EOT|>"]]),
    ("command-r",         &[&["<|START_OF_TURN_TOKEN|>"], &["<|USER_TOKEN|>"]]),
    ("llama3",            &[&["<|start_header_id|>"], &["<|end_header_id|>"]]),
    ("chatglm3",          &[&["[gMASK]sop"]]),
    ("minicpm",           &[&["<用户>"]]),
    ("deepseek2",         &[&["'Assistant: ' + message['content'] + eos_token"]]),
    ("deepseek3",         &[&["<｜Assistant｜>"], &["<｜User｜>"], &["<｜end▁of▁sentence｜>"]]),
    ("exaone4",           &[&["[|system|]"], &["[|assistant|]"], &["[|endofturn|]"], &["[|tool|]"]]),
    ("exaone3",           &[&["[|system|]"], &["[|assistant|]"], &["[|endofturn|]"]]),
    ("rwkv-world",        &[&["rwkv-world", "{{- 'User: ' + message['content']|trim + '\\n\\n' -}}"]]),
    ("granite-4.0",       &[&["<|start_of_role|>"], GRANITE_4, &["g4_default_system_message"]]),
    ("granite-4.1",       &[&["<|start_of_role|>"], GRANITE_4]),
    ("granite",           &[&["<|start_of_role|>"]]),
    ("gigachat",          &[&["message['role'] + additional_special_tokens[0] + message['content'] + additional_special_tokens[1]"]]),
    ("megrez",            &[&["<|role_start|>"]]),
    ("yandex",            &[&[" Ассистент:"]]),
    ("bailing",           &[&["<role>ASSISTANT</role>"], &["'HUMAN'"]]),
    ("bailing-think",     &[&["<role>ASSISTANT</role>"], &["\"HUMAN\""], &["<think>"]]),
    ("bailing2",          &[&["<role>ASSISTANT</role>"], &["<role>HUMAN</role>"], &["<|role_end|>"]]),
    ("llama4",            &[&["<|header_start|>"], &["<|header_end|>"]]),
    (DOTS,                &[&["<|endofuserprompt|>"]]),
    ("hunyuan-moe",       &[&["<|extra_0|>"], &["<|extra_4|>"]]),
    ("gpt-oss",           &[&["<|start|>"], &["<|channel|>"]]),
    ("hunyuan-vl",        &[&["<｜hy_Assistant｜>"], &["<｜hy_begin▁of▁sentence｜>"]]),
    ("hunyuan-dense",     &[&["<｜hy_Assistant｜>"], &["<｜hy_place▁holder▁no▁3｜>"]]),
    ("kimi-k2",           &[&["<|im_assistant|>assistant<|im_middle|>"]]),
    ("seed_oss",          &[&["<seed:bos>"]]),
    ("grok-2",            &[&["'Assistant: '  + message['content'] + '<|separator|>"]]),
    ("pangu-embedded",    &[&["[unused9]系统：[unused10]"]]),
    ("solar-open",        &[&["<|begin|>"], &["<|end|>"], &["<|content|>"]]),
];

/// The format of the template's family.
pub(super) fn detect(template: &[u8]) -> Option<&'static Format> {
    let has = |mark: &&str| match mark.strip_prefix('^') {
        Some(start) => template.starts_with(start.as_bytes()),
        None => memmem::find(template, mark.as_bytes()).is_some(),
    };
    let (name, _) =
        RULES.iter().find(|(_, rule)| rule.iter().all(|marks| marks.iter().any(has)))?;
    match *name {
        DOTS => Some(&DOTS1),
        name => FORMATS.iter().find(|format| format.name == name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_a_format_and_can_be_reached() {
        for (name, marks) in RULES {
            // The first alternative of a line, or its last: one of the texts gets to this rule.
            let text = |of: fn(Marks) -> &'static str| -> String {
                marks.iter().map(|m| of(m).trim_start_matches('^')).collect()
            };
            let texts = [text(|m| m[0]), text(|m| m[m.len() - 1])];
            let found = texts.each_ref().map(|t| detect(t.as_bytes()).unwrap().name);
            assert!(found.contains(name), "{name}: {texts:?} are {found:?}");
        }
        assert!(detect(b"{{ messages }}").is_none());
        assert!(detect(b"a mistral").is_none(), "only at the beginning");
    }
}
