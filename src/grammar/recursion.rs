//! Which rules begin with which others, and that none begins with itself.

use super::rules::{Elem, Grammar, Pos};

/// Numbers the rules so that one that begins with others has a greater number than these, or the
/// name of a rule that cannot be matched because it begins with itself.
///
/// llama.cpp refuses a rule that begins with itself, also behind rules with an empty alternative.
/// It does not see rules that can be empty by way of others. If such a one is followed by more,
/// as in `a ::= b a "x"`, the stacks grow without end, so that is refused too, where the start can
/// reach it; without more, as in `("x"? "y"?)*`, it does no harm.
pub(super) fn heights(grammar: &Grammar) -> Result<Vec<u32>, u32> {
    let empty =
        |rule: u32| grammar.alternatives(rule).iter().any(|&p| grammar.elem(p) == Elem::End);
    let plainly_empty: Vec<bool> = (0..grammar.n_rules() as u32).map(empty).collect();
    let all = 0..grammar.n_rules() as u32;
    let components = components(grammar, &plainly_empty, all);
    let begins_with_itself = |begin: &Begin| components.same(begin);
    if let Some(begin) = begins(grammar, &plainly_empty).find(begins_with_itself) {
        return Err(begin.rule);
    }

    let can_be_empty = can_be_empty(grammar, plainly_empty);
    let components = self::components(grammar, &can_be_empty, [grammar.root()]);
    let grows = |begin: &Begin| begin.grows && components.same(begin);
    match begins(grammar, &can_be_empty).find(grows) {
        Some(begin) => Err(begin.rule),
        None => Ok(components.order),
    }
}

/// A rule begins with another.
struct Begin {
    rule: u32,
    with: u32,
    /// More follows it.
    grows: bool,
}

/// What an alternative begins with, if the rules that can be empty are.
fn begins_of<'a>(
    grammar: &'a Grammar,
    empty: &'a [bool],
    rule: u32,
    start: Pos,
) -> impl Iterator<Item = Begin> + 'a {
    let mut pos = Some(start);
    std::iter::from_fn(move || {
        let at = pos?;
        let Elem::Rule(with) = grammar.elem(at) else { return None };
        pos = empty[with as usize].then_some(at + 1);
        Some(Begin { rule, with, grows: grammar.elem(at + 1) != Elem::End })
    })
}

fn begins<'a>(grammar: &'a Grammar, empty: &'a [bool]) -> impl Iterator<Item = Begin> + 'a {
    (0..grammar.n_rules() as u32).flat_map(move |rule| {
        let starts = grammar.alternatives(rule).iter();
        starts.flat_map(move |&start| begins_of(grammar, empty, rule, start))
    })
}

/// Which rules can match the empty text, given those that have an empty alternative.
fn can_be_empty(grammar: &Grammar, mut empty: Vec<bool>) -> Vec<bool> {
    // Alternatives of rules alone: how many of them are not known to be empty, and who waits for
    // each rule.
    let mut missing: Vec<(u32, usize)> = Vec::new();
    let mut waiting: Vec<Vec<u32>> = vec![Vec::new(); grammar.n_rules()];
    for rule in 0..grammar.n_rules() as u32 {
        for &start in grammar.alternatives(rule) {
            if !grammar.alternative(start).all(|elem| matches!(elem, Elem::Rule(_))) {
                continue;
            }
            let alternative = missing.len() as u32;
            for elem in grammar.alternative(start) {
                if let Elem::Rule(part) = elem {
                    waiting[part as usize].push(alternative);
                }
            }
            missing.push((rule, grammar.alternative(start).count()));
        }
    }
    let mut todo: Vec<u32> = (0..empty.len() as u32).filter(|&r| empty[r as usize]).collect();
    while let Some(rule) = todo.pop() {
        for alternative in std::mem::take(&mut waiting[rule as usize]) {
            let (owner, n) = &mut missing[alternative as usize];
            *n -= 1;
            if *n == 0 && !empty[*owner as usize] {
                empty[*owner as usize] = true;
                todo.push(*owner);
            }
        }
    }
    empty
}

/// Rules that begin with each other.
struct Components {
    /// By rule; equal for those that begin with each other. `u32::MAX`: not reached.
    component: Vec<u32>,
    /// By rule: position in an order in which what a rule begins with comes before it.
    order: Vec<u32>,
}

impl Components {
    /// Do the two begin with each other, or are they one?
    fn same(&self, begin: &Begin) -> bool {
        let [a, b] = [begin.rule, begin.with].map(|rule| self.component[rule as usize]);
        a == b && a != u32::MAX
    }
}

/// Strongly connected components (Tarjan's algorithm, with a stack of its own) of what can be
/// reached from `roots`, by any way.
fn components(
    grammar: &Grammar,
    empty: &[bool],
    roots: impl IntoIterator<Item = u32>,
) -> Components {
    const NONE: u32 = u32::MAX;
    let n = grammar.n_rules();
    let mut found = Components { component: vec![NONE; n], order: vec![0; n] };
    let (mut index, mut low) = (vec![NONE; n], vec![0u32; n]);
    let (mut n_indices, mut n_ordered) = (0, 0);
    let mut members: Vec<u32> = Vec::new();
    // What is reached but not begun with: starts of its own.
    let mut roots: Vec<u32> = roots.into_iter().collect();
    let edges = |rule: u32| {
        let starts = grammar.alternatives(rule).iter();
        starts.flat_map(move |&start| begins_of(grammar, empty, rule, start)).map(|b| b.with)
    };
    while let Some(root) = roots.pop() {
        if index[root as usize] != NONE {
            continue;
        }
        let mut path = vec![(root, edges(root))];
        let mut enter = |rule: u32,
                         low: &mut [u32],
                         members: &mut Vec<u32>,
                         roots: &mut Vec<u32>,
                         index: &mut [u32]| {
            (index[rule as usize], low[rule as usize]) = (n_indices, n_indices);
            n_indices += 1;
            members.push(rule);
            for &start in grammar.alternatives(rule) {
                roots.extend(grammar.alternative(start).filter_map(|elem| match elem {
                    Elem::Rule(rule) => Some(rule),
                    _ => None,
                }));
            }
        };
        enter(root, &mut low, &mut members, &mut roots, &mut index);
        while let Some((rule, next)) = path.last_mut() {
            let rule = *rule as usize;
            if let Some(with) = next.next() {
                if index[with as usize] == NONE {
                    enter(with, &mut low, &mut members, &mut roots, &mut index);
                    path.push((with, edges(with)));
                } else if found.component[with as usize] == NONE {
                    low[rule] = low[rule].min(index[with as usize]);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                low[*parent as usize] = low[*parent as usize].min(low[rule]);
            }
            if low[rule] == index[rule] {
                while let Some(member) = members.pop() {
                    found.component[member as usize] = index[rule];
                    found.order[member as usize] = n_ordered;
                    n_ordered += 1;
                    if member as usize == rule {
                        break;
                    }
                }
            }
        }
    }
    found
}
