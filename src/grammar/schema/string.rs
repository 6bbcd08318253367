//! Strings: lengths, formats and patterns.

use super::Error;
use super::convert::Converter;
use super::expr::{Expr, RuleId};
use super::keywords::{FORMATS, Part, below};
use super::pattern::{self, Pattern};

impl<'a> Converter<'a> {
    /// Strings.
    pub(super) fn string(&mut self, rule: RuleId, parts: &[Part<'a>]) -> Result<Expr, Error> {
        let (mut min, mut max) = (0, None::<u64>);
        for part in parts {
            min = min.max(part.count("minLength")?.unwrap_or(0));
            if let Some(most) = part.count("maxLength")? {
                max = Some(max.map_or(most, |max| max.min(most)));
            }
        }
        if max.is_some_and(|max| max < min) {
            return Ok(Expr::NEVER);
        }
        // One of the patterns and formats; all would be an intersection.
        let mut inner = None;
        for part in parts {
            let Some(text) = part.string("pattern")? else { continue };
            self.work(text.len() / 8, &part.place)?;
            match Pattern::parse(text) {
                Ok(mut pattern) if inner.is_none() => {
                    if !pattern.limit(min, max) {
                        self.lose_all(parts, "minLength");
                        self.lose_all(parts, "maxLength");
                    }
                    inner = Some(pattern.expr(&mut self.rules, rule));
                }
                Err(pattern::Error::Invalid(reason)) => {
                    let place = below(&part.place, "pattern").to_string();
                    return Err(Error::Pattern { place, pattern: text.to_owned(), reason });
                }
                Ok(_) | Err(pattern::Error::Unsupported) => self.lose(part, "pattern"),
            }
        }
        for part in parts {
            let Some(format) = part.string("format")? else { continue };
            let known = FORMATS.iter().find(|known| **known == format);
            match known {
                Some(format) if inner.is_none() => {
                    let name = if format.starts_with("uuid") { "uuid" } else { format };
                    inner = Some(Expr::Named(name));
                    self.lose_all(parts, "minLength");
                    self.lose_all(parts, "maxLength");
                }
                _ => self.lose(part, "format"),
            }
        }
        Ok(match (inner, min, max) {
            (Some(inner), ..) => inner.quoted(),
            (None, 0, None) => Expr::Named("string"),
            (None, min, max) => self.rules.repeat(rule, Expr::Named("char"), min, max).quoted(),
        })
    }
}
