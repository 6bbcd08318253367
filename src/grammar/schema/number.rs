//! Numbers: ranges as digits.

use serde_json::{Number, Value};

use super::Error;
use super::convert::Converter;
use super::expr::Expr;
use super::keywords::Part;

/// Digits before the point, unless a bound has more, and behind it.
const DIGITS: usize = 16;
/// Greatest number of digits of a bound before the point; more of them fit in no `u128`.
const MOST_DIGITS: usize = 38;

/// A bound as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    whole: u128,
    /// Digits behind the point, without zeros at the end.
    fraction: String,
}

/// A number that is not negative, and whether it is left out.
#[derive(Clone, Debug)]
struct Edge {
    whole: u128,
    fraction: String,
    open: bool,
}

/// Least and greatest, each with whether it is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    low: Option<(Number, bool)>,
    high: Option<(Number, bool)>,
}

impl Bounds {
    fn narrow(&mut self, other: Self) {
        let value = |bound: &(Number, bool)| bound.0.as_f64().unwrap_or(f64::NAN);
        let [low, high] = [&self.low, &self.high].map(|b| b.as_ref().map(value));
        if let Some(new) = other.low
            && low.is_none_or(|low| value(&new) > low || (value(&new) == low && new.1))
        {
            self.low = Some(new);
        }
        if let Some(new) = other.high
            && high.is_none_or(|high| value(&new) < high || (value(&new) == high && new.1))
        {
            self.high = Some(new);
        }
    }

    /// Is a number within?
    pub(super) fn admit(&self, n: &Number) -> bool {
        let value = |n: &Number| n.as_f64().unwrap_or(f64::NAN);
        let above = |(low, open): &(Number, bool)| {
            value(n) > value(low) || (!open && value(n) == value(low))
        };
        let below = |(high, open): &(Number, bool)| {
            value(n) < value(high) || (!open && value(n) == value(high))
        };
        self.low.as_ref().is_none_or(above) && self.high.as_ref().is_none_or(below)
    }
}

impl Part<'_> {
    /// The bounds of a number.
    pub(super) fn bounds(&self) -> Result<Bounds, Error> {
        let mut bounds = Bounds::default();
        let number = |keyword| match self.get(keyword) {
            None | Some(Value::Bool(_)) => Ok(None),
            Some(Value::Number(n)) => Ok(Some(n.clone())),
            Some(_) => Err(self.wrong(keyword, "a number")),
        };
        for (keyword, exclusive) in
            [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
        {
            // In draft 4 and OpenAPI 3.0 the second one says whether the first is left out.
            let open = self.get(exclusive).and_then(Value::as_bool) == Some(true);
            if matches!(self.get(keyword), Some(Value::Bool(_))) {
                return Err(self.wrong(keyword, "a number"));
            }
            for bound in
                [number(keyword)?.map(|n| (n, open)), number(exclusive)?.map(|n| (n, true))]
            {
                bounds.narrow(match keyword {
                    "minimum" => Bounds { low: bound, high: None },
                    _ => Bounds { low: None, high: bound },
                });
            }
        }
        Ok(bounds)
    }
}

/// What a bound does: it may lie so far out that it does nothing.
enum Reach<T> {
    None,
    At(T),
}

impl Decimal {
    /// `None` if it has too many digits before the point.
    fn of(n: &Number) -> Option<Self> {
        // Rust writes floating point numbers without exponent.
        let text = match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), ..) => n.to_string(),
            (_, Some(n), _) => n.to_string(),
            (.., Some(n)) => format!("{n}"),
            _ => return None,
        };
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text.as_str()),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.len() > MOST_DIGITS {
            return None;
        }
        let fraction = fraction.trim_end_matches('0').to_owned();
        let whole = whole.parse().ok()?;
        let negative = negative && (whole > 0 || !fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }
}

impl<'a> Converter<'a> {
    fn bounds(&mut self, parts: &[Part<'a>]) -> Result<Bounds, Error> {
        let mut bounds = Bounds::default();
        for part in parts {
            bounds.narrow(part.bounds()?);
        }
        Ok(bounds)
    }

    /// Digits behind the point that `multipleOf` leaves: 10^-k leaves k, others cannot be enforced.
    fn places(&mut self, parts: &[Part<'a>]) -> Result<Option<usize>, Error> {
        let mut places: Option<usize> = None;
        for part in parts {
            let Some(value) = part.get("multipleOf") else { continue };
            let step = value.as_f64().filter(|&step| step > 0.0);
            let step = step.ok_or_else(|| part.wrong("multipleOf", "a number above 0"))?;
            match (0..=DIGITS).find(|&k| format!("1e-{k}").parse() == Ok(step)) {
                Some(k) => places = Some(places.map_or(k, |before| before.min(k))),
                None => self.lose(part, "multipleOf"),
            }
        }
        Ok(places)
    }

    /// Integers.
    pub(super) fn integer(&mut self, parts: &[Part<'a>]) -> Result<Expr, Error> {
        self.places(parts)?;
        let Bounds { low, high } = self.bounds(parts)?;
        if low.is_none() && high.is_none() {
            return Ok(Expr::Named("integer"));
        }
        let low = whole_bound(low.as_ref(), false);
        let high = whole_bound(high.as_ref(), true);
        let (Some(low), Some(high)) = (low, high) else { return Ok(Expr::NEVER) };
        Ok(integers(low, high))
    }

    /// Numbers of any kind.
    pub(super) fn number(&mut self, parts: &[Part<'a>]) -> Result<Expr, Error> {
        let places = self.places(parts)?;
        if places == Some(0) {
            return self.integer(parts);
        }
        let Bounds { low, high } = self.bounds(parts)?;
        if places.is_none() && low.is_none() && high.is_none() {
            return Ok(Expr::Named("number"));
        }
        let low = edge(low.as_ref(), false);
        let high = edge(high.as_ref(), true);
        let (Some(low), Some(high)) = (low, high) else { return Ok(Expr::NEVER) };
        Ok(decimals(low, high, places.unwrap_or(DIGITS)))
    }
}

/// The integer that a bound leaves; `None` if it leaves none that can be written.
fn whole_bound(bound: Option<&(Number, bool)>, is_high: bool) -> Option<Reach<i128>> {
    let Some((number, open)) = bound else { return Some(Reach::None) };
    let outwards = |negative: bool| negative != is_high;
    let Some(decimal) = Decimal::of(number) else {
        return outwards(number.as_f64()? < 0.0).then_some(Reach::None);
    };
    let whole = i128::try_from(decimal.whole).ok()?;
    let (below, above) = match (decimal.negative, decimal.fraction.is_empty()) {
        (false, true) => (whole, whole),
        (false, false) => (whole, whole + 1),
        (true, true) => (-whole, -whole),
        (true, false) => (-whole - 1, -whole),
    };
    let at = match (is_high, *open) {
        (false, false) => above,
        (false, true) => below + 1,
        (true, false) => below,
        (true, true) => above - 1,
    };
    Some(Reach::At(at))
}

/// The greatest number of so many digits as are written, or as many as `beyond` has.
fn most(beyond: u128) -> u128 {
    let digits = DIGITS.max(beyond.to_string().len()).min(MOST_DIGITS);
    10u128.pow(digits as u32) - 1
}

/// Integers from one bound to another.
fn integers(low: Reach<i128>, high: Reach<i128>) -> Expr {
    let low = match (low, &high) {
        (Reach::At(low), _) => low,
        (Reach::None, Reach::At(high)) if *high < 0 => -(most(high.unsigned_abs()) as i128),
        (Reach::None, _) => -(most(0) as i128),
    };
    let high = match high {
        Reach::At(high) => high,
        Reach::None => most(low.max(0).unsigned_abs()) as i128,
    };
    let mut all = Vec::new();
    if high >= 0 {
        all.push(whole(low.max(0).unsigned_abs(), high.unsigned_abs()));
    }
    if low < 0 {
        let least = if high < 0 { high.unsigned_abs() } else { 1 };
        all.push(Expr::seq([Expr::text("-"), whole(least, low.unsigned_abs())]));
    }
    Expr::any(all)
}

fn digit(from: u8, to: u8) -> Expr {
    match from.cmp(&to) {
        std::cmp::Ordering::Less => {
            Expr::class(format!("[{}-{}]", char::from(from), char::from(to)))
        }
        std::cmp::Ordering::Equal => Expr::text(char::from(from)),
        std::cmp::Ordering::Greater => Expr::NEVER,
    }
}

/// Whole numbers from one to another, both included, without zeros before them.
fn whole(from: u128, to: u128) -> Expr {
    if from > to {
        return Expr::NEVER;
    }
    let [a, b] = [from, to].map(|n| n.to_string());
    let (short, long) = (a.len(), b.len());
    if short == long {
        return same_length(a.as_bytes(), b.as_bytes());
    }
    let mut all = vec![same_length(a.as_bytes(), "9".repeat(short).as_bytes())];
    if long - short > 1 {
        all.push(Expr::seq([digit(b'1', b'9'), Expr::digits(short, long - 2)]));
    }
    let least = format!("1{}", "0".repeat(long - 1));
    all.push(same_length(least.as_bytes(), b.as_bytes()));
    Expr::any(all)
}

/// Digits from one row to another of the same length.
fn same_length(a: &[u8], b: &[u8]) -> Expr {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let prefix = Expr::text(String::from_utf8_lossy(&a[..same]));
    let (Some((&first, a)), Some((&last, b))) = (a[same..].split_first(), b[same..].split_first())
    else {
        return prefix;
    };
    let n = a.len();
    let mut all = Vec::new();
    let (mut from, mut to) = (first, last);
    if a.iter().any(|&d| d != b'0') {
        from += 1;
        all.push(Expr::seq([digit(first, first), same_length(a, "9".repeat(n).as_bytes())]));
    }
    let ends_low = b.iter().any(|&d| d != b'9');
    if ends_low {
        to -= 1;
    }
    if from <= to {
        all.push(Expr::seq([digit(from, to), Expr::digits(n, n)]));
    }
    if ends_low {
        all.push(Expr::seq([digit(last, last), same_length("0".repeat(n).as_bytes(), b)]));
    }
    Expr::seq([prefix, Expr::any(all)])
}

/// A bound of numbers of any kind; `None` if it leaves none that can be written.
fn edge(bound: Option<&(Number, bool)>, is_high: bool) -> Option<Reach<(Decimal, bool)>> {
    let Some((number, open)) = bound else { return Some(Reach::None) };
    match Decimal::of(number) {
        Some(decimal) => Some(Reach::At((decimal, *open))),
        None => ((number.as_f64()? < 0.0) != is_high).then_some(Reach::None),
    }
}

/// Numbers from one bound to another, without exponent, with at most `places` digits behind the
/// point.
fn decimals(low: Reach<(Decimal, bool)>, high: Reach<(Decimal, bool)>, places: usize) -> Expr {
    let zero = |open| Edge { whole: 0, fraction: String::new(), open };
    let edge = |(bound, open): &(Decimal, bool)| Edge {
        whole: bound.whole,
        fraction: bound.fraction.clone(),
        open: *open,
    };
    let is_negative = |bound: &(Decimal, bool)| bound.0.negative;
    let is_zero = |(bound, _): &(Decimal, bool)| bound.whole == 0 && bound.fraction.is_empty();
    let mut all = Vec::new();
    if !matches!(&high, Reach::At(high) if is_negative(high)) {
        let from = match &low {
            Reach::At(low) if !is_negative(low) => edge(low),
            _ => zero(false),
        };
        let to = match &high {
            Reach::At(high) => Some(edge(high)),
            Reach::None => None,
        };
        all.push(magnitudes(&from, to.as_ref(), places));
    }
    if !matches!(&low, Reach::At(low) if !is_negative(low)) {
        let from = match &high {
            Reach::At(high) if is_negative(high) => edge(high),
            Reach::At(high) => zero(is_zero(high) && high.1),
            Reach::None => zero(false),
        };
        let to = match &low {
            Reach::At(low) => Some(edge(low)),
            Reach::None => None,
        };
        all.push(Expr::seq([Expr::text("-"), magnitudes(&from, to.as_ref(), places)]));
    }
    Expr::any(all)
}

/// Numbers from one that is not negative to another.
fn magnitudes(from: &Edge, to: Option<&Edge>, places: usize) -> Expr {
    let exactly = |n: u128| Expr::text(n.to_string());
    if let Some(to) = to
        && to.whole <= from.whole
    {
        if to.whole < from.whole {
            return Expr::NEVER;
        }
        return Expr::seq([exactly(from.whole), fractions_between(from, to, places)]);
    }
    let mut all = Vec::new();
    let free = from.fraction.is_empty() && !from.open;
    if !free {
        all.push(Expr::seq([exactly(from.whole), fractions_above(from, places)]));
    }
    let first = from.whole + u128::from(!free);
    let last = match to {
        Some(to) => to.whole.checked_sub(1),
        None => Some(most(from.whole)),
    };
    if let Some(last) = last.filter(|&last| first <= last) {
        all.push(Expr::seq([whole(first, last), any_fraction(places)]));
    }
    if let Some(to) = to {
        all.push(Expr::seq([exactly(to.whole), fractions_below(to, places)]));
    }
    Expr::any(all)
}

fn point(digits: Expr) -> Expr {
    Expr::seq([Expr::text("."), digits])
}

/// Between `min` and `max` zeros.
fn zeros(min: usize, max: usize) -> Expr {
    Expr::few(Expr::text("0"), min, max)
}

fn any_fraction(places: usize) -> Expr {
    point(Expr::digits(1, places)).optional()
}

/// A point and digits, or neither, that are not below an edge.
fn fractions_above(edge: &Edge, places: usize) -> Expr {
    match (edge.fraction.is_empty(), edge.open) {
        (true, false) => any_fraction(places),
        _ => point(at_least(edge.fraction.as_bytes(), edge.open, places)),
    }
}

fn fractions_below(edge: &Edge, places: usize) -> Expr {
    match (edge.fraction.is_empty(), edge.open) {
        (true, true) => Expr::NEVER,
        (true, false) => point(zeros(1, places)).optional(),
        _ => point(at_most(edge.fraction.as_bytes(), edge.open, places)).optional(),
    }
}

/// Digits behind the point that are not below others, at most `places` of them.
fn at_least(edge: &[u8], open: bool, places: usize) -> Expr {
    let Some((&first, rest)) = edge.split_first() else {
        return match (open, places) {
            (false, _) => Expr::digits(0, places),
            (true, 0) => Expr::NEVER,
            // A digit that is not 0 comes within the places.
            (true, _) => Expr::any((0..places).map(|n| {
                Expr::seq([zeros(n, n), digit(b'1', b'9'), Expr::digits(0, places - n - 1)])
            })),
        };
    };
    if places == 0 {
        return Expr::NEVER;
    }
    let mut all = Vec::new();
    if first < b'9' {
        all.push(Expr::seq([digit(first + 1, b'9'), Expr::digits(0, places - 1)]));
    }
    all.push(Expr::seq([digit(first, first), at_least(rest, open, places - 1)]));
    Expr::any(all)
}

/// Digits behind the point that are not above others, which are not nothing.
fn at_most(edge: &[u8], open: bool, places: usize) -> Expr {
    let Some((&first, rest)) = edge.split_first() else { return Expr::NEVER };
    if places == 0 {
        return Expr::NEVER;
    }
    let mut all = Vec::new();
    if first > b'0' {
        all.push(Expr::seq([digit(b'0', first - 1), Expr::digits(0, places - 1)]));
    }
    all.push(Expr::seq([digit(first, first), at_most_rest(rest, open, places - 1)]));
    Expr::any(all)
}

/// What may follow the same digits as the edge has, whose rest this is.
fn at_most_rest(rest: &[u8], open: bool, places: usize) -> Expr {
    match (rest.is_empty(), open) {
        (true, true) => Expr::NEVER,
        (true, false) => zeros(0, places),
        _ => at_most(rest, open, places).optional(),
    }
}

/// Fractions between two edges with the same number before the point.
fn fractions_between(from: &Edge, to: &Edge, places: usize) -> Expr {
    let (a, b) = (from.fraction.as_bytes(), to.fraction.as_bytes());
    let at = |digits: &[u8], i: usize| digits.get(i).copied().unwrap_or(b'0');
    // The same number, with any zeros.
    let exactly = |edge: &Edge| match (edge.fraction.len(), places) {
        (0, places) => point(zeros(1, places)).optional(),
        (n, places) if n > places => Expr::NEVER,
        (n, places) => point(Expr::seq([Expr::text(&edge.fraction), zeros(0, places - n)])),
    };
    let Some(same) = (0..a.len().max(b.len())).find(|&i| at(a, i) != at(b, i)) else {
        return if from.open || to.open { Expr::NEVER } else { exactly(from) };
    };
    if at(a, same) > at(b, same) || same >= places {
        return if from.open || at(a, same) > at(b, same) { Expr::NEVER } else { exactly(from) };
    }
    let mut all = Vec::new();
    if !from.open {
        all.push(exactly(from));
    }
    let prefix: String = (0..same).map(|i| char::from(at(a, i))).collect();
    let left = places - same - 1;
    let low = Expr::seq([
        digit(at(a, same), at(a, same)),
        at_least(a.get(same + 1..).unwrap_or_default(), from.open, left),
    ]);
    let middle = Expr::seq([digit(at(a, same) + 1, at(b, same) - 1), Expr::digits(0, left)]);
    let high = Expr::seq([
        digit(at(b, same), at(b, same)),
        at_most_rest(b.get(same + 1..).unwrap_or_default(), to.open, left),
    ]);
    let digits = Expr::any([low, middle, high]);
    all.push(point(Expr::seq([Expr::text(prefix), digits])));
    Expr::any(all)
}
