//! Laying out a conversation as text: `llama_chat_apply_template`.
//!
//! `llama_chat_apply_template` has no Jinja: a template's text is only searched for marks that give
//! away its family (`detect.rs`), and the families are a table of formats (`formats.rs`). A name of a
//! format in place of a template selects it directly. [`jinja`] runs a template as it is written.
//!
//! To add a format: an entry in the table of `formats.rs`, and if model files carry its Jinja
//! template a rule in `detect.rs` (rules are tried in order, so a new one goes to the end).

mod detect;
mod formats;
pub mod jinja;
mod render;

use formats::{FORMATS, Format};

/// One message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, …
    pub role: &'a [u8],
    /// What is said.
    pub content: &'a [u8],
}

/// The text of a conversation in the format of `template`: the name of a built-in format or a
/// Jinja template whose family is recognised; without one it is ChatML. `add_assistant` adds
/// what introduces the answer. `None` if the family is unknown.
pub fn apply_template(
    template: Option<&[u8]>,
    messages: &[Message<'_>],
    add_assistant: bool,
) -> Option<Vec<u8>> {
    let template = template.unwrap_or(b"chatml");
    let format = named(template).or_else(|| detect::detect(template))?;
    Some(render::render(format, messages, add_assistant))
}

/// Names of the built-in formats, in alphabetical order.
pub fn builtin_names() -> impl ExactSizeIterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.name)
}

fn named(name: &[u8]) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name.as_bytes() == name)
}
