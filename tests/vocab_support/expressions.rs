//! The expressions of the pre-tokenizers, as llama.cpp applies them: by family, one after the
//! other. Where its engine differs from what an expression says in itself, they say what it does:
//! `\d` and case are ASCII, classes of code points have no white space in them, `\p{Lu}` and
//! `\p{Ll}` are `\p{L}`.
#![allow(dead_code, reason = "each test file uses its part")]

use fancy_regex::Regex;

macro_rules! contraction {
    () => {
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    };
}

macro_rules! gpt2 {
    () => {
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    };
}

macro_rules! line_breaks_and_white {
    () => {
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}

/// What follows the contractions and letters of Llama 3, with the numbers in between.
macro_rules! rest {
    ($numbers:literal) => {
        concat!("|", $numbers, r"| ?[^\s\p{L}\p{N}]+[\r\n]*", line_breaks_and_white!())
    };
    ($numbers:literal, $tail:literal) => {
        concat!("|", $numbers, r"| ?[^\s\p{L}\p{N}]+", $tail, line_breaks_and_white!())
    };
}

macro_rules! llama3 {
    ($numbers:literal) => {
        concat!(contraction!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+", rest!($numbers))
    };
}

/// Words that end before an upper-case letter, of a class of letters.
macro_rules! cased {
    ($letters:literal, $end:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[",
            $letters,
            "--a-z]*[",
            $letters,
            "--A-Z]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[",
            $letters,
            "--a-z]+[",
            $letters,
            "--A-Z]*",
            $end
        )
    };
}

macro_rules! marked_words {
    ($numbers:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
            contraction!(),
            "?",
            rest!($numbers, r"[\r\n/]*")
        )
    };
}

macro_rules! deepseek {
    () => {
        r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    };
}

const CHINESE_AND_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
const NOT_LATIN: &str = r"[\x{800}-\x{9fa5}\x{ac00}-\x{d7ff}--\s]+";
/// Numbers in threes from the right; what precedes a number belongs to its first match.
const FROM_THE_RIGHT: &str = r"\P{N}*\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))";
const DEEPSEEK_V3: &str =
    concat!(deepseek!(), r"| ?[\p{P}\p{S}]+[\r\n]*", line_breaks_and_white!());
const BETWEEN_PUNCTUATION: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// A family: some name of it, and its expressions.
pub(crate) type Family = (&'static str, &'static [&'static str]);

#[rustfmt::skip]
pub(crate) const FAMILIES: &[Family] = &[
    ("default", &[r"[\p{P}\$\+<=>\^~\|]+", gpt2!(), r"\p{N}+", "[0-9][0-9][0-9]"]),
    ("gpt-2", &[gpt2!()]),
    ("starcoder", &[r"\p{N}", gpt2!()]),
    ("falcon", &[r"[\p{P}\$\+<=>\^~\|`]+", gpt2!(), "[0-9][0-9][0-9]"]),
    ("chameleon", &[
        "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]", gpt2!(),
    ]),
    ("llama-bpe", &[llama3!(r"\p{N}{1,3}")]),
    ("jais-2", &[concat!(
        contraction!(),
        r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)",
        r"|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)",
        r"|\s{1,2}(?!\S)|\s{1}",
    )]),
    ("minicpm5", &[r"\p{N}{1,3}", llama3!(r"\p{N}+")]),
    ("qwen2", &[llama3!(r"\p{N}")]),
    ("bailingmoe", &[concat!(
        r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    )]),
    ("laguna", &[r"[^\n]+|[\n]+", llama3!(r"\p{N}")]),
    ("ufakzeka", &[concat!(r"[^\r\n\p{L}\p{N}]?\p{L}+", rest!(r"\p{N}"))]),
    ("qwen35", &[concat!(
        contraction!(), r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        line_breaks_and_white!(),
    )]),
    ("seed-coder", &[concat!(
        contraction!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+",
        line_breaks_and_white!(),
    )]),
    ("exaone-moe", &[concat!(
        contraction!(), r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    )]),
    ("kimi-k2", &[concat!(
        r"[\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{2a6df}\x{2a700}-\x{2ebef}\x{2f800}-\x{2fa1f}]+",
        r"|[^\r\n\p{L}\p{N}]?[\p{L}--[\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{2a6df}\x{2a700}-\x{2ebef}\x{2f800}-\x{2fa1f}]]+",
        contraction!(), "?", rest!(r"\p{N}{1,3}"),
    )]),
    ("tekken", &[concat!(cased!(r"\p{L}", ""), rest!(r"\p{N}", r"[\r\n/]*"))]),
    ("gpt-4o", &[concat!(
        cased!(r"\p{L}", concat!(contraction!(), "?")), rest!(r"\p{N}{1,3}", r"[\r\n/]*"),
    )]),
    ("granite-embed-multi-97m", &[concat!(
        cased!(r"[\p{L}\p{M}]", concat!(contraction!(), "?")), rest!(r"\p{N}{1,3}", r"[\r\n/]*"),
    )]),
    ("tiny_aya", &[FROM_THE_RIGHT, marked_words!(r"\p{N}{1,3}")]),
    ("youtu", &[
        "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
        marked_words!(r"\p{N}"),
    ]),
    ("deepseek-llm", &[
        r"[\r\n]",
        concat!(
            r"\s?",
            r"[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}",
            r"\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}",
            r"\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}",
            r"\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}",
            r"\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}",
            r"\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}",
            r"\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}",
            r"\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}",
            r"\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}",
            r"\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}",
            r"\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}",
            r"\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}",
            r"\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}",
            r"\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}",
            r"\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}",
            r"\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}",
            r"\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+",
        ),
        r"\s?[!-/:-~！-／：-～‘-‟、-。]+", r"\s+$", NOT_LATIN, r"\p{N}+",
    ]),
    ("deepseek-coder", &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", NOT_LATIN, r"\p{N}"]),
    ("deepseek-v3", &[r"\p{N}{1,3}", CHINESE_AND_KANA, DEEPSEEK_V3]),
    ("spark2_5", &[
        r"\p{N}{1,3}", CHINESE_AND_KANA,
        concat!(deepseek!(), r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"), r"\p{N}",
    ]),
    ("afmoe", &[
        FROM_THE_RIGHT,
        "[一-鿿㐀-䶿\u{8c48}-\u{faff}぀-ゟ゠-ヿ･-ﾟ⼀-⿟\u{e40}-\u{e7f}\u{e80}-\u{eff}ក-\u{17ff}က-႟ꩠ-ꩿꧠ-\u{a9ff}가-\u{d7af}ᄀ-ᇿ]+",
        DEEPSEEK_V3,
    ]),
    ("bloom", &[BETWEEN_PUNCTUATION]),
    ("viking", &[BETWEEN_PUNCTUATION, r"\p{N}"]),
    ("superbpe", &[r"\p{N}+", "(?=([0-9]{3})+(?![0-9]))"]),
    ("gemma4", &[r"[^\n]+|[\n]+"]),
    ("whitespace", &[r"\S+"]),
];

/// The expressions of a family, compiled.
pub(crate) struct Expressions {
    pub(crate) name: &'static str,
    stages: Vec<Regex>,
    assigned: Regex,
}

impl Expressions {
    pub(crate) fn all() -> Vec<Expressions> {
        let regex = |expression: &str| Regex::new(expression).unwrap();
        let compile = |&(name, stages): &Family| Expressions {
            name,
            stages: stages.iter().map(|stage| regex(stage)).collect(),
            assigned: regex(r"\A\p{Age=15.1}*\z"),
        };
        FAMILIES.iter().map(compile).collect()
    }

    /// Are the characters of `text` those of Unicode 15.1? The regex crate knows newer ones,
    /// which are unassigned for tokenizers.
    pub(crate) fn knows(&self, text: &str) -> bool {
        self.assigned.is_match(text).unwrap()
    }

    /// The words of `text`: matches of each expression and what lies between them, within the
    /// pieces that the one before left. `None` where the engine gives up.
    pub(crate) fn words<'a>(&self, text: &'a str) -> Option<Vec<&'a str>> {
        let mut pieces = vec![text];
        for stage in &self.stages {
            let mut parts = Vec::new();
            for piece in pieces {
                let mut end = 0;
                for found in stage.find_iter(piece) {
                    let found = found.ok()?;
                    parts.extend([&piece[end..found.start()], found.as_str()]);
                    end = found.end();
                }
                parts.push(&piece[end..]);
            }
            parts.retain(|part| !part.is_empty());
            pieces = parts;
        }
        Some(pieces)
    }
}
