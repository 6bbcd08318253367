//! Values that are given: `enum` and `const`.

use fancy_regex::RegexBuilder;
use rustc_hash::FxHashSet;
use serde_json::{Number, Value};

use super::Error;
use super::convert::Converter;
use super::expr::Expr;
use super::keywords::{OF_CONTENTS, Part, Types};

/// Values are equal if these are: 1 and 1.0 are, objects whatever their order.
pub(super) fn canonical(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Array(items) => {
                out.push('[');
                for item in items {
                    write(item, out);
                    out.push(',');
                }
                out.push(']');
            }
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_unstable();
                out.push('{');
                for key in keys {
                    write(&Value::String(key.clone()), out);
                    write(&map[key], out);
                }
                out.push('}');
            }
            Value::Number(n) => match n.as_f64() {
                Some(n) if n.fract() == 0.0 && n.abs() < 9e15 => {
                    out.push_str(&(n as i64).to_string())
                }
                _ => out.push_str(&n.to_string()),
            },
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// A value as it is written: one way, but for the white space.
fn written(value: &Value) -> Expr {
    let comma = |i| if i > 0 { Expr::comma() } else { Expr::EMPTY };
    let around = |open, inner: Vec<Expr>, close| {
        let inner = Expr::seq(inner);
        Expr::seq([Expr::text(open), Expr::SPACE, inner, Expr::SPACE, Expr::text(close)])
    };
    match value {
        Value::Array(items) if items.is_empty() => {
            Expr::seq([Expr::text("["), Expr::SPACE, Expr::text("]")])
        }
        Value::Object(map) if map.is_empty() => {
            Expr::seq([Expr::text("{"), Expr::SPACE, Expr::text("}")])
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            around("[", items.flat_map(|(i, item)| [comma(i), written(item)]).collect(), "]")
        }
        Value::Object(map) => {
            let entry = |(i, (key, value)): (usize, (&String, &Value))| {
                [comma(i), key_and_colon(key), written(value)]
            };
            around("{", map.iter().enumerate().flat_map(entry).collect(), "}")
        }
        other => Expr::text(other.to_string()),
    }
}

/// The name of a property and the colon.
pub(super) fn key_and_colon(key: &str) -> Expr {
    let key = Value::String(key.to_owned()).to_string();
    Expr::seq([Expr::text(key), Expr::SPACE, Expr::text(":"), Expr::SPACE])
}

impl<'a> Converter<'a> {
    /// The values that all `enum` and `const` have in common and the other keywords let be; `None`
    /// if there are no such keywords.
    pub(super) fn enumerated(
        &mut self,
        parts: &[Part<'a>],
        types: Types,
    ) -> Result<Option<Expr>, Error> {
        let mut left: Option<Vec<(String, &'a Value)>> = None;
        for part in parts {
            let values = part.get("enum").map(|values| {
                let wrong = || part.wrong("enum", "an array that is not empty");
                values.as_array().filter(|values| !values.is_empty()).ok_or_else(wrong)
            });
            let lists = [
                values.transpose()?.map(Vec::as_slice),
                part.get("const").map(std::slice::from_ref),
            ];
            for list in lists.into_iter().flatten() {
                self.work(list.len(), &part.place)?;
                let own: Vec<_> = list.iter().map(|value| (canonical(value), value)).collect();
                let n_bytes: usize = own.iter().map(|(text, _)| text.len()).sum();
                self.work(n_bytes / 64, &part.place)?;
                left = Some(match left.take() {
                    None => {
                        let mut seen = FxHashSet::default();
                        own.into_iter().filter(|(text, _)| seen.insert(text.clone())).collect()
                    }
                    Some(mut before) => {
                        let own: FxHashSet<String> =
                            own.into_iter().map(|(text, _)| text).collect();
                        before.retain(|(text, _)| own.contains(text));
                        before
                    }
                });
            }
        }
        let Some(mut left) = left else { return Ok(None) };
        left.retain(|(_, value)| types.has(Types::of(value)));
        let mut values = Vec::new();
        for (_, value) in left {
            let mut admitted = true;
            for part in parts {
                admitted = admitted && self.admits(part, value)?;
            }
            if admitted {
                values.push(written(value));
            }
        }
        Ok(Some(Expr::any(values)))
    }

    /// Do the keywords about numbers and strings let a value be? What is about the contents of
    /// objects and arrays is not looked at.
    fn admits(&mut self, part: &Part<'a>, value: &Value) -> Result<bool, Error> {
        Ok(match value {
            Value::Number(n) => self.admits_number(part, n)?,
            Value::String(text) => {
                let n = text.chars().count() as u64;
                part.count("minLength")?.is_none_or(|min| min <= n)
                    && part.count("maxLength")?.is_none_or(|max| n <= max)
                    && self.admits_pattern(part, text)?
            }
            Value::Array(_) | Value::Object(_) => {
                for keyword in OF_CONTENTS.iter().flat_map(|list| list.iter()) {
                    if part.get(keyword).is_some() {
                        self.lose(part, keyword);
                    }
                }
                true
            }
            Value::Null | Value::Bool(_) => true,
        })
    }

    fn admits_pattern(&mut self, part: &Part<'a>, text: &str) -> Result<bool, Error> {
        let Some(pattern) = part.string("pattern")? else { return Ok(true) };
        match self.matches(pattern, text, &part.place)? {
            Some(is_match) => Ok(is_match),
            None => {
                self.lose(part, "pattern");
                Ok(true)
            }
        }
    }

    /// Is a text matched by an expression? `None` if that is too hard to say.
    pub(super) fn matches(
        &mut self,
        pattern: &'a str,
        text: &str,
        place: &str,
    ) -> Result<Option<bool>, Error> {
        let known = self.expressions.get(pattern).map(Option::is_some);
        if known.is_none() {
            // Some take long to be made.
            self.work(4000 + pattern.len(), place)?;
            let mut builder = RegexBuilder::new(pattern);
            let made = builder.delegate_size_limit(1 << 20).backtrack_limit(10_000).build();
            self.expressions.insert(pattern, made.ok());
        }
        self.work(1 + text.len() / 8, place)?;
        let regex = self.expressions.get(pattern).and_then(Option::as_ref);
        Ok(regex.and_then(|regex| regex.is_match(text).ok()))
    }

    fn admits_number(&mut self, part: &Part<'_>, n: &Number) -> Result<bool, Error> {
        let bounds = part.bounds()?;
        if part.get("multipleOf").is_some() {
            self.lose(part, "multipleOf");
        }
        Ok(bounds.admit(n))
    }
}
