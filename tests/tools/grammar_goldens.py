#!/usr/bin/env python3
"""Makes tests/data/grammar.json: which tokens llama.cpp's grammars allow.

Needs llama-cpp-python 0.3.36 with its own libllama:

    python tests/tools/grammar_goldens.py > tests/data/grammar.json

A walk takes tokens one after the other, chosen by `uniform` among the allowed ones or those of a
given text. Before each the number of allowed tokens is stored; their ids go into one hash (FNV-1a
over 32-bit words) for the whole walk.
"""

import ctypes
import json
import pathlib
import sys

import llama_cpp
import numpy as np

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "vocabs"
VOCABS = ["ggml-vocab-gpt-2.gguf", "ggml-vocab-phi-3.gguf"]
LIB = llama_cpp.llama_cpp._lib
ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
PTR, SIZE, STR = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p


class List(ctypes.Structure):
    _fields_ = [("data", PTR), ("size", SIZE), ("selected", ctypes.c_int64), ("sorted", ctypes.c_bool)]


def function(name, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)((name, LIB))


apply = function("llama_sampler_apply", None, PTR, PTR)
accept = function("llama_sampler_accept", None, PTR, ctypes.c_int32)
free = function("llama_sampler_free", None, PTR)
init = function("llama_sampler_init_grammar", PTR, PTR, STR, STR)
LAZY = [PTR, STR, STR, PTR, SIZE, PTR, SIZE]
init_words = function("llama_sampler_init_grammar_lazy", PTR, *LAZY)
init_patterns = function("llama_sampler_init_grammar_lazy_patterns", PTR, *LAZY)

JSON = r'''
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
'''
GRAMMARS = {
    "json": (JSON, ['{"name": "Zoë \\u00e9", "list": [1, -2.5e3, true, null, {}], "t": "日本"}']),
    "arithmetic": (
        r'''root ::= (expr "=" ws term "\n")+
expr ::= term ([-+*/] term)*
term ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num ::= [0-9]+ ws
ws ::= [ \t\n]*
''',
        ["(a1 +2)*3 = 9\nx=y\n"],
    ),
    "chess": (
        r'''root ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
''',
        ["1. e4 e5\n2. Nf3 Nc6\n3. Bb5 a6\n"],
    ),
    "list": ('root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ "\\n"', ["- one\n- zwölf\n"]),
    "japanese": (
        "root ::= jp-char+ ([ \\t\\n] jp-char+)*\njp-char ::= hiragana | katakana | punctuation | cjk\n"
        "hiragana ::= [ぁ-ゟ]\nkatakana ::= [ァ-ヿ]\npunctuation ::= [、-〾]\ncjk ::= [一-鿿]\n",
        ["日本語のテキスト。 はい"],
    ),
    "emoji": ('root ::= ([\\U0001F600-\\U0001F64F] | "é" | "\\u20ac" | "\\x41")+', ["😀é€A🙏"]),
    "negated-unicode": ('root ::= [^é-ü一]* "!"', ["naive 日本 Ω!"]),
    "any": ('root ::= "<" .{2,5} ">" .*', ["<äb😀>日"]),
    "repetitions": ('root ::= "ab"{2} "c"{0,3} [0-9]{2,} (" " [x-z]{1,2}){,3}'.replace("{,3}", "{0,3}"), ["ababcc1234 xy z"]),
    "nullable": ('root ::= ("a"? "b"?)* "c" empty\nempty ::= "" | "d" empty', ["abbac", "cdd"]),
    "empty": ('root ::= ""', []),
    "words": ('root ::= ("yes" | "no" | "yesterday" | "nothing" | "maybe")', ["yesterday"]),
    "ambiguous": ('root ::= s\ns ::= "a" s "b" | "a" s "c" | "a" s | ""', ["aaaaaabcb"]),
    "palindrome": ('root ::= "a" root "a" | "b" root "b" | "a" | "b" | ""', ["abba", "aabaa"]),
    "nested": ('root ::= (((("x" | (("y")+)) "-")? ("[" root "]")?))', ["y-[x-[yy-]]"]),
    "deep-json": (
        'root ::= "[" (root ("," " "? root)*)? "]" | "\\"" [a-z ]{0,40} "\\""',
        ['[[[["abc", "hello world"],[]]],""]'],
    ),
    "c": (
        r'''root ::= (declaration)*
declaration ::= type " " name "(" parameter? ")" ws "{" statement* "}" ws
type ::= "int" | "float" | "char"
name ::= [a-zA-Z_] [a-zA-Z_0-9]*
parameter ::= type " " name
statement ::= (type " " name ws "=" ws sum ";") | (name ws "=" ws sum ";") | ("return" ws sum ";") | "//" [^\n]* "\n"
sum ::= name | number ([+-] number)?
number ::= [0-9]+
ws ::= [ \t\n]*
''',
        ["int main(int argc) {float x = 1+2;// done\nreturn x;}"],
    ),
    "crlf": ('\r\nroot ::= a |\r\n  b # last\r\na ::= [\\]\\[\\-^] "\\t"\r\nb ::= "q-" [a-] [--0]', ["q-a/"]),
    "redefined": ('root ::= "x"\nroot ::= "y" root | "z"', ["yyz"]),
    "lenient": (b'root ::= "\xc3"x" [\xf0\x9f\x98\x80-\xf0\x9f\x98\x85] "b"', []),
    "range": ("root ::= [Ā-ſа-я一-龥\\U00010000-\\U0010FFFF]{1,9}", ["łōźприв中"]),
}
TOKENS = {
    "token": ('root ::= <[%d]> "ab" <[%d]>* !<[%d]>', (5, 262, 13)),
    "not-token": ('root ::= (!<[%d]>)* <[%d]>', (11, 11)),
    "token-and-text": ('root ::= (<[%d]> | "t" "he"?) (!<[%d]> | " " [a-z]+)', (300, 301)),
    "behind-text": ('root ::= "a" <[%d]> | "b" !<[%d]>', (300, 400)),
}
LAZY_CASES = [
    ("patterns", JSON, ["<tool>(\\{[\\s\\S]*)"], [], 'some {text} before <tool>{"a": [1]}'),
    ("patterns", JSON, ["^[\\s\\S]*?(\\{[\\s\\S]*)$"], [], 'so\nmany lines: {"a": 1}'),
    ("patterns", JSON, ["x{3}(?=\\{)", "\\bcall\\b\\s*(\\{)"], [], 'recall{ xx call {"é": ""}'),
    ("patterns", 'root ::= "<t>" [a-z ]+ "</t>"', ["(<t>)|(<u>)"], [], "hello <t>inside text</t>"),
    ("patterns", 'root ::= "d" "e"+', ["[[:upper:]][^a-c]|.\\n(d)"], [], "Ab\nde"),
    ("patterns", 'root ::= [^ ]+ " end"', ["\\w+[\\.!?]\\s(.)\\1"], [], "Done. xxyz end"),
    ("patterns", 'root ::= "é" .*', ["(é)"], [], "aé日本"),
    ("patterns", "root ::= [a-z]+", [], [], "nothing starts it"),
    ("words", JSON, ["[{", '{"'], [], 'say [ then {"k": 0}'),
    ("words", 'root ::= "a.b" [0-9]+', ["a.b", "(c)"], [], "axb (d) a.b42"),
    ("words", 'root ::= "(c)" [0-9]+', ["a.b", "(c)"], [], "axb (c)42"),
    ("patterns", 'root ::= " the" " cat"?', [], [" the"], "over the cat"),
    ("patterns", 'root ::= ":" [a-z ]+', [":"], [" go"], "ready: no"),
]
VALID = [
    'root ::= ("a"{1000}){1000}', 'root ::= ("a"?)+*', 'root ::= ("a"? "b"?)+* "c"',
    'root ::= "a"', "root ::=", "root ::= |", "root::=a\na::=[]", 'root ::= "a" # comment',
    'root ::= (\n"a"\n)', 'root ::= "a" |\n"b"', "root ::= [a-]", "root ::= [^]", "root ::= []",
    'root ::= "" ', 'root ::= "a"{2000}', 'root ::= "a"{0,2001}', 'root ::= "a"{0}', 'root ::= "a"{0,0}',
    'root ::= "a"{3}{600}', 'root ::= ("a" | "b"){3,}', 'root ::= "a" { 2 , 3 }', 'root ::= ("a"? "b"?)*',
    "root ::= a\nroot ::= \"x\"", "root ::= [z-a]", 'root ::= "\\x41\\u00e9\\U0001F600\\t\\r\\n\\"\\\\\\[\\]\\-"',
    "root ::= -a\n-a ::= [0]", "# only\nroot ::= .", "root ::= 1\n1 ::= .", "root ::= \"a\nb\"",
    'root ::= "a" root | ""', "root ::= !<[1]>", "root ::= <[4294967295]>", "root ::= [a-b-c]",
    'root ::= a "x"\na ::= b root | "y"\nb ::= "z"', 'root ::= ws root | "y"\nws ::= sp\nsp ::= " " | ""',
]
INVALID = [
    "", " \n# nothing\n", "root", "root ::", "root := \"a\"", "root = \"a\"", "::= \"a\"", "root ::= \"a",
    "root ::= 'a'", "root ::= [a", "root ::= [a-", "root ::= [", "root ::= \"\\", "root ::= \"\\q\"",
    "root ::= \"\\x4\"", "root ::= \"\\xg0\"", "root ::= \"\\u123\"", "root ::= \"\\U1234567\"", "root ::= [\\",
    "root ::= (", "root ::= )", "root ::= (\"a\"", "root ::= \"a\")", "root ::= (\"a\" | ", "root ::= *",
    "root ::= +", "root ::= ?", "root ::= {2}", "root ::= \"a\" | *", "root ::= (*)", "root ::= \"\"*",
    "root ::= []+", "root ::= \"a\"{", "root ::= \"a\"{}", "root ::= \"a\"{,3}", "root ::= \"a\"{a}",
    "root ::= \"a\"{1", "root ::= \"a\"{1,", "root ::= \"a\"{1,2", "root ::= \"a\"{1;2}", "root ::= \"a\"{2001}",
    "root ::= \"a\"{1000000}", "root ::= \"a\"{2001,}", "root ::= \"a\"{100}{100}",
    'root ::= "a"*?+', "root ::= (\"a\"? \"b\"?){1000}", "root ::= \"a\"{99999999999999999999}", "root ::= b", "root ::= \"a\"\nb ::= c",
    "root ::= b\nroot ::= \"x\"\nc ::= \"y\"", "other ::= \"a\"", "root ::= root", "root ::= root \"a\" | \"b\"",
    "root ::= \"a\"\nb ::= b", "root ::= a\na ::= b\nb ::= a \"x\"", "root ::= \"a\"? root", "root ::= \"a\"?*",
    "root ::= a root\na ::= \"\" | \"x\"", "root ::= <", "root ::= <[", "root ::= <[]>", "root ::= <[1]", "root ::= <[1>",
    "root ::= <[4294967296]>", "root ::= <[99999999999999999999]>", "root ::= <no such token>", "root ::= !",
    "root ::= !\"a\"", "root ::= !<", "root ::= \"a\" $", "root ::= \"a\"\n  | \"b\"", "root ::= a_b\na_b ::= \"x\"",
    "root ::= \"a\";", "root ::= \"a\" root ::= \"b\"", "ro ot ::= \"a\"", "(root) ::= \"a\"", "root ::= \"a\"\n\n)",
]
ROOTS = [("root ::= (\"a\" | \"b\")+", name) for name in ["root", "root_1", "root_2", "root_3", "root_01", "oot", "", "_1"]]

# Patterns of triggers, and texts that come byte by byte.
PATTERNS = [
    "a", "abc", "a|bc", "(a|b)*c", "a+?b", "a{2}", "a{2,}b", "a{1,2}c", "^a", "a$", "^a$", "^(a|ab)$", "^a.*c$", "^[\\s\\S]*c$",
    ".", "a.c", "[^a]c", "[]", "[^]", "[a-c]d", "[\\w-]+!", "[-a]b", "[a-]b", "[\\]x]y", "[.]c", "\\.c", "\\d+", "\\D\\d", "\\w\\s\\w",
    "\\W\\S", "\\bcat\\b", "\\Bat\\b", "c\\B", "(.)\\1", "(a)(b)?c\\2", "(?:ab)+c", "a(?=b)", "a(?!b)", "(?=.*\\d)c", "\\x61\\x62", "\\u0063",
    "\\cJ", "\\t", "\\n", "\\r?\\n$", "[[:alpha:]]{3}", "[[:digit:][:space:]]x", "[^[:punct:]]!", "\\xc3\\xa9", "é", "[é]c", "[^é]c", "..c$",
    "\\/", "a\\|b", "}", "]", "a**b", "(a*)*b", "(|a)b", "a||b", "()c", "\\0", "<[^>]+>$", "\\{\"", "^$", "$", "^", "(^|\\n)c", "c(\\n|$)",
]
PATTERN_TEXTS = ["abc", "aab ac\nc\n", "the cat, 12 x! a.c cc", "éc \u00e9é a|b/ <t> {\"}]\t", "\r\nab\nabd\n", "concat at"]


def uniform(seed, i):
    z = (i + seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return ((z ^ z >> 31) >> 40) / 2**24


class Vocab:
    def __init__(self, name):
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.name = name
        self.model = llama_cpp.llama_model_load_from_file(str(DATA / name).encode(), params)
        self.handle = llama_cpp.llama_model_get_vocab(self.model)
        self.n = llama_cpp.llama_vocab_n_tokens(self.handle)

    def tokenize(self, text):
        text = text.encode()
        room = (ctypes.c_int32 * (len(text) + 8))()
        n = llama_cpp.llama_tokenize(self.handle, text, len(text), room, len(room), False, True)
        return list(room[:n])

    def piece(self, token):
        room = ctypes.create_string_buffer(300)
        n = llama_cpp.llama_token_to_piece(self.handle, token, room, 300, 0, True)
        return room.raw[: max(0, n)]

    def is_eog(self, token):
        return llama_cpp.llama_vocab_is_eog(self.handle, token)


def allowed(sampler, n, ids=None):
    ids = np.arange(n) if ids is None else ids
    rows = np.zeros(len(ids), ROW)
    rows["id"] = ids
    array = List(rows.ctypes.data, len(ids), -1, False)
    apply(sampler, ctypes.byref(array))
    return rows["id"][rows["logit"] == 0]


def walk(vocab, sampler, tokens=None, seed=0, most=24):
    """Follows tokens, or `most` chosen ones, and ends where nothing or only the end is allowed."""
    assert sampler
    taken, counts, state = [], [], 0xCBF29CE484222325
    for step in range(len(tokens) + 1 if tokens is not None else most):
        ids = allowed(sampler, vocab.n)
        counts.append(len(ids))
        for i in [len(ids), *ids.tolist()]:
            state = (state ^ i) * 0x100000001B3 % 2**64
        if tokens is not None:
            if step == len(tokens):
                break
            token = tokens[step]
            # What cannot come makes llama.cpp end the process.
            if token not in ids:
                print(f"{vocab.name}: {token} of {tokens} cannot come", file=sys.stderr)
                break
        else:
            going_on = [i for i in ids.tolist() if not vocab.is_eog(i)]
            if not going_on:
                break
            token = going_on[int(uniform(seed, step) * len(going_on))]
        taken.append(token)
        accept(sampler, token)
    return {"tokens": taken, "counts": counts, "hash": f"{state:016x}"}


def array(kind, values):
    return (kind * max(1, len(values)))(*values)


def main():
    @llama_cpp.llama_log_callback
    def quiet(level, text, data):
        pass

    llama_cpp.llama_log_set(quiet, None)
    vocabs = [Vocab(name) for name in VOCABS]
    walks, lazy, texts = [], [], []
    for vocab in vocabs:
        for name, (grammar, samples) in GRAMMARS.items():
            grammar = grammar if isinstance(grammar, bytes) else grammar.encode()
            plans = [{"tokens": vocab.tokenize(text)} for text in samples]
            plans += [{"seed": seed} for seed in ([1, 2] if samples else [1])]
            for plan in plans:
                # A text whose first token brings a space of its own cannot be followed.
                if plan.get("tokens") and vocab.name == VOCABS[1]:
                    plan["tokens"] = vocab.tokenize("\n" + samples[0])[2:]
                sampler = init(vocab.handle, grammar, b"root")
                found = walk(vocab, sampler, **plan)
                free(sampler)
                walks.append({"vocab": vocab.name, "grammar": name, **found})
            texts.append((name, grammar.hex())) if vocab is vocabs[0] else None
        for name, (grammar, ids) in TOKENS.items():
            grammar = (grammar % ids).encode()
            sampler = init(vocab.handle, grammar, b"root")
            walks.append({"vocab": vocab.name, "grammar": name, **walk(vocab, sampler, [])})
            free(sampler)
            texts.append((name, grammar.hex())) if vocab is vocabs[0] else None
        # Tokens by their own number, one after the other.
        if vocab is vocabs[0]:
            name, grammar = "token-walk", b'root ::= <[5]> "ab" <[262]>{0,2} !<[13]> <|endoftext|>?'.replace(b"<|endoftext|>?", b'"z"?')
            sampler = init(vocab.handle, grammar, b"root")
            walks.append({"vocab": vocab.name, "grammar": name, **walk(vocab, sampler, [5, 64, 65, 262, 11, 89])})
            free(sampler)
            texts.append((name, grammar.hex()))
    vocab = vocabs[0]
    for kind, grammar, triggers, tokens, text in LAZY_CASES:
        tokens = [vocab.tokenize(t)[0] for t in tokens]
        make = init_patterns if kind == "patterns" else init_words
        list_ = array(STR, [t.encode() for t in triggers])
        sampler = make(vocab.handle, grammar.encode(), b"root", ctypes.cast(list_, PTR), len(triggers),
                       ctypes.cast(array(ctypes.c_int32, tokens), PTR), len(tokens))
        found = walk(vocab, sampler, vocab.tokenize(text))
        free(sampler)
        lazy.append({"kind": kind, "grammar": grammar, "triggers": triggers, "trigger_tokens": tokens, **found})
    parses = []
    for grammar, root in [(g, "root") for g in VALID + INVALID] + ROOTS:
        sampler = init(vocab.handle, grammar.encode(), root.encode()) if grammar else 1
        parses.append({"grammar": grammar, "root": root, "ok": bool(sampler)})
        if sampler and grammar:
            free(sampler)
    for parse in parses[: len(VALID)]:
        if not parse["ok"]:
            print("refused:", parse, file=sys.stderr)
    for parse in parses[len(VALID) : len(VALID) + len(INVALID)]:
        if parse["grammar"] and parse["ok"]:
            print("accepted:", parse, file=sys.stderr)
    byte_tokens = {vocab.piece(token): token for token in range(256)}
    eos = llama_cpp.llama_vocab_eos(vocab.handle)
    starts = []
    for pattern in PATTERNS:
        found = []
        for text in PATTERN_TEXTS:
            list_ = array(STR, [pattern.encode()])
            # Everything goes but the end, so the end shows whether it waits.
            sampler = init_patterns(vocab.handle, b'root ::= [^\\x01]* "\\x01"', b"root",
                                    ctypes.cast(list_, PTR), 1, None, 0)
            when = -1
            for i, byte in enumerate(text.encode()):
                accept(sampler, byte_tokens[bytes([byte])])
                if eos not in allowed(sampler, vocab.n, [eos]):
                    when = i
                    break
            free(sampler)
            found.append(when)
        starts.append({"pattern": pattern, "starts": found})
    golden = {
        "origin": "llama-cpp-python 0.3.36, tests/tools/grammar_goldens.py",
        "grammars": dict(texts), "walks": walks, "lazy": lazy, "parses": parses,
        "pattern_texts": PATTERN_TEXTS, "patterns": starts,
    }
    # One case a line.
    print("{")
    for i, (key, value) in enumerate(golden.items()):
        end = "," if i + 1 < len(golden) else ""
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in value)
            print(f'"{key}": [\n{lines}\n]{end}')
        else:
            print(f'"{key}": {json.dumps(value, indent=0)}{end}')
    print("}")


main()
