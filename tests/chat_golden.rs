//! Chat formats against llama.cpp; tests/tools/chat_golden.py writes the file.

use powerinfer::chat::{Message, apply_template, builtin_names};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chat.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn conversation(list: &Value) -> Vec<Message<'_>> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|message| Message {
            role: message[0].as_str().unwrap().as_bytes(),
            content: message[1].as_str().unwrap().as_bytes(),
        })
        .collect()
}

fn apply(template: &str, messages: &[Message<'_>], add_assistant: bool) -> Option<String> {
    let text = apply_template(Some(template.as_bytes()), messages, add_assistant)?;
    Some(String::from_utf8(text).unwrap())
}

#[test]
fn every_format_lays_out_every_conversation() {
    let golden = golden();
    let conversations: Vec<_> =
        golden["conversations"].as_array().unwrap().iter().map(conversation).collect();
    let formats = golden["formats"].as_array().unwrap();
    assert_eq!(formats.len(), 55);
    for format in formats {
        let name = format[0].as_str().unwrap();
        for (i, messages) in conversations.iter().enumerate() {
            for (j, add_assistant) in [false, true].into_iter().enumerate() {
                let want = format[1][i][j].as_str();
                let got = apply(name, messages, add_assistant);
                assert_eq!(got.as_deref(), want, "{name}, conversation {i}, {add_assistant}");
            }
        }
    }
}

#[test]
fn templates_are_recognised_by_their_marks() {
    let golden = golden();
    let probe = conversation(&golden["probe"]);
    let detected = golden["detected"].as_array().unwrap();
    assert!(detected.len() > 500);
    for entry in detected {
        let template = entry[0].as_str().unwrap();
        let got = apply(template, &probe, true);
        let want = match entry[1].as_str() {
            None => None,
            Some("dots1") => apply("<|endofuserprompt|>", &probe, true),
            Some(name) => apply(name, &probe, true),
        };
        assert_eq!(got, want, "{template:?} is {:?}", entry[1]);
    }
}

#[test]
fn names_are_listed_in_order() {
    let golden = golden();
    let want: Vec<&str> =
        golden["formats"].as_array().unwrap().iter().map(|f| f[0].as_str().unwrap()).collect();
    let got: Vec<&str> = builtin_names().collect();
    assert_eq!(got, want[..54]);
}

#[test]
fn no_template_is_chatml_and_an_unknown_one_nothing() {
    let hello = [Message { role: b"user", content: b"hello" }];
    let text = apply_template(None, &hello, false).unwrap();
    assert_eq!(text, b"<|im_start|>user\nhello<|im_end|>\n");
    assert_eq!(apply_template(Some(b""), &hello, true), None);
    assert_eq!(apply_template(Some(b"CHATML"), &hello, true), None);
    assert_eq!(apply_template(Some(b"dots1"), &hello, true), None);
    let broken = [Message { role: b"user", content: b"\xff\xfe" }];
    assert_eq!(
        apply_template(None, &broken, false).unwrap(),
        b"<|im_start|>user\n\xff\xfe<|im_end|>\n"
    );
}
