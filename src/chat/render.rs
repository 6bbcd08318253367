//! Writing a conversation in a format.

use super::Message;
use super::formats::{Format, When};

/// The conversation's text.
pub(super) fn render(format: &Format, messages: &[Message<'_>], add_assistant: bool) -> Vec<u8> {
    let mut writer = Writer { out: Vec::new(), held: Vec::new(), open: format.opens_turn };
    writer.out.extend_from_slice((format.opening)(messages).as_bytes());
    for (i, message) in messages.iter().enumerate() {
        if !writer.open {
            writer.out.extend_from_slice(format.turn.as_bytes());
            writer.open = true;
        }
        let place = Place { first: i == 0, last: i + 1 == messages.len() };
        let turn = format.turns.iter().find(|(when, _)| when.applies(message.role, place));
        if let Some((_, pattern)) = turn {
            writer.write(pattern, message);
        }
    }
    if add_assistant {
        writer.out.extend_from_slice(format.answer.as_bytes());
    }
    writer.out
}

/// Where a message stands in the conversation.
#[derive(Clone, Copy)]
struct Place {
    first: bool,
    last: bool,
}

impl When {
    fn applies(self, role: &[u8], place: Place) -> bool {
        match self {
            When::Role(name) => role == name.as_bytes(),
            When::First(name) => place.first && role == name.as_bytes(),
            When::Last(name) => place.last && role == name.as_bytes(),
            When::FirstOfAny => place.first,
            When::Any => true,
        }
    }
}

struct Writer {
    out: Vec<u8>,
    /// System text that waits for the next message that takes it in.
    held: Vec<u8>,
    /// Inside a turn that more messages can join.
    open: bool,
}

impl Writer {
    /// Writes a pattern; the placeholders are described at [`Format::turns`].
    fn write(&mut self, mut pattern: &str, message: &Message<'_>) {
        while let Some((text, rest)) = pattern.split_once('{') {
            self.out.extend_from_slice(text.as_bytes());
            let (placeholder, rest) = rest.split_once('}').unwrap_or((rest, ""));
            self.fill(placeholder, message);
            pattern = rest;
        }
        self.out.extend_from_slice(pattern.as_bytes());
    }

    fn fill(&mut self, placeholder: &str, Message { role, content }: &Message<'_>) {
        match placeholder {
            "content" => self.out.extend_from_slice(content),
            "trimmed" => self.out.extend_from_slice(trim(content)),
            "role" => self.out.extend_from_slice(role),
            "ROLE" => self.out.extend(role.iter().map(u8::to_ascii_uppercase)),
            "Role" => {
                let (first, rest) = role.split_at(role.len().min(1));
                self.out.extend(first.iter().map(u8::to_ascii_uppercase));
                self.out.extend_from_slice(rest);
            }
            "hold" => self.held.extend_from_slice(content),
            "hold trimmed" => self.held.extend_from_slice(trim(content)),
            "held" if !self.held.is_empty() => {
                self.out.append(&mut self.held);
                self.out.extend_from_slice(b"\n\n");
            }
            "held" => {}
            "close" => self.open = false,
            other => debug_assert!(false, "unknown placeholder {other}"),
        }
    }
}

/// Without white space (C's `isspace`) at both ends.
fn trim(text: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | 0x09..=0x0d);
    let start = text.iter().position(|b| !is_space(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    &text[start..end]
}
