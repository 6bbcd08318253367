//! Grammars of JSON schemas.

use core::ffi::c_char;

use super::super::guard;
use super::super::strings::{c_str, strncpy};
use crate::grammar::schema::{self, Converted};
use crate::{log_error, log_warn};

/// Makes a grammar (GBNF, for llama_sampler_init_grammar with the root "root") of the JSON texts that
/// a JSON schema accepts.
///
/// `schema` is JSON: what pydantic, zod and OpenAI's "json_schema" write, which is most of drafts 4 to
/// 2020-12. `{"type": "object"}` is any object, `{}` any value. Properties come in the order in which
/// the schema has them; those that it does not name only where "additionalProperties" says so.
/// References lead into the schema itself ("#/$defs/…"). What a grammar cannot say ("not", "if",
/// "uniqueItems", look-around in patterns, …) is not enforced, and one line of the log names it.
///
/// Returns the full length of the grammar in bytes: more than `length` means that it was cut, and
/// there is a NUL only where there is room for it. -1 on an error, with a line in the log that names
/// the place in the schema.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_json_schema_to_grammar(
    schema: *const c_char,
    buf: *mut c_char,
    length: i32,
) -> i32 {
    const NAME: &str = "powerinfer_json_schema_to_grammar";
    guard::call(-1, NAME, || {
        // SAFETY: NULL or a terminated string that outlives the call.
        match grammar(unsafe { c_str(schema) }) {
            Ok(Converted { grammar, not_enforced }) => {
                // Once, and not when only the length is asked for.
                let is_given = !buf.is_null() && i64::from(length) >= grammar.len() as i64;
                if is_given && !not_enforced.is_empty() {
                    log_warn!("{NAME}: not enforced by the grammar: {}", listed(&not_enforced));
                }
                // SAFETY: the caller's buffer has `length` bytes.
                unsafe { strncpy(buf, length, grammar.as_bytes()) }
            }
            Err(error) => {
                log_error!("{NAME}: {error}");
                -1
            }
        }
    })
}

fn grammar(schema: Option<&core::ffi::CStr>) -> Result<Converted, String> {
    let schema = schema.ok_or("no schema")?;
    let schema = schema.to_str().map_err(|e| format!("the schema is not UTF-8: {e}"))?;
    schema::to_grammar(schema).map_err(|e| one_line(&e.to_string()))
}

/// The first places, and how many there are more.
fn listed(places: &[String]) -> String {
    const MOST: usize = 10;
    let mut text = places[..places.len().min(MOST)].join(", ");
    if places.len() > MOST {
        text.push_str(&format!(" and {} more", places.len() - MOST));
    }
    one_line(&text)
}

/// Names of a schema may have line ends, and a line of the log none.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
