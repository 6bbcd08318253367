//! Laying out conversations.

use core::ffi::{CStr, c_char};
use once_cell::sync::OnceCell;
use std::ffi::CString;

use super::guard;
use super::strings::{array, c_str, strncpy};
use super::types::{cbool, llama_chat_message};
use crate::chat::{self, Message};
use crate::log_error;

/// Lays out a conversation. tmpl is the name of a built-in template or the text of a template
/// whose family is recognised, NULL for "chatml"; there is no Jinja here. add_ass adds what
/// introduces the answer. Returns the full length in bytes: more than `length` means that the
/// text was cut, and there is a NUL only where there is room for it. -1 when the template is not
/// known or an argument is bad.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_chat_apply_template(
    tmpl: *const c_char,
    chat: *const llama_chat_message,
    n_msg: usize,
    add_ass: cbool,
    buf: *mut c_char,
    length: i32,
) -> i32 {
    guard::call(-1, "llama_chat_apply_template", || {
        if chat.is_null() && n_msg > 0 {
            log_error!("llama_chat_apply_template: no messages");
            return -1;
        }
        // SAFETY: the caller's array has that many messages.
        let messages = unsafe { array(chat, n_msg) }.iter().map(|m| {
            // SAFETY: NULL or C strings.
            let (role, content) = unsafe { (c_str(m.role)?, c_str(m.content)?) };
            Some(Message { role: role.to_bytes(), content: content.to_bytes() })
        });
        let Some(messages) = messages.collect::<Option<Vec<_>>>() else {
            log_error!("llama_chat_apply_template: a message without role or content");
            return -1;
        };
        // SAFETY: NULL or a C string.
        let template = unsafe { c_str(tmpl) }.map(CStr::to_bytes);
        let Some(text) = chat::apply_template(template, &messages, add_ass != 0) else {
            return -1;
        };
        // SAFETY: the caller's buffer has `length` bytes.
        unsafe { strncpy(buf, length, &text) }
    })
}

/// Names of the built-in templates, valid for ever: writes up to len of them and returns how many
/// there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_chat_builtin_templates(
    output: *mut *const c_char,
    len: usize,
) -> i32 {
    guard::call(0, "llama_chat_builtin_templates", || {
        static NAMES: OnceCell<Vec<CString>> = OnceCell::new();
        let names = NAMES.get_or_init(|| {
            chat::builtin_names().map(|name| CString::new(name).unwrap_or_default()).collect()
        });
        if !output.is_null() {
            for (i, name) in names.iter().enumerate().take(len) {
                // SAFETY: the caller's array has `len` places.
                unsafe { *output.add(i) = name.as_ptr() };
            }
        }
        i32::try_from(names.len()).unwrap_or(0)
    })
}
