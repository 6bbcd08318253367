//! Jinja templates of chat models against Jinja2; tests/tools/jinja_goldens.py writes the file.
//! And the C function.
#![allow(unsafe_code, reason = "calls the C interface")]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::ptr;

use powerinfer::chat::jinja::{Conversation, render};
use powerinfer::ffi::load::{llama_model, llama_model_free, llama_model_load_from_file};
use powerinfer::ffi::params::llama_model_default_params;
use powerinfer::ffi::powerinfer::powerinfer_chat_apply_jinja;
use powerinfer::gguf::{Array, Magic, Value as Meta, Writer};
use serde_json::Value;

const SPECIAL: [(&str, Cow<'static, str>); 2] =
    [("bos_token", Cow::Borrowed("<s>")), ("eos_token", Cow::Borrowed("</s>"))];

#[test]
fn every_template_lays_out_every_conversation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jinja.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut n_texts, mut wrong) = (0, Vec::new());
    for case in golden["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let i = case["conversation"].as_u64().unwrap() as usize;
        let variables = case["variables"].to_string();
        let conversation = Conversation {
            messages: golden["conversations"][i].as_str().unwrap(),
            tools: case["tools"].as_bool().unwrap().then(|| golden["tools"].as_str().unwrap()),
            variables: Some(&variables),
            add_generation_prompt: case["prompt"].as_bool().unwrap(),
            special: &SPECIAL,
        };
        let got = render(golden["templates"][name].as_str().unwrap(), &conversation);
        match (case["text"].as_str(), got) {
            (Some(want), Ok(got)) if want == got => n_texts += 1,
            (None, Err(_)) => {}
            (want, got) => wrong.push(format!("{name}, conversation {i}:\n{want:?}\n{got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong, the first {}", wrong.len(), wrong[0]);
    assert!(n_texts > 50, "{n_texts} texts");
}

/// A model that is a vocabulary with templates.
fn model(name: &str) -> *mut llama_model {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut file = Writer::new(Magic::Gguf);
    let mut set = |key: &str, value| file.set(key, value).unwrap();
    set("general.architecture", Meta::Str("llama".into()));
    set("tokenizer.ggml.model", Meta::Str("test".into()));
    let tokens = ["<unk>", "<s>", "</s>", "a"].map(String::from);
    set("tokenizer.ggml.tokens", Meta::Array(Array::Str(tokens.into_iter().collect())));
    set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    set("tokenizer.ggml.eos_token_id", Meta::U32(2));
    let own =
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}{{ x }}";
    set("tokenizer.chat_template", Meta::Str(own.into()));
    set("tokenizer.chat_template.tool_use", Meta::Str("{{ tools | length }} tools".into()));
    let out = std::fs::File::create(&path).unwrap();
    file.start(out).unwrap().finish().unwrap();
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: default parameters hold no bad pointers, the path is a string.
    let model = unsafe {
        let mut params = llama_model_default_params();
        params.vocab_only = 1;
        llama_model_load_from_file(path.as_ptr(), params)
    };
    assert!(!model.is_null());
    model
}

/// The length that is returned, and what lies in a buffer of 16 bytes that held dots.
fn apply(
    model: *const llama_model,
    [template, messages, tools, variables]: [Option<&CStr>; 4],
) -> (i32, String) {
    let mut buf = [b'.'; 16];
    let c = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: NULL or strings; the buffer has as many bytes as are said.
    let length = unsafe {
        powerinfer_chat_apply_jinja(
            model,
            c(template),
            c(messages),
            c(tools),
            c(variables),
            1,
            buf.as_mut_ptr().cast::<c_char>(),
            16,
        )
    };
    (length, String::from_utf8_lossy(&buf).into_owned())
}

#[test]
fn the_model_gives_template_and_tokens() {
    let model = model("chat-jinja.gguf");
    let messages = Some(cr#"[{"content": "hi"}]"#);
    let with = |template, tools, variables| apply(model, [template, messages, tools, variables]);
    assert_eq!(with(None, None, None), (9, "<s>hi</s>\0......".into()));
    assert_eq!(with(None, None, Some(cr#"{"x": "1234567"}"#)), (16, "<s>hi</s>1234567".into()));
    // Cut, with its full length.
    assert_eq!(with(None, None, Some(cr#"{"x": "12345678"}"#)), (17, "<s>hi</s>1234567".into()));
    assert_eq!(with(None, Some(c"[1, 2]"), None), (7, "2 tools\0........".into()));
    assert_eq!(with(Some(c"{{ eos_token }}"), Some(c"[1]"), None).0, 4);
    // Variables win over the model's tokens.
    let given = Some(cr#"{"eos_token": "x"}"#);
    assert_eq!(with(Some(c"{{ eos_token }}"), None, given), (1, "x\0..............".into()));
    // SAFETY: nothing uses the model any more; NULL and 0 ask for the length.
    unsafe {
        let messages = messages.map_or(ptr::null(), CStr::as_ptr);
        let (none, text) = (ptr::null(), c"abc".as_ptr());
        let n =
            powerinfer_chat_apply_jinja(model, text, messages, none, none, 0, ptr::null_mut(), 0);
        assert_eq!(n, 3);
        llama_model_free(model);
    }
}

#[test]
fn bad_arguments_are_refused() {
    let none = ptr::null();
    let messages = Some(c"[]");
    let template = Some(c"{{ bos_token }}x");
    assert_eq!(apply(none, [template, messages, None, None]).0, 1);
    for bad in [
        [None, messages, None, None],
        [template, None, None, None],
        [template, Some(c"{"), None, None],
        [template, Some(c"\"\xff\""), None, None],
        [Some(c"\xff"), messages, None, None],
        [template, messages, Some(c"{}"), None],
        [template, messages, None, Some(c"[]")],
        [Some(c"{% if %}"), messages, None, None],
        [Some(c"{{ nothing.at.all }}"), messages, None, None],
    ] {
        assert_eq!(apply(none, bad), (-1, ".".repeat(16)), "{bad:?}");
    }
}
