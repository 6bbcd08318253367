//! Vocabularies, tokenising, chat templates, names.

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use powerinfer::ffi::chat::*;
use powerinfer::ffi::names::*;
use powerinfer::ffi::powerinfer::*;
use powerinfer::ffi::system::*;
use powerinfer::ffi::types::*;
use powerinfer::ffi::vocab::*;

use super::World;
use super::args::{Args, touch};

fn vocabulary(world: &World, args: &mut Args<'_>) {
    let (vocab, token) = (world.vocab(args), args.int());
    // SAFETY: NULL or a vocabulary that lives; buffers are as long as said.
    unsafe {
        match args.byte() % 8 {
            0 => {
                touch(llama_vocab_get_text(vocab, token), 1);
                llama_vocab_get_score(vocab, token);
                llama_vocab_get_attr(vocab, token);
                llama_vocab_is_eog(vocab, token);
                llama_vocab_is_control(vocab, token);
                llama_vocab_type(vocab);
                llama_vocab_n_tokens(vocab);
                let mut n = 0;
                let list = llama_vocab_get_suppress_tokens(
                    vocab,
                    if args.one_in(4) { null_mut() } else { &mut n },
                );
                touch(list, n.max(0) as usize);
                for id in [
                    llama_vocab_bos,
                    llama_vocab_eos,
                    llama_vocab_eot,
                    llama_vocab_sep,
                    llama_vocab_nl,
                    llama_vocab_pad,
                    llama_vocab_mask,
                    llama_vocab_fim_pre,
                    llama_vocab_fim_suf,
                    llama_vocab_fim_mid,
                    llama_vocab_fim_pad,
                    llama_vocab_fim_rep,
                    llama_vocab_fim_sep,
                ] {
                    id(vocab);
                }
                for flag in
                    [llama_vocab_get_add_bos, llama_vocab_get_add_eos, llama_vocab_get_add_sep]
                {
                    flag(vocab);
                }
            }
            1..=3 => {
                let text = args.bytes().into_boxed_slice();
                let mut tokens = vec![0; args.small()].into_boxed_slice();
                let (out, room) = match args.byte() % 8 {
                    0 => (null_mut(), args.int()),
                    1 => (tokens.as_mut_ptr(), -1),
                    _ => (tokens.as_mut_ptr(), tokens.len() as i32),
                };
                let (text, len) = match args.byte() % 8 {
                    0 => (null(), args.int()),
                    1 => (text.as_ptr(), args.int().min(0)),
                    _ => (text.as_ptr(), text.len() as i32),
                };
                // A length below 0 makes no promise of a terminator.
                let n =
                    llama_tokenize(vocab, text.cast(), len, out, room, args.flag(), args.flag());
                assert!(n <= room.max(0));
            }
            4 | 5 => {
                let mut room = args.room();
                let (buf, len) = (room.ptr(), room.len() as i32);
                let len = if args.one_in(8) { args.int().min(0) } else { len };
                let n = llama_token_to_piece(vocab, token, buf, len, args.int(), args.flag());
                assert!(n <= len.max(0));
            }
            _ => {
                let tokens = {
                    let n = args.small() % 24;
                    args.ints(n)
                };
                let mut room = args.room();
                let (buf, len) = (room.ptr(), room.len() as i32);
                let len = if args.one_in(8) { args.int().min(0) } else { len };
                let (list, n) = match args.byte() % 8 {
                    0 => (null(), args.int()),
                    1 => (tokens.as_ptr(), args.int().min(0)),
                    _ => (tokens.as_ptr(), tokens.len() as i32),
                };
                let n = llama_detokenize(vocab, list, n, buf, len, args.flag(), args.flag());
                assert!(n <= len.max(0));
            }
        }
    }
}

fn chats(world: &World, args: &mut Args<'_>) {
    let parts: Vec<_> = (0..4).map(|_| args.text()).collect();
    let chat: Vec<_> = parts
        .chunks(2)
        .map(|pair| llama_chat_message { role: pair[0].ptr(), content: pair[1].ptr() })
        .collect();
    let mut room = args.room();
    let (buf, len) = (room.ptr(), room.len() as i32);
    let len = if args.one_in(8) { args.int().min(0) } else { len };
    // SAFETY: texts are terminated, lists and buffers as long as said.
    unsafe {
        match args.byte() % 4 {
            0 | 1 => {
                let mut names = [null(); 60];
                let n = llama_chat_builtin_templates(names.as_mut_ptr(), args.small().min(60));
                llama_chat_builtin_templates(null_mut(), args.int() as usize);
                let built_in = names[args.byte() as usize % n.clamp(1, 60) as usize];
                let own = args.text();
                let name = if args.one_in(2) { own.ptr() } else { built_in };
                let (list, n) = if args.one_in(8) {
                    (null(), args.small())
                } else {
                    (chat.as_ptr(), chat.len())
                };
                llama_chat_apply_template(name, list, n, args.flag(), buf, len);
            }
            2 => {
                let own = args.text();
                let schema = args.pick(&[
                    c"{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":\"^a+$\"}}}".as_ptr(),
                    c"{\"$ref\":\"#\"}".as_ptr(),
                    own.ptr(),
                ]);
                powerinfer_json_schema_to_grammar(schema, buf, len);
            }
            _ => {
                let (model, template, tools, variables) =
                    (world.model(args), args.text(), args.text(), args.text());
                let own = args.text();
                let messages = args.pick(&[
                    c"[{\"role\":\"user\",\"content\":\"hello\"}]".as_ptr(),
                    c"[".as_ptr(),
                    c"{}".as_ptr(),
                    own.ptr(),
                ]);
                let variables = if args.one_in(2) { null() } else { variables.ptr() };
                let tools = if args.one_in(2) { null() } else { tools.ptr() };
                powerinfer_chat_apply_jinja(
                    model,
                    template.ptr(),
                    messages,
                    tools,
                    variables,
                    args.flag(),
                    buf,
                    len,
                );
            }
        }
    }
}

fn names(args: &mut Args<'_>) {
    let (text, value, other) = (args.text(), args.int(), args.int());
    let mut room = args.room();
    let (buf, len) = (room.ptr(), room.len());
    let touch_text = |text: *const c_char| {
        // SAFETY: NULL or a terminated text.
        unsafe {
            touch(
                text,
                if text.is_null() { 0 } else { std::ffi::CStr::from_ptr(text).count_bytes() },
            )
        }
    };
    // SAFETY: texts are terminated, buffers as long as said.
    unsafe {
        match args.byte() % 4 {
            0 => {
                touch_text(llama_ftype_name(value));
                touch_text(llama_flash_attn_type_name(value));
                touch_text(llama_load_mode_name(value));
                touch_text(llama_model_meta_key_str(value));
                llama_load_mode_from_str(text.ptr());
            }
            1 => drop(llama_split_path(buf, len, text.ptr(), value, other)),
            2 => drop(llama_split_prefix(buf, len, text.ptr(), value, other)),
            _ => {
                touch_text(llama_version());
                touch_text(llama_print_system_info());
                llama_numa_init(args.pick(&[0, -1, 99]));
                llama_max_devices();
                llama_max_parallel_sequences();
            }
        }
    }
}

pub fn step(world: &World, args: &mut Args<'_>) {
    match args.byte() % 8 {
        0..=4 => vocabulary(world, args),
        5 | 6 => chats(world, args),
        _ => names(args),
    }
}
