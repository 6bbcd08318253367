//! The names under which model files ask for a pre-tokenizer, and what each implies in llama.cpp.

use super::Stage::{Cut, Match};
use super::{PreTokenizer, Spelling, Stage, cased, cuts, deepseek, parts, plain, scripts};

const GPT2: &[Stage] = &[Match(plain::gpt2)];
const DIGITS: &[Stage] = &[Match(parts::number), Match(plain::gpt2)];
const LLAMA3: &[Stage] = &[Match(plain::llama3)];
const QWEN2: &[Stage] = &[Match(plain::qwen2)];
const LINES: &[Stage] = &[Match(cuts::lines)];
const POROS: &[Stage] = &[Match(cuts::between_punctuation)];
const GPT4O: &[Stage] = &[Match(cased::gpt4o)];
const TINY_AYA: &[Stage] = &[Cut(cuts::numbers_from_the_right), Match(plain::tiny_aya)];
const DEEPSEEK_V3: &[Stage] =
    &[Match(parts::up_to_three_numbers), Match(scripts::deepseek_v3), Match(deepseek::v3)];

const fn plain(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer {
        stages,
        spelling: Spelling::ByteLevel,
        ignore_merges: false,
        add_bos: false,
        add_sep: false,
        clean_spaces: true,
        no_default_bos: false,
    }
}

/// Detokenized text is left as it is.
const fn raw(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { clean_spaces: false, ..plain(stages) }
}

/// As [`raw`], and words that are tokens are taken whole.
const fn raw_whole(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { ignore_merges: true, ..raw(stages) }
}

/// The pre-tokenizer of a name in `tokenizer.ggml.pre`.
#[rustfmt::skip]
pub(super) fn by_name(name: &str) -> Option<PreTokenizer> {
    Some(match name {
        "" | "default" => plain(&[
            Match(cuts::signs), Match(plain::gpt2), Match(cuts::numbers), Match(cuts::three_digits),
        ]),
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de"
        | "a.x-4.0" | "mellum" | "modern-bert" | "mpt" | "olmo" | "jais" | "exaone4" => plain(GPT2),
        "jina-v1-en" | "jina-v2-code" | "roberta-bpe" => PreTokenizer { add_sep: true, ..plain(GPT2) },
        "trillion" | "granite-docling" => raw(GPT2),
        "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => plain(DIGITS),
        "smollm" | "command-r" => raw(DIGITS),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "jina-v5-nano" => PreTokenizer { ignore_merges: true, add_bos: true, ..plain(LLAMA3) },
        "dbrx" | "smaug-bpe" => plain(LLAMA3),
        "chatglm-bpe" => PreTokenizer { no_default_bos: true, ..plain(LLAMA3) },
        "glm4" | "glm5" => PreTokenizer { ignore_merges: true, no_default_bos: true, ..plain(LLAMA3) },
        "jais-2" => plain(&[Match(plain::llama3), Cut(cuts::white_in_powers_of_two)]),
        "minicpm5" => PreTokenizer {
            ignore_merges: true,
            ..plain(&[Match(parts::up_to_three_numbers), Match(plain::minicpm5)])
        },
        "stablelm2" | "megrez" => plain(QWEN2),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "hunyuan" | "grok-2" | "solar-open"
        | "bailingmoe" | "bailingmoe2" | "llada-moe" => raw(QWEN2),
        "qwen35" => raw(&[Match(plain::qwen35)]),
        "ufakzeka" => raw(&[Match(plain::ufakzeka)]),
        "seed-coder" => raw(&[Match(plain::seed_coder)]),
        "exaone-moe" => plain(&[Match(plain::exaone_moe)]),
        "laguna" => raw(&[Match(cuts::lines), Match(plain::qwen2)]),
        "kimi-k2" => raw(&[Match(plain::kimi_k2)]),
        "tekken" => PreTokenizer { add_bos: true, ..raw_whole(&[Match(cased::tekken)]) },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => raw(GPT4O),
        "granite-embed-multi-97m" => raw_whole(&[Match(cased::granite_emb)]),
        "tiny_aya" | "cohere2moe" => raw(TINY_AYA),
        "youtu" => raw_whole(&[Match(scripts::youtu), Match(plain::youtu)]),
        "deepseek-llm" => raw(&[
            Match(deepseek::line_break), Match(deepseek::llm_letters), Match(deepseek::llm_signs),
            Cut(deepseek::white_at_the_end), Match(scripts::deepseek_llm), Match(cuts::numbers),
        ]),
        "deepseek-coder" => raw(&[
            Match(deepseek::line_break), Match(deepseek::coder_letters),
            Match(deepseek::coder_punctuation), Match(scripts::deepseek_llm), Match(parts::number),
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => raw(DEEPSEEK_V3),
        "spark2_5" => raw(&[
            Match(parts::up_to_three_numbers), Match(scripts::deepseek_v3), Match(deepseek::spark),
            Match(parts::number),
        ]),
        "afmoe" => raw(&[
            Cut(cuts::numbers_from_the_right), Match(scripts::afmoe), Match(deepseek::v3),
        ]),
        "falcon" => plain(&[
            Match(cuts::signs_and_backticks), Match(plain::gpt2), Match(cuts::three_digits),
        ]),
        "bloom" | "gpt3-finnish" => plain(POROS),
        "poro-chat" => raw(POROS),
        "viking" => raw(&[Match(cuts::between_punctuation), Match(parts::number)]),
        "chameleon" => PreTokenizer {
            add_bos: true,
            ..raw(&[
                Match(cuts::sentinel), Match(cuts::image), Match(cuts::indent), Match(parts::number),
                Match(cuts::sign), Match(plain::gpt2),
            ])
        },
        "superbpe" => raw(&[Match(cuts::numbers), Cut(cuts::before_threes)]),
        "gemma4" | "granite-embed-multi-311m" =>
            PreTokenizer { spelling: Spelling::Gemma4, ..plain(LINES) },
        "sarvam-moe" => PreTokenizer { spelling: Spelling::Escaped, ..raw(LINES) },
        "whitespace" => PreTokenizer {
            spelling: Spelling::Characters,
            ..plain(&[Match(cuts::not_white)])
        },
        _ => return None,
    })
}
