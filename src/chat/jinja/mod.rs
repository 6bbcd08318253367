//! A conversation in the words of the model's own Jinja template.
//!
//! Templates of chat models are written for the `apply_chat_template` of Hugging Face's
//! transformers: Jinja2 in Python with `trim_blocks` and `lstrip_blocks`, loop controls, the filter
//! `tojson` and the functions `raise_exception` and `strftime_now`. The engine is minijinja; what it
//! lacks of those is here, and the JSON that templates write in [`json`].
//!
//! A template comes with a model file, so it may be hostile: what it may compute and write is bounded,
//! and it can reach nothing but what it is given.

mod json;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use std::borrow::Cow;
use std::collections::BTreeMap;
use thiserror::Error as ThisError;

/// Steps that a template may take, about one for each instruction and for each 64 bytes that it
/// makes: a long conversation of a megabyte takes some hundred thousands.
const FUEL: u64 = 20_000_000;

/// What a template is applied to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// JSON: an array of messages, objects with `role`, `content` and whatever else the template
    /// reads (`tool_calls`, `reasoning_content`, …).
    pub messages: &'a str,
    /// JSON: an array of tools, each a function with its JSON schema.
    pub tools: Option<&'a str>,
    /// JSON: an object of further variables of the template, `enable_thinking` for one.
    pub variables: Option<&'a str>,
    /// Whether the text ends with what introduces the assistant's answer.
    pub add_generation_prompt: bool,
    /// Texts of special tokens by the names that templates know: `bos_token`, `eos_token`, ….
    pub special: &'a [(&'static str, Cow<'a, str>)],
}

/// Why there is no text.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum JinjaError {
    /// An argument is not JSON.
    #[error("{what} are not JSON: {source}")]
    Json {
        /// Which argument.
        what: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// An argument is JSON of another type.
    #[error("{what} are {found}, not {expected}")]
    Type {
        /// Which argument.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// The template does not parse, raised an exception or took too long.
    #[error("the template fails: {0}")]
    Template(String),
}

impl From<Error> for JinjaError {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        Self::Template(text)
    }
}

/// The text of a conversation by a template. The template writes the beginning of the sequence
/// itself where the model wants it, so the text is to be tokenised with special tokens parsed and
/// none added.
///
/// # Errors
/// See [`JinjaError`].
pub fn render(template: &str, conversation: &Conversation<'_>) -> Result<String, JinjaError> {
    let mut variables = BTreeMap::new();
    if let Some(text) = conversation.variables {
        let more = parse("variables", text, "an object")?;
        for name in more.try_iter()? {
            let value = more.get_item(&name)?;
            variables.insert(name.to_string(), value);
        }
    }
    for (name, text) in conversation.special {
        variables.entry((*name).to_owned()).or_insert_with(|| Value::from(text.as_ref()));
    }
    let tools = match conversation.tools {
        Some(text) => parse("tools", text, "an array")?,
        None => Value::from(()),
    };
    variables.insert("tools".into(), tools);
    // Of retrieval; most templates only ask whether there are any.
    variables.entry("documents".into()).or_insert_with(|| Value::from(()));
    variables.insert("messages".into(), parse("messages", conversation.messages, "an array")?);
    variables.insert("add_generation_prompt".into(), conversation.add_generation_prompt.into());

    let template = without_generation_marks(template);
    let environment = environment()?;
    Ok(environment.template_from_str(&template)?.render(Value::from(variables))?)
}

/// Parses an argument, "an array" or "an object".
fn parse(what: &'static str, text: &str, expected: &'static str) -> Result<Value, JinjaError> {
    use minijinja::value::ValueKind;
    let value: Value =
        serde_json::from_str(text).map_err(|source| JinjaError::Json { what, source })?;
    match (value.kind(), expected) {
        (ValueKind::Seq, "an array") | (ValueKind::Map, "an object") => Ok(value),
        (kind, _) => Err(JinjaError::Type { what, found: kind.to_string(), expected }),
    }
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

/// The local time in a format of `strftime`.
fn strftime_now(format: String) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
}

/// The template without `{% generation %}` and `{% endgeneration %}`, in which transformers' own
/// extension encloses what a model is trained to say; the text in between stays.
fn without_generation_marks(template: &str) -> Cow<'_, str> {
    if !template.contains("endgeneration") {
        return Cow::Borrowed(template);
    }
    let (mut out, mut rest) = (String::with_capacity(template.len()), template);
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (inside, after) = (&tag[2..end], &tag[end + 2..]);
        let name = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        // Blocks that do nothing keep what the marks do to the white space around them.
        match name {
            "generation" => out.push_str(&tag[..end + 2].replace(name, "if true")),
            "endgeneration" => out.push_str(&tag[..end + 2].replace(name, "endif")),
            _ => out.push_str(&tag[..end + 2]),
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(template: &str) -> Result<String, JinjaError> {
        let messages = r#"[{"role": "user", "content": "Hi <b>&"}]"#;
        render(template, &Conversation { messages, ..Conversation::default() })
    }

    #[test]
    fn generation_marks_vanish_with_their_white_space() {
        let template =
            "a\n  {%- generation -%}\n b {% endgeneration %}\nc {% if true %}d{% endif %}";
        assert_eq!(text(template).unwrap(), "ab c d");
        // Braces that never close are left to the parser.
        assert!(text("{% endgeneration").is_err());
    }

    #[test]
    fn exceptions_carry_their_message() {
        let error = text("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn the_year_is_this_year() {
        let year: i32 = text("{{ strftime_now('%Y') }}").unwrap().parse().unwrap();
        assert_eq!(year, i32::from(jiff::Zoned::now().year()));
        assert!(text("{{ strftime_now('%') }}").is_err());
    }

    #[test]
    fn hostile_templates_end() {
        for template in [
            "{% for i in range(9999) %}{% for j in range(9999) %}{{ i * j }}{% endfor %}{% endfor %}",
            "{{ 'a' * 100000000000 }}",
            "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{{ [1] * 100000000000 }}",
            "{% include 'passwd' %}",
        ] {
            assert!(text(template).is_err(), "{template}");
        }
        assert!(
            text(&format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))).is_err()
        );
    }

    #[test]
    fn arguments_that_are_not_what_they_should_be() {
        let with = |messages, tools, variables| {
            let more = Conversation { messages, tools, variables, ..Conversation::default() };
            render("{{ messages }}", &more).unwrap_err().to_string()
        };
        assert_eq!(with("{}", None, None), "messages are map, not an array");
        assert_eq!(with("[]", Some("1"), None), "tools are number, not an array");
        assert_eq!(with("[]", None, Some("[]")), "variables are sequence, not an object");
        assert!(with("[", None, None).starts_with("messages are not JSON"));
        let deep = "[".repeat(100_000);
        assert!(with(&deep, None, None).starts_with("messages are not JSON"));
    }
}
