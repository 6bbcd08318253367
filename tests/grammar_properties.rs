//! Grammars against a recogniser that knows nothing of stacks: random grammars, all short texts.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use powerinfer::grammar::{Error, Grammar, Matcher};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The right side of a rule.
#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Set(bool, Vec<(char, char)>),
    Any,
    Row(Vec<Part>),
    Choice(Vec<Part>),
    Repeat(Box<Part>, usize, Option<usize>),
    Rule(usize),
}

/// Rules `r0` (the start), `r1`, …
type Rules = Vec<Part>;

const N_RULES: usize = 3;
const LETTERS: [char; 3] = ['a', 'b', 'é'];

fn part() -> impl Strategy<Value = Part> {
    let letter = || prop::sample::select(LETTERS.to_vec());
    let text =
        prop::collection::vec(letter(), 0..3).prop_map(|c| Part::Text(c.into_iter().collect()));
    let set = (any::<bool>(), prop::collection::vec((letter(), letter()), 1..3));
    let leaf = prop_oneof![
        4 => text,
        2 => set.prop_map(|(negated, ranges)| Part::Set(negated, ranges)),
        1 => Just(Part::Any),
        2 => (0..N_RULES).prop_map(Part::Rule),
    ];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let some = || prop::collection::vec(inner.clone(), 1..4);
        let times = (0usize..3, prop::option::of(0usize..3));
        prop_oneof![
            3 => some().prop_map(Part::Row),
            3 => some().prop_map(Part::Choice),
            2 => (inner.clone(), times).prop_map(|(part, (min, more))| {
                Part::Repeat(Box::new(part), min, more.map(|more| min + more))
            }),
        ]
    })
}

/// What is left of left recursion: a rule is only named behind a letter, unless it is a later one.
fn rules() -> impl Strategy<Value = Rules> {
    prop::collection::vec(part(), N_RULES).prop_map(|mut rules| {
        for (i, rule) in rules.iter_mut().enumerate() {
            guard(rule, i);
        }
        rules
    })
}

fn guard(part: &mut Part, rule: usize) {
    match part {
        Part::Rule(named) if *named <= rule => {
            *part = Part::Row(vec![Part::Text("a".into()), Part::Rule(*named)]);
        }
        Part::Row(parts) | Part::Choice(parts) => parts.iter_mut().for_each(|p| guard(p, rule)),
        Part::Repeat(part, ..) => guard(part, rule),
        _ => {}
    }
}

fn write(part: &Part, out: &mut String) {
    let all = |parts: &[Part], between: &str, out: &mut String| {
        out.push('(');
        for (i, part) in parts.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { between });
            write(part, out);
        }
        out.push(')');
    };
    match part {
        Part::Text(text) => write!(out, "\"{text}\"").unwrap(),
        Part::Any => out.push('.'),
        Part::Rule(rule) => write!(out, "r{rule}").unwrap(),
        Part::Set(negated, ranges) => {
            out.push_str(if *negated { "[^" } else { "[" });
            ranges.iter().for_each(|(a, b)| write!(out, "{a}-{b}").unwrap());
            out.push(']');
        }
        Part::Row(parts) => all(parts, " ", out),
        Part::Choice(parts) => all(parts, " | ", out),
        Part::Repeat(part, min, max) => {
            all(std::slice::from_ref(part), "", out);
            match (min, max) {
                (0, None) => out.push('*'),
                (1, None) => out.push('+'),
                (0, Some(1)) => out.push('?'),
                (min, None) => write!(out, "{{{min},}}").unwrap(),
                (min, Some(max)) if min == max => write!(out, "{{{min}}}").unwrap(),
                (min, Some(max)) => write!(out, "{{{min},{max}}}").unwrap(),
            }
        }
    }
}

fn grammar_text(rules: &Rules) -> String {
    let mut text = String::new();
    for (i, rule) in rules.iter().enumerate() {
        write!(text, "r{i} ::= ").unwrap();
        write(rule, &mut text);
        text.push('\n');
    }
    text
}

/// Tries all ways to read a text.
struct Reader<'a> {
    rules: &'a Rules,
    text: &'a [char],
    /// Some way needed a character where the text ends.
    wants_more: bool,
}

impl Reader<'_> {
    /// Where the part can end when it begins at `start`.
    fn ends(&mut self, part: &Part, start: usize) -> BTreeSet<usize> {
        match part {
            Part::Text(text) => {
                let mut at = start;
                for c in text.chars() {
                    match self.char(at, |found| found == c) {
                        Some(next) => at = next,
                        None => return BTreeSet::new(),
                    }
                }
                [at].into()
            }
            Part::Set(negated, ranges) => {
                let has = |c| ranges.iter().any(|&(a, b)| a <= c && c <= b) != *negated;
                self.char(start, has).into_iter().collect()
            }
            Part::Any => self.char(start, |_| true).into_iter().collect(),
            Part::Rule(rule) => self.ends(&self.rules[*rule], start),
            Part::Choice(parts) => parts.iter().flat_map(|part| self.ends(part, start)).collect(),
            Part::Row(parts) => parts.iter().fold([start].into(), |starts, part| {
                starts.into_iter().flat_map(|start| self.ends(part, start)).collect()
            }),
            Part::Repeat(part, min, max) => {
                // Ends by the number of repetitions; more than the text is long change nothing.
                let most = max.unwrap_or(min + self.text.len() + 1);
                let mut now: BTreeSet<usize> = [start].into();
                let mut all = BTreeSet::new();
                for n in 0..=most {
                    if n >= *min {
                        all.extend(&now);
                    }
                    if n < most {
                        now = now.iter().flat_map(|&start| self.ends(part, start)).collect();
                    }
                }
                all
            }
        }
    }

    fn char(&mut self, at: usize, has: impl Fn(char) -> bool) -> Option<usize> {
        self.wants_more |= at == self.text.len();
        self.text.get(at).copied().filter(|&c| has(c)).map(|_| at + 1)
    }
}

/// Compares all texts of up to `more` further letters.
fn compare(rules: &Rules, matcher: &Matcher, text: &mut Vec<char>, more: usize) {
    let mut reader = Reader { rules, text, wants_more: false };
    let is_complete = reader.ends(&rules[0], 0).contains(&text.len());
    let wants_more = reader.wants_more;
    assert_eq!(matcher.is_complete(), is_complete, "{text:?} in\n{}", grammar_text(rules));
    assert_eq!(
        matcher.is_dead(),
        !is_complete && !wants_more,
        "{text:?} in\n{}",
        grammar_text(rules)
    );
    if more == 0 {
        return;
    }
    for c in LETTERS {
        let mut next = matcher.clone();
        let goes_on = next.accept(0, c.to_string().as_bytes());
        assert_eq!(goes_on, !next.is_dead());
        text.push(c);
        compare(rules, &next, text, more - 1);
        text.pop();
    }
}

#[test]
fn texts_are_read_as_by_trying_everything() {
    let mut n_compared = 0;
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    runner
        .run(&rules(), |rules| {
            match Grammar::parse(grammar_text(&rules).as_bytes(), b"r0", None) {
                Ok(grammar) => {
                    compare(&rules, &Matcher::new(Arc::new(grammar)), &mut Vec::new(), 4)
                }
                // An empty item repeated begins with itself.
                Err(Error::LeftRecursion { .. }) => return Ok(()),
                Err(error) => panic!("{error} in\n{}", grammar_text(&rules)),
            }
            Ok(())
        })
        .unwrap();
    // How often the comparison took place is no secret of the generator.
    let mut runner = TestRunner::deterministic();
    for _ in 0..100 {
        let rules = rules().new_tree(&mut runner).unwrap().current();
        let parsed = Grammar::parse(grammar_text(&rules).as_bytes(), b"r0", None);
        n_compared += usize::from(parsed.is_ok());
    }
    assert!(n_compared > 50, "{n_compared} of 100 grammars are not left recursive");
}
