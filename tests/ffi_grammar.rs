//! Grammar samplers through the C functions, as C programs and llama-cpp-python use them.
#![allow(unsafe_code, reason = "calls the C functions")]
#![allow(deprecated, reason = "old functions are tested too")]

#[path = "common/log.rs"]
mod log;

use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};

use powerinfer::ffi::load::{llama_model_free, llama_model_load_from_file};
use powerinfer::ffi::model::llama_model_get_vocab;
use powerinfer::ffi::params::llama_model_default_params;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::types::*;
use powerinfer::ffi::vocab::{llama_tokenize, llama_vocab, llama_vocab_eos, llama_vocab_n_tokens};

/// The vocabulary of GPT-2 as a C program gets it.
struct Model {
    model: *mut llama_model,
    vocab: *const llama_vocab,
    eos: i32,
}

impl Model {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vocabs/ggml-vocab-gpt-2.gguf");
        let path = CString::new(path).unwrap();
        // SAFETY: a terminated path; the model is freed in drop.
        unsafe {
            let params = llama_model_params { vocab_only: 1, ..llama_model_default_params() };
            let model = llama_model_load_from_file(path.as_ptr(), params);
            assert!(!model.is_null());
            let vocab = llama_model_get_vocab(model);
            Self { model, vocab, eos: llama_vocab_eos(vocab) }
        }
    }

    fn tokens(&self, text: &str) -> Vec<i32> {
        let mut tokens = vec![0; text.len() + 1];
        let (at, len) = (text.as_ptr().cast(), text.len() as i32);
        // SAFETY: the lengths are those of the text and the array.
        let n = unsafe { llama_tokenize(self.vocab, at, len, tokens.as_mut_ptr(), len + 1, 0, 0) };
        tokens.truncate(n as usize);
        tokens
    }

    fn grammar(&self, text: &CStr) -> Sampler<'_> {
        // SAFETY: terminated texts and a living vocabulary.
        let smpl =
            unsafe { llama_sampler_init_grammar(self.vocab, text.as_ptr(), c"root".as_ptr()) };
        assert!(!smpl.is_null());
        Sampler(smpl, self)
    }

    /// A lazy grammar; NULL where it is refused.
    fn lazy(&self, text: &CStr, patterns: &[&CStr], tokens: &[i32]) -> *mut llama_sampler {
        let mut patterns: Vec<*const c_char> = patterns.iter().map(|p| p.as_ptr()).collect();
        // SAFETY: terminated texts, lists with their lengths and a living vocabulary.
        unsafe {
            llama_sampler_init_grammar_lazy_patterns(
                self.vocab,
                text.as_ptr(),
                c"root".as_ptr(),
                patterns.as_mut_ptr(),
                patterns.len(),
                tokens.as_ptr(),
                tokens.len(),
            )
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: freed once, after all samplers.
        unsafe { llama_model_free(self.model) };
    }
}

/// A sampler that is freed in the end.
struct Sampler<'m>(*mut llama_sampler, &'m Model);

impl Drop for Sampler<'_> {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { llama_sampler_free(self.0) };
    }
}

impl<'m> Sampler<'m> {
    fn copy(&self) -> Sampler<'m> {
        // SAFETY: a valid sampler.
        Sampler(unsafe { llama_sampler_clone(self.0) }, self.1)
    }

    /// The tokens that can come next.
    fn allowed(&self) -> Vec<i32> {
        // SAFETY: a living vocabulary, a valid sampler and array.
        unsafe {
            let row = |id| llama_token_data { id, logit: 1.0, p: 0.0 };
            let mut rows: Vec<_> = (0..llama_vocab_n_tokens(self.1.vocab)).map(row).collect();
            let (data, size) = (rows.as_mut_ptr(), rows.len());
            let mut list = llama_token_data_array { data, size, selected: -1, sorted: 0 };
            llama_sampler_apply(self.0, &mut list);
            assert_eq!((list.data, list.size, list.selected, list.sorted), (data, size, -1, 0));
            rows.iter().filter(|row| row.logit == 1.0).map(|row| row.id).collect()
        }
    }

    fn accept(&self, text: &str) {
        // SAFETY: a valid sampler.
        self.1.tokens(text).iter().for_each(|&t| unsafe { llama_sampler_accept(self.0, t) });
    }

    fn accept_token(&self, token: i32) {
        // SAFETY: a valid sampler.
        unsafe { llama_sampler_accept(self.0, token) };
    }

    fn is_free(&self) -> bool {
        self.allowed().len() > 50_000
    }

    /// Is the end the only thing that can come?
    fn is_over(&self) -> bool {
        self.allowed() == [self.1.eos]
    }
}

/// What is logged while `work` runs.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    let (value, lines) = log::logged(work);
    (value, lines.into_iter().map(|(_, text)| text).collect())
}

#[test]
fn a_grammar_allows_its_texts_and_then_the_end() {
    let model = Model::open();
    let sampler = model.grammar(c"root ::= \"yes\" | \"no\" \"!\"?");
    // SAFETY: a valid sampler.
    let name = unsafe { CStr::from_ptr(llama_sampler_name(sampler.0)) };
    assert_eq!(name, c"grammar");
    let starts = ["y", "ye", "yes", "n", "no"].map(|text| model.tokens(text));
    let mut starts: Vec<i32> = starts.into_iter().flatten().collect();
    starts.sort_unstable();
    assert_eq!(sampler.allowed(), starts);
    sampler.accept("no");
    let mut after = vec![model.tokens("!")[0], model.eos];
    after.sort_unstable();
    assert_eq!(sampler.allowed(), after);
    let copy = sampler.copy();
    copy.accept("!");
    assert!(copy.is_over());
    copy.accept_token(model.eos);
    assert!(copy.is_over());
    assert_eq!(sampler.allowed(), after, "the copy went its own way");
    // SAFETY: valid samplers of one kind.
    unsafe { llama_sampler_copy(sampler.0, copy.0) };
    assert_eq!(copy.allowed(), after);
    // SAFETY: a valid sampler.
    unsafe { llama_sampler_reset(copy.0) };
    assert_eq!(copy.allowed(), starts);
}

#[test]
fn an_empty_grammar_allows_everything() {
    let model = Model::open();
    let roots: [*const c_char; 2] = [c"root".as_ptr(), null()];
    for (text, root) in [(c"".as_ptr(), roots[0]), (null(), roots[1]), (c"".as_ptr(), roots[1])] {
        for vocab in [model.vocab, null()] {
            // SAFETY: NULL or terminated, NULL or living.
            let smpl = unsafe { llama_sampler_init_grammar(vocab, text, root) };
            assert!(!smpl.is_null());
            let sampler = Sampler(smpl, &model);
            sampler.accept("anything");
            sampler.accept_token(-7);
            // SAFETY: a valid sampler.
            unsafe { llama_sampler_reset(sampler.0) };
            assert!(sampler.copy().is_free());
        }
    }
}

#[test]
fn what_does_not_parse_is_null_and_the_log_says_where() {
    let model = Model::open();
    let cases: [(&CStr, &CStr, &str); 9] = [
        (
            c"root ::= \"a\"\nitem ::= (\"b\" | [c)\n",
            c"root",
            "line 3, column 1: expected a character or ']' for what line 2, column 17 opens, found the end",
        ),
        (c"root = \"a\"", c"root", "line 1, column 6: expected '::=', found '='"),
        (
            c"root ::= \"\xc3\xa9\" %",
            c"root",
            "line 1, column 14: expected an item, '|' or the end of the line, found '%'",
        ),
        (c"root ::= \"a\"{1000000}", c"root", "at most 2000 repetitions (not 1000000)"),
        (c"root ::= other", c"root", "rule 'other' is not defined"),
        (c"root ::= \"a\"", c"start", "no rule 'start' to start with"),
        (c"root ::= list\nlist ::= list \"a\" | \"a\"", c"root", "rule 'list' begins with itself"),
        (c"# nothing", c"root", "no rules"),
        (c"root ::= \"\xff", c"root", "line 1, column"),
    ];
    for (text, root, expected) in cases {
        // SAFETY: terminated texts and a living vocabulary.
        let (smpl, log) = logged(|| unsafe {
            llama_sampler_init_grammar(model.vocab, text.as_ptr(), root.as_ptr())
        });
        assert!(smpl.is_null(), "{text:?}");
        assert!(log.starts_with("llama_sampler_init_grammar: grammar: "), "{log}");
        assert!(log.contains(expected) && log.lines().count() == 1, "{text:?}: {log}");
    }
}

#[test]
fn null_is_refused_with_a_line() {
    let model = Model::open();
    let text = c"root ::= \"a\"".as_ptr();
    let root = c"root".as_ptr();
    // SAFETY: NULL is what is tested; the rest is valid.
    unsafe {
        for (vocab, root) in [(null(), root), (model.vocab, null())] {
            let (smpl, log) = logged(|| llama_sampler_init_grammar(vocab, text, root));
            assert!(smpl.is_null() && log.contains("is NULL"), "{log}");
        }
        let mut holes = [c"a".as_ptr(), null()];
        let list = holes.as_mut_ptr();
        let lazy = llama_sampler_init_grammar_lazy_patterns;
        for (patterns, n, n_tokens) in [(list, 2, 0), (null_mut(), 1, 0), (list, 1, 1)] {
            let (smpl, log) =
                logged(|| lazy(model.vocab, text, root, patterns, n, null(), n_tokens));
            assert!(smpl.is_null() && log.contains("NULL"), "{log}");
        }
        let old = llama_sampler_init_grammar_lazy;
        let (smpl, log) = logged(|| old(model.vocab, text, root, list, 2, null(), 0));
        assert!(smpl.is_null() && log.contains("trigger 1 of 2 is NULL"), "{log}");
        // Without words the number is not looked at, and nothing ever starts it.
        let smpl = old(model.vocab, text, root, null_mut(), 3, null(), 0);
        let sampler = Sampler(smpl, &model);
        sampler.accept("a b c");
        assert!(sampler.is_free());
    }
}

#[test]
fn what_cannot_come_leaves_only_the_end() {
    let model = Model::open();
    let sampler = model.grammar(c"root ::= \"abc\"");
    for (wrong, said) in [
        (model.tokens("x")[0], "('x') cannot come here"),
        (model.eos, "ended where it cannot end"),
        (-1, "-1 is no token"),
        (i32::MAX, "is no token"),
    ] {
        let copy = sampler.copy();
        let ((), log) = logged(|| {
            copy.accept_token(wrong);
            copy.accept("abc");
            copy.accept_token(model.eos);
        });
        assert!(log.contains(said) && log.lines().count() == 1, "{log}");
        assert!(copy.is_over());
        assert!(copy.copy().is_over());
        // SAFETY: a valid sampler.
        unsafe { llama_sampler_reset(copy.0) };
        assert_eq!(copy.allowed(), sampler.allowed());
    }
}

#[test]
fn candidates_that_are_no_tokens_are_not_allowed() {
    let model = Model::open();
    let sampler = model.grammar(c"root ::= .*");
    for ids in [&[-1, i32::MIN, i32::MAX, 50_257, 64][..], &(-30_000..30_000).collect::<Vec<_>>()] {
        let row = |&id: &i32| llama_token_data { id, logit: 1.0, p: 0.0 };
        let mut rows: Vec<_> = ids.iter().map(row).collect();
        let (data, size) = (rows.as_mut_ptr(), rows.len());
        let mut list = llama_token_data_array { data, size, selected: -1, sorted: 0 };
        // SAFETY: a valid sampler and array.
        unsafe { llama_sampler_apply(sampler.0, &mut list) };
        for row in rows {
            let is_token = (0..50_257).contains(&row.id);
            assert!(is_token || row.logit == f32::NEG_INFINITY, "{}", row.id);
            assert!(row.id != 64 || row.logit == 1.0);
        }
    }
}

#[test]
fn a_lazy_grammar_waits_for_its_trigger() {
    let model = Model::open();
    let grammar = c"root ::= \"<f>\" [a-z]+ \"</f>\"";
    let sampler = Sampler(model.lazy(grammar, &[c"(<f>)[\\s\\S]*"], &[]), &model);
    sampler.accept("text [with] <anything> ");
    assert!(sampler.is_free());
    let waiting = sampler.copy();
    sampler.accept("<f>name");
    assert!(!sampler.is_free());
    sampler.accept("</f>");
    assert!(sampler.is_over());
    waiting.accept("<");
    assert!(waiting.is_free(), "the copy still waits");
    waiting.accept("f>");
    assert!(!waiting.is_free(), "and remembers what came before");
    // SAFETY: a valid sampler.
    unsafe { llama_sampler_reset(sampler.0) };
    sampler.accept("</f>");
    assert!(sampler.is_free(), "it waits again");

    // The first token of the grammar is the trigger itself.
    let call = model.tokens(" call")[0];
    let sampler = Sampler(model.lazy(c"root ::= \" call\" \"!\"", &[], &[call]), &model);
    sampler.accept("a b");
    sampler.accept_token(call);
    assert_eq!(sampler.allowed(), model.tokens("!"));

    // What the trigger brings and the grammar does not know: llama.cpp throws here.
    let sampler = Sampler(model.lazy(c"root ::= \"x\"", &[c"a+"], &[]), &model);
    let ((), log) = logged(|| sampler.accept("a"));
    assert!(log.contains("cannot come here"), "{log}");
    assert!(sampler.is_over());
}

#[test]
fn trigger_words_of_old_start_a_grammar() {
    let model = Model::open();
    let mut words = [c"a.b".as_ptr(), c"[x]".as_ptr()];
    // SAFETY: terminated texts, a list with its length, a living vocabulary.
    let smpl = unsafe {
        let (text, root) = (c"root ::= [^ ]+ \" \" [0-9]".as_ptr(), c"root".as_ptr());
        llama_sampler_init_grammar_lazy(model.vocab, text, root, words.as_mut_ptr(), 2, null(), 0)
    };
    let sampler = Sampler(smpl, &model);
    sampler.accept("aXb x ");
    assert!(sampler.is_free());
    sampler.accept("y[x]");
    assert!(!sampler.is_free());
    sampler.accept(" 7");
    assert!(sampler.is_over());
}

#[test]
fn patterns_that_are_no_expressions_are_refused() {
    let model = Model::open();
    for pattern in
        [c"(", c"a)", c"*a", c"a{2", c"[b-a]", c"[[:nope:]]", c"(?<n>a)", c"\\x1", c"a\\"]
    {
        let (smpl, log) = logged(|| model.lazy(c"root ::= \"a\"", &[c"fine", pattern], &[]));
        assert!(smpl.is_null(), "{pattern:?}");
        assert!(log.contains("trigger pattern '"), "{log}");
    }
}

#[test]
fn grammars_work_in_chains_and_their_copies() {
    let model = Model::open();
    // SAFETY: samplers are valid, and owned by the chain.
    unsafe {
        let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: 1 });
        let (text, root) = (c"root ::= [0-9]{2} \"\\n\"".as_ptr(), c"root".as_ptr());
        llama_sampler_chain_add(chain, llama_sampler_init_grammar(model.vocab, text, root));
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        let chain = Sampler(chain, &model);
        let write = |chain: &Sampler<'_>| {
            let mut written = Vec::new();
            for step in 0..10 {
                let row = |id: i32| llama_token_data { id, logit: (id * 7 % 101) as f32, p: 0.0 };
                let mut rows: Vec<_> = (0..50_257).map(row).collect();
                let (data, size) = (rows.as_mut_ptr(), rows.len());
                let mut list = llama_token_data_array { data, size, selected: -1, sorted: 0 };
                llama_sampler_apply(chain.0, &mut list);
                let token = rows[list.selected as usize].id;
                llama_sampler_accept(chain.0, token);
                written.push(token);
                if token == model.eos {
                    return written;
                }
                assert!(step < 5, "{written:?}");
            }
            written
        };
        let copy = chain.copy();
        let first = write(&chain);
        assert!((3..=4).contains(&first.len()), "{first:?}");
        assert_eq!(write(&copy), first);
        llama_sampler_reset(chain.0);
        assert_eq!(write(&chain), first);
    }
}
