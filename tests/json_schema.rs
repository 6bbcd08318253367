//! Grammars of JSON schemas: which texts they take, against an independent validator and llama.cpp's
//! own grammars of the same schemas. And the C function.
//!
//! `tests/data/json_schemas.json` comes from `tests/tools/schema_goldens.py`.
#![allow(unsafe_code, reason = "calls the C interface")]

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use powerinfer::ffi::powerinfer::powerinfer_json_schema_to_grammar;
use powerinfer::grammar::schema::{Error, to_grammar};
use powerinfer::grammar::{Grammar, Matcher};
use serde_json::{Value, json};

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/json_schemas.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
});

fn matcher(grammar: &str) -> Matcher {
    Matcher::new(Arc::new(Grammar::parse(grammar.as_bytes(), b"root", None).unwrap()))
}

/// Does a grammar take the whole text?
fn takes(matcher: &mut Matcher, text: &str) -> bool {
    matcher.reset();
    (text.is_empty() || matcher.accept(-1, text.as_bytes())) && matcher.is_complete()
}

#[test]
fn grammars_take_what_satisfies_their_schema() {
    let (mut n_texts, mut wrong) = (0, Vec::new());
    for case in GOLDEN["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let grammar = match to_grammar(case["schema"].as_str().unwrap()) {
            Ok(converted) => converted.grammar,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut matcher = matcher(&grammar);
        for entry in case["texts"].as_array().unwrap() {
            n_texts += 1;
            let text = entry["text"].as_str().unwrap();
            let taken = takes(&mut matcher, text);
            if taken != entry["accepted"].as_bool().unwrap() {
                let text: String = text.chars().take(80).collect();
                wrong.push(format!("{name}: {text} is taken: {taken}\n{grammar}"));
            }
            // What differs from the validator or from llama.cpp has its reason.
            let llama_cpp = entry["llama_cpp"].as_bool();
            let differs = entry["accepted"] != entry["valid"]
                || llama_cpp.is_some_and(|taken| entry["accepted"] != taken);
            assert_eq!(differs, entry.get("why").is_some(), "{name}: {text}");
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_texts > 600, "{n_texts} texts");
}

#[test]
fn refusals_name_the_place() {
    for pair in GOLDEN["refused"].as_array().unwrap() {
        let (schema, piece) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        match to_grammar(schema) {
            Ok(converted) => panic!("{schema} makes\n{}", converted.grammar),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(piece), "{schema}: {message}, expected {piece}");
            }
        }
    }
}

/// What cannot be enforced is named, once, and nothing else is.
#[test]
fn losses_are_named() {
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "array", "uniqueItems": true, "contains": {"const": 1}},
            "b": {"type": "string", "pattern": "^(?!x)", "format": "email"},
            "c": {"type": "integer", "multipleOf": 7, "minimum": 3},
            "d": {"$ref": "#/properties/b"},
            "e": {"not": {}, "description": "x", "default": 3, "examples": [1]},
        },
        "dependentRequired": {"a": ["b"]},
        "minProperties": 2,
    });
    let mut lost = to_grammar(&schema.to_string()).unwrap().not_enforced;
    lost.sort_unstable();
    let expected = [
        "#/dependentRequired",
        "#/minProperties",
        "#/properties/a/contains",
        "#/properties/a/uniqueItems",
        "#/properties/b/format",
        "#/properties/b/pattern",
        "#/properties/c/multipleOf",
        "#/properties/e/not",
    ];
    assert_eq!(lost, expected);
    // What is enforced is not named.
    for case in GOLDEN["cases"].as_array().unwrap() {
        let lost = to_grammar(case["schema"].as_str().unwrap()).unwrap().not_enforced;
        let is_lost = |entry: &Value| entry["why"] == "not enforced, and logged";
        let any = case["texts"].as_array().unwrap().iter().any(is_lost);
        assert_eq!(any, !lost.is_empty(), "{}: {lost:?}", case["name"]);
    }
}

/// `oneOf` wants exactly one: a grammar that takes any is the same only if they exclude each other.
#[test]
fn branches_that_overlap_are_named() {
    let object = |name: &str, more: Value| json!({"type": "object", "properties": {name: more}, "required": [name]});
    let open = json!({"type": "object", "required": ["b"]});
    let kind = |kind: &str| object("kind", json!({"const": kind}));
    let (text, short) = (json!({"type": "string"}), json!({"type": "string", "maxLength": 2}));
    for (branches, overlap) in [
        (json!([text, {"type": "integer"}, {"type": "null"}]), false),
        (json!([text, short]), true),
        (json!([{"type": "integer"}, {"type": "number"}]), true),
        (json!([{"enum": ["a", "b"]}, {"enum": ["c"]}]), false),
        (json!([{"enum": ["a", "b"]}, {"const": "b"}]), true),
        (json!([kind("x"), kind("y"), kind("z")]), false),
        (json!([kind("x"), kind("y"), kind("x")]), true),
        (json!([object("a", json!({})), object("b", json!({}))]), false),
        (json!([object("a", json!({})), open]), true),
        (json!([{"$ref": "#/$defs/t"}, {"type": "integer"}]), false),
        (json!([{"$ref": "#/$defs/t"}, short]), true),
        (json!([{"anyOf": [short]}, {"type": "integer"}]), true),
    ] {
        let schema = json!({"$defs": {"t": text}, "oneOf": branches});
        let lost = to_grammar(&schema.to_string()).unwrap().not_enforced;
        assert_eq!(lost == ["#/oneOf"], overlap, "{schema}: {lost:?}");
    }
}

/// Schemas that would be endless, deep or huge end soon, with an error or a grammar of bounded size.
#[test]
fn hostile_schemas_end() {
    let nested = |n: usize| r#"{"items":"#.repeat(n) + "{}" + &"}".repeat(n);
    assert!(to_grammar(&nested(100)).is_ok());
    assert!(matches!(to_grammar(&nested(10_000)), Err(Error::Json(_))));

    let chain = |link: &dyn Fn(usize) -> Value, n: usize| {
        let defs: serde_json::Map<_, _> = (0..n).map(|i| (format!("d{i}"), link(i))).collect();
        json!({"$defs": defs, "$ref": "#/$defs/d0"}).to_string()
    };
    let to = |i: usize| json!({"$ref": format!("#/$defs/d{i}")});
    let last = |i: usize, value: Value| if i == 4999 { json!({"type": "null"}) } else { value };
    // A step into the value each time: long, not deep.
    let steps = |i| last(i, json!({"type": "array", "items": to(i + 1), "minItems": 1}));
    assert!(to_grammar(&chain(&steps, 5000)).is_ok());
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let same = |i| last(i, json!({keyword: [to(i + 1)], "minLength": 1}));
        let error = to_grammar(&chain(&same, 5000)).unwrap_err();
        assert!(matches!(error, Error::TooDeep { .. }), "{keyword}: {error}");
        // Two ways at each of 40 places.
        let twice = |i| {
            if i == 39 { json!({"type": "null"}) } else { json!({keyword: [to(i + 1), to(i + 1)]}) }
        };
        assert!(to_grammar(&chain(&twice, 40)).is_ok(), "{keyword}");
    }
    let refs = |i| last(i, to(i + 1));
    assert!(matches!(to_grammar(&chain(&refs, 5000)), Err(Error::Circular { .. })));

    // 2^40 ways to choose.
    let choice = |i| json!({"anyOf": [{"minLength": i}, {"maxLength": 1000 - i}]});
    let product = json!({"type": "string", "allOf": (0..40).map(choice).collect::<Vec<_>>()});
    assert!(matches!(to_grammar(&product.to_string()), Err(Error::TooLarge { .. })));

    let values =
        |n: usize| json!({"enum": (0..n).map(|i| format!("value {i}")).collect::<Vec<_>>()});
    let mut all = matcher(&to_grammar(&values(2000).to_string()).unwrap().grammar);
    assert!(takes(&mut all, "\"value 1999\"") && !takes(&mut all, "\"value 2000\""));
    assert!(matches!(to_grammar(&values(500_000).to_string()), Err(Error::TooLarge { .. })));

    for counted in [
        json!({"type": "array", "items": {"type": "null"}, "minItems": 1_000_000_000u64}),
        json!({"type": "string", "minLength": 1_000_000_000u64}),
        json!({"type": "string", "maxLength": 1_000_000_007u64}),
        json!({"type": "string", "pattern": "^((a{1,1000}){1,1000}b?){1000000}$"}),
        json!({"type": "object", "maxProperties": 1_000_000_007u64}),
    ] {
        let grammar = to_grammar(&counted.to_string()).unwrap().grammar;
        assert!(grammar.len() < 20_000, "{counted}: {} bytes", grammar.len());
    }
    assert!(to_grammar(r#"{"type": "array", "minItems": 1e30}"#).is_err());
    let long_name = json!({"properties": {"x".repeat(100_000): {}}, "additionalProperties": true});
    assert!(matches!(to_grammar(&long_name.to_string()), Err(Error::TooLarge { .. })));
    // A long name, its length at every place below it.
    let inner: serde_json::Map<_, _> =
        (0..3000).map(|i| (i.to_string(), json!({"type": "array", "uniqueItems": true}))).collect();
    let below = json!({"properties": {"\u{e9}".repeat(200_000): {"properties": inner}}});
    let lost = to_grammar(&below.to_string()).unwrap().not_enforced;
    assert!(lost.len() == 1000 && lost.iter().all(|place| place.len() < 1000), "{}", lost[0]);
    let braces = json!({"type": "string", "pattern": "{".repeat(200_000)});
    assert!(to_grammar(&braces.to_string()).is_ok());
    let slow: serde_json::Map<_, _> =
        (0..2000).map(|i| (format!("(\\w{{400}}){{9}}{i}"), json!({}))).collect();
    let slow = json!({"properties": {"a": {}}, "patternProperties": slow});
    assert!(matches!(to_grammar(&slow.to_string()), Err(Error::TooLarge { .. })));
    let long_value = json!({"$defs": {"v": {"enum": ["x".repeat(500_000)]}}, "allOf": [
        {"$ref": "#/$defs/v"}, {"anyOf": (0..2000).map(|i| json!({"minLength": i})).collect::<Vec<_>>()},
    ]});
    assert!(matches!(to_grammar(&long_value.to_string()), Err(Error::TooLarge { .. })));
    let long_tuple = json!({"prefixItems": vec![json!({}); 20_000], "minItems": 0});
    assert!(to_grammar(&long_tuple.to_string()).is_ok());
    let wide: serde_json::Map<_, _> =
        (0..5000).map(|i| (format!("property {i}"), json!({"type": "integer"}))).collect();
    assert!(to_grammar(&json!({"properties": wide}).to_string()).is_ok());
    // Names that others must differ from, which makes a tree of as many groups.
    let names: serde_json::Map<_, _> =
        (0..500).map(|i| (format!("{:04}", i * 7919 % 9973), json!(true))).collect();
    let open = json!({"properties": names, "additionalProperties": true});
    assert!(to_grammar(&open.to_string()).is_ok());
}

/// Numbers that are the same from run to run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// A schema of some depth, all of it enforced.
fn made_up(random: &mut Random, depth: usize) -> Value {
    let (a, b) = (random.below(40) as i64 - 20, random.below(30) as i64);
    match random.below(if depth == 0 { 7 } else { 11 }) {
        0 => {
            json!({"type": ["string", "null"], "minLength": b % 3, "maxLength": b % 3 + a.abs() % 5})
        }
        1 => json!({"type": "integer", "minimum": a * 17, "maximum": a * 17 + b * b}),
        2 => {
            json!({"type": "number", "minimum": a as f64 / 8.0, "exclusiveMaximum": (a + b + 1) as f64 / 8.0})
        }
        3 => json!({"enum": [a, "x\"y", null, {"k": [b]}]}),
        4 => json!({"type": "string", "pattern": "^[a-f]{1,3}(-\\d+)?$"}),
        5 => json!({"type": "boolean"}),
        6 => json!({"type": "string", "format": "date"}),
        7 => {
            let (min, more) = (random.below(3), random.below(3));
            json!({"type": "array", "items": made_up(random, depth - 1), "minItems": min, "maxItems": min + more})
        }
        8 => json!({"anyOf": [made_up(random, depth - 1), made_up(random, depth - 1)]}),
        9 => {
            json!({"type": "array", "prefixItems": [made_up(random, depth - 1), made_up(random, depth - 1)]})
        }
        _ => {
            let mut schema = json!({"type": "object", "properties": {}, "required": []});
            for name in ["a", "b\n", "ab", "é"].iter().take(1 + random.below(4)) {
                schema["properties"][name] = made_up(random, depth - 1);
                if random.below(2) == 0 {
                    schema["required"].as_array_mut().unwrap().push(json!(name));
                }
            }
            if random.below(3) == 0 {
                schema["additionalProperties"] = made_up(random, depth - 1);
            }
            schema
        }
    }
}

/// Does a value satisfy a schema of [`made_up`]?
fn satisfies(value: &Value, schema: &Value) -> bool {
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().any(|choice| satisfies(value, choice));
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        names => names.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
    };
    let at_least = |key: &str, n: usize| schema[key].as_u64().is_none_or(|min| n as u64 >= min);
    let at_most = |key: &str, n: usize| schema[key].as_u64().is_none_or(|max| n as u64 <= max);
    match value {
        Value::Null => types.contains(&"null"),
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Number(n) => {
            let n = n.as_f64().unwrap();
            let is_type =
                types.contains(&"number") || (types.contains(&"integer") && n.fract() == 0.0);
            is_type
                && schema["minimum"].as_f64().is_none_or(|min| n >= min)
                && schema["maximum"].as_f64().is_none_or(|max| n <= max)
                && schema["exclusiveMaximum"].as_f64().is_none_or(|max| n < max)
        }
        Value::String(text) => {
            let n = text.chars().count();
            let matches =
                |pattern| fancy_regex::Regex::new(pattern).unwrap().is_match(text).unwrap();
            let is_date = || text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
            types.contains(&"string")
                && at_least("minLength", n)
                && at_most("maxLength", n)
                && schema["pattern"].as_str().is_none_or(matches)
                && (schema["format"] != "date" || is_date())
        }
        Value::Array(items) => {
            let prefix = schema["prefixItems"].as_array();
            let item = |(i, item)| satisfies(item, prefix.map_or(&schema["items"], |p| &p[i]));
            types.contains(&"array")
                && prefix.is_none_or(|prefix| prefix.len() == items.len())
                && at_least("minItems", items.len())
                && at_most("maxItems", items.len())
                && items.iter().enumerate().all(item)
        }
        Value::Object(map) => {
            let Some(required) = schema["required"].as_array() else { return false };
            let property = |(name, value): (&String, &Value)| match &schema["properties"][name] {
                Value::Null => satisfies(value, &schema["additionalProperties"]),
                own => satisfies(value, own),
            };
            let is_open = !schema["additionalProperties"].is_null();
            let is_named = |name: &String| schema["properties"].get(name).is_some();
            map.keys().all(|name| is_named(name) || is_open)
                && map.iter().all(property)
                && required.iter().all(|name| map.contains_key(name.as_str().unwrap()))
        }
    }
}

/// A text of a grammar, character by character; `None` if it does not come to an end.
fn sentence(start: &Matcher, random: &mut Random) -> Option<String> {
    const CLOSING: &str = "}]\"";
    const OTHERS: &str = "{[,: \n\\abcdefklnrstuxyzé0123456789.-TZ+E";
    let (mut at, mut text) = (start.clone(), String::new());
    loop {
        if at.is_complete() && (random.below(3) > 0 || text.len() > 100) {
            return Some(text);
        }
        if text.len() > 400 {
            return None;
        }
        let mut others: Vec<char> = OTHERS.chars().collect();
        for i in (1..others.len()).rev() {
            others.swap(i, random.below(i + 1));
        }
        let closes = text.len() > 60 || random.below(4) == 0;
        let (first, last): (Vec<char>, Vec<char>) = if closes {
            (CLOSING.chars().collect(), others)
        } else {
            (others, CLOSING.chars().collect())
        };
        let next = first.into_iter().chain(last).find_map(|c| {
            let mut after = at.clone();
            let mut bytes = [0; 4];
            after.accept(-1, c.encode_utf8(&mut bytes).as_bytes()).then_some((c, after))
        });
        match next {
            Some((c, after)) => {
                text.push(c);
                at = after;
            }
            None if at.is_complete() => return Some(text),
            None => panic!("no way on from {text}"),
        }
    }
}

#[test]
fn all_texts_of_a_grammar_satisfy_its_schema() {
    let mut random = Random(7);
    let (mut n_texts, mut n_ends) = (0, 0);
    for _ in 0..150 {
        let schema = made_up(&mut random, 3);
        let converted = to_grammar(&schema.to_string()).unwrap();
        assert_eq!(converted.not_enforced, [""; 0], "{schema}");
        let start = matcher(&converted.grammar);
        for _ in 0..4 {
            n_texts += 1;
            let Some(text) = sentence(&start, &mut random) else { continue };
            n_ends += 1;
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(
                satisfies(&value, &schema),
                "{text} is taken for {schema}:\n{}",
                converted.grammar
            );
        }
    }
    assert!(n_ends * 10 > n_texts * 9, "{n_ends} of {n_texts} texts end");
}

/// The answer, and what lies in a buffer of that many bytes that held dots.
fn call(schema: Option<&CStr>, length: usize) -> (i32, String) {
    let mut buf = vec![b'.'; length];
    let schema = schema.map_or(std::ptr::null(), CStr::as_ptr);
    let room = buf.as_mut_ptr().cast::<c_char>();
    // SAFETY: NULL or a string; the buffer is as long as said.
    let n = unsafe { powerinfer_json_schema_to_grammar(schema, room, length as i32) };
    (n, String::from_utf8(buf).unwrap())
}

#[test]
fn the_c_function_returns_lengths_as_its_sisters_do() {
    let schema = c"{\"type\": \"boolean\"}";
    let text = to_grammar(schema.to_str().unwrap()).unwrap().grammar;
    let n = text.len();
    assert_eq!(call(Some(schema), 0), (n as i32, String::new()));
    assert_eq!(call(Some(schema), 4), (n as i32, text[..4].to_owned()));
    assert_eq!(call(Some(schema), n), (n as i32, text.clone()));
    assert_eq!(call(Some(schema), n + 3), (n as i32, format!("{text}\0..")));
    for bad in [None, Some(c""), Some(c"{"), Some(c"\xff"), Some(c"{\"type\": 1}")] {
        assert_eq!(call(bad, 3), (-1, "...".to_owned()), "{bad:?}");
    }
    let schema = CString::new("{}").unwrap();
    // SAFETY: a string, and no buffer.
    let n = unsafe { powerinfer_json_schema_to_grammar(schema.as_ptr(), std::ptr::null_mut(), 99) };
    assert_eq!(n as usize, to_grammar("{}").unwrap().grammar.len());
}
