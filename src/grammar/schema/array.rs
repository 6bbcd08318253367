//! Arrays: `prefixItems`, `items` and their number.

use serde_json::Value;

use super::Error;
use super::convert::Converter;
use super::expr::{Expr, RuleId};
use super::keywords::{Node, Part, item_of};

/// Optional items that stand within each other before the next of them get a rule.
const NESTED: usize = 4;

/// The items of one part: schemas of the first ones, and of all others.
struct Items<'a> {
    first: Vec<Node<'a>>,
    others: Option<Node<'a>>,
}

fn items<'a>(part: &Part<'a>) -> Result<Items<'a>, Error> {
    let list = |keyword: &str, list: &'a [Value]| {
        let node = |(i, schema): (usize, &'a Value)| Node {
            schema,
            place: item_of(&part.place, keyword, &i.to_string()),
        };
        list.iter().enumerate().map(node).collect()
    };
    // Until draft 2019-09 a list of items stood in `items`, and the others in `additionalItems`.
    if let Some(Value::Array(first)) = part.get("items") {
        return Ok(Items { first: list("items", first), others: part.node("additionalItems") });
    }
    let first = match part.get("prefixItems") {
        Some(Value::Array(first)) => list("prefixItems", first),
        Some(_) => return Err(part.wrong("prefixItems", "an array of schemas")),
        None => Vec::new(),
    };
    Ok(Items { first, others: part.node("items") })
}

impl<'a> Converter<'a> {
    /// Arrays.
    pub(super) fn array(&mut self, rule: RuleId, parts: &[Part<'a>]) -> Result<Expr, Error> {
        let all = parts.iter().map(items).collect::<Result<Vec<_>, _>>()?;
        let mut n_first = all.iter().map(|items| items.first.len()).max().unwrap_or(0);
        let (mut min, mut max) = (None::<u64>, None::<u64>);
        for part in parts {
            min = min.max(part.count("minItems")?);
            if let Some(most) = part.count("maxItems")? {
                max = Some(max.map_or(most, |max| max.min(most)));
            }
        }
        // Those of which there are schemas are all there, and no others, if nothing is said.
        if all.iter().any(|items| !items.first.is_empty() && items.others.is_none()) {
            max = Some(max.unwrap_or(u64::MAX).min(n_first as u64));
        }
        let min = min.unwrap_or((n_first as u64).min(max.unwrap_or(u64::MAX)));
        if let Some(max) = max {
            if max < min {
                return Ok(Expr::NEVER);
            }
            n_first = n_first.min(usize::try_from(max).unwrap_or(usize::MAX));
        }
        let anything = n_first == 0 && all.iter().all(|items| items.others.is_none());
        if anything && min == 0 && max.is_none() {
            return Ok(Expr::Named("array"));
        }

        let mut first = Vec::new();
        for i in 0..n_first {
            let here = |items: &Items<'a>| items.first.get(i).or(items.others.as_ref()).cloned();
            let nodes: Vec<_> = all.iter().filter_map(here).collect();
            self.work(nodes.len(), &parts[0].place)?;
            first.push(self.item(nodes)?);
        }
        let others: Vec<_> = all.iter().filter_map(|items| items.others.clone()).collect();
        let n_first = n_first as u64;
        let max_others = max.map(|max| max - n_first);
        let others = match max_others {
            Some(0) => Expr::EMPTY,
            _ => self.item(others)?,
        };
        let inner = self.items(rule, first, others, (min, min.saturating_sub(n_first)), max_others);
        let [open, close] = ["[", "]"].map(Expr::text);
        Ok(match inner {
            Expr::Text(text) if text.is_empty() => Expr::seq([open, Expr::SPACE, close]),
            // The white space before the end belongs to the items, so that there is one place for it.
            inner if min == 0 => {
                let inner = Expr::seq([inner, Expr::SPACE]).optional();
                Expr::seq([open, Expr::SPACE, inner, close])
            }
            inner => Expr::seq([open, Expr::SPACE, inner, Expr::SPACE, close]),
        })
    }

    fn item(&mut self, nodes: Vec<Node<'a>>) -> Result<Expr, Error> {
        if nodes.is_empty() { Ok(Expr::Named("value")) } else { self.rule(nodes) }
    }

    /// At least one item. `min` counts all items and the others among them.
    fn items(
        &mut self,
        rule: RuleId,
        first: Vec<Expr>,
        others: Expr,
        (min, min_others): (u64, u64),
        max_others: Option<u64>,
    ) -> Expr {
        let next = |item: Expr| Expr::seq([Expr::comma(), item]);
        if first.is_empty() {
            if max_others == Some(0) {
                return Expr::EMPTY;
            }
            let more = next(others.clone());
            let most = max_others.map(|max| max - 1);
            let more = self.rules.repeat(rule, more, min_others.saturating_sub(1), most);
            return Expr::seq([others, more]);
        }
        let mut tail = match max_others {
            Some(0) => Expr::EMPTY,
            _ => self.rules.repeat(rule, next(others), min_others, max_others),
        };
        let n = first.len();
        let mut needed = Vec::new();
        for (i, item) in first.into_iter().enumerate().rev() {
            let item = if i == 0 { item } else { next(item) };
            if i == 0 || (i as u64) < min {
                needed.push(item);
                continue;
            }
            tail = Expr::seq([item, tail]).optional();
            if (n - i).is_multiple_of(NESTED) {
                tail = self.rules.part(rule, "more", tail);
            }
        }
        needed.reverse();
        needed.push(tail);
        Expr::seq(needed)
    }
}
