//! Conversations by Jinja templates.

use core::ffi::{CStr, c_char};
use std::borrow::Cow;

use super::super::guard;
use super::super::load::{llama_model, model_ref};
use super::super::strings::{c_str, strncpy};
use super::super::types::cbool;
use crate::api::Model;
use crate::chat::jinja::{self, Conversation};
use crate::log_error;

/// Lays out a conversation by a Jinja template, as `apply_chat_template` of transformers does.
///
/// `model` gives the template and the texts of its special tokens; `tmpl` is another template, or
/// NULL for the model's own (the one for tools when there are tools and it has one). One of the two
/// may be NULL. `messages` is JSON, an array of objects with "role", "content" and what else the
/// template reads; `tools` is a JSON array or NULL; `variables` is a JSON object of further
/// variables of the template, such as {"enable_thinking": false}, or NULL.
///
/// Returns the full length of the text in bytes: more than `length` means that it was cut, and there
/// is a NUL only where there is room for it. -1 on an error, with a line in the log. The text has the
/// beginning of sequence where the template writes it: tokenise it with parse_special and without
/// add_special.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_chat_apply_jinja(
    model: *const llama_model,
    tmpl: *const c_char,
    messages: *const c_char,
    tools: *const c_char,
    variables: *const c_char,
    add_generation_prompt: cbool,
    buf: *mut c_char,
    length: i32,
) -> i32 {
    const NAME: &str = "powerinfer_chat_apply_jinja";
    guard::call(-1, NAME, || {
        // SAFETY: the module's contract.
        let model = unsafe { model_ref(model) }.map(|model| &model.model);
        // SAFETY: NULL or terminated strings that outlive the call.
        let [tmpl, messages, tools, variables] =
            [tmpl, messages, tools, variables].map(|text| unsafe { c_str(text) });
        match text(model, tmpl, [messages, tools, variables], add_generation_prompt != 0) {
            Ok(text) => {
                // SAFETY: the caller's buffer has `length` bytes.
                unsafe { strncpy(buf, length, text.as_bytes()) }
            }
            Err(error) => {
                log_error!("{NAME}: {error}");
                -1
            }
        }
    })
}

/// The text, or what to say in the log.
fn text(
    model: Option<&Model>,
    tmpl: Option<&CStr>,
    [messages, tools, variables]: [Option<&CStr>; 3],
    add_generation_prompt: bool,
) -> Result<String, String> {
    let template = match (tmpl, model) {
        (Some(text), _) => Cow::Borrowed(utf8("the template", text)?),
        (None, Some(model)) => {
            let of_tools = tools.and_then(|_| model.chat_template(Some("tool_use")));
            let own = of_tools.or_else(|| model.chat_template(None));
            String::from_utf8_lossy(own.ok_or("the model has no template")?.as_bytes())
        }
        (None, None) => return Err("neither a model nor a template".into()),
    };
    let special: Vec<_> = model.map(special_tokens).unwrap_or_default();
    let optional = |what, text: Option<_>| text.map(|text| utf8(what, text)).transpose();
    let conversation = Conversation {
        messages: utf8("the messages", messages.ok_or("no messages")?)?,
        tools: optional("the tools", tools)?,
        variables: optional("the variables", variables)?,
        add_generation_prompt,
        special: &special,
    };
    jinja::render(&template, &conversation).map_err(|e| e.to_string())
}

fn utf8<'a>(what: &str, text: &'a CStr) -> Result<&'a str, String> {
    text.to_str().map_err(|e| format!("{what} are not UTF-8: {e}"))
}

/// The special tokens that the model has, by their names in templates.
fn special_tokens(model: &Model) -> Vec<(&'static str, Cow<'_, str>)> {
    let vocab = model.vocab();
    let ids = vocab.special_ids();
    let names = [
        ("bos_token", ids.bos),
        ("eos_token", ids.eos),
        ("unk_token", ids.unk),
        ("sep_token", ids.sep),
        ("pad_token", ids.pad),
        ("mask_token", ids.mask),
    ];
    let text = |(name, id): (&'static str, Option<_>)| {
        Some((name, String::from_utf8_lossy(vocab.text(id?)?)))
    };
    names.into_iter().filter_map(text).collect()
}
