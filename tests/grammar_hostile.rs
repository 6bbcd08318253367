//! Grammars made to take all time, memory or stack. They are refused or followed.

use std::sync::Arc;

use powerinfer::grammar::{Error, Grammar, Matcher};

fn parse(text: &str) -> Result<Grammar, Error> {
    Grammar::parse(text.as_bytes(), b"root", None)
}

fn matcher(text: &str) -> Matcher {
    Matcher::new(Arc::new(parse(text).unwrap()))
}

/// Runs `work` on a stack of 128 KB.
fn with_little_stack(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap();
    });
}

#[test]
fn rules_that_begin_with_themselves_are_refused() {
    for text in [
        r#"root ::= root"#,
        r#"root ::= root "a" | "a""#,
        r#"root ::= "a"? root "b" | "c""#,
        "root ::= a\na ::= b | \"x\"\nb ::= c\nc ::= a \"y\"",
        // Hidden behind what can be empty in a roundabout way; llama.cpp never returns from this.
        "root ::= e root \"x\" | \"y\"\ne ::= f\nf ::= \"\" | \"z\"",
        "root ::= e e a\na ::= (e root) \"x\"\ne ::= f f\nf ::= g?\ng ::= \"z\"",
    ] {
        assert!(matches!(parse(text), Err(Error::LeftRecursion { .. })), "{text}");
    }
    // A chain of rules in which everyone can begin with the next in two ways: no time is lost.
    let chain: String = (0..3000).map(|i| format!("r{i} ::= r{0} | r{0} \"a\"\n", i + 1)).collect();
    parse(&format!("root ::= r0\n{chain}r3000 ::= \"b\"\n")).unwrap();
    assert!(parse(&format!("root ::= r0\n{chain}r3000 ::= r7\n")).is_err());
    // Where nothing follows, the stacks do not grow and llama.cpp takes it too.
    for text in
        [r#"root ::= ("a"? "b"?)+* "c""#, "root ::= e root | \"c\"\ne ::= f\nf ::= \"\" | \"ab\""]
    {
        let mut matcher = matcher(text);
        assert!(matcher.accept(0, b"ababc") && matcher.is_complete(), "{text}");
    }
}

#[test]
fn a_million_repetitions_are_refused() {
    for (text, said) in [
        (r#"root ::= "a"{1000000}"#, "at most 2000 repetitions (not 1000000)"),
        (r#"root ::= "a"{1000000,}"#, "at most 2000"),
        (r#"root ::= "a"{2000}{2000}"#, "also when nested (not 2000 times 2000)"),
        (r#"root ::= ("a"? "b"?){1,1500}"#, "also when nested"),
        (r#"root ::= "a"{5,3}"#, "no less than 5 repetitions at most (not 3)"),
        (r#"root ::= "a"{18446744073709551615}"#, "below 2^64"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    // A greater upper bound is none.
    let mut many = matcher(r#"root ::= "a"{0,1000000}"#);
    assert!(many.accept(0, &[b'a'; 5000]) && many.is_complete());
    // Small texts that would become large ones.
    let items = "\"a\"{0,2000} ".repeat(3000);
    assert_eq!(parse(&format!("root ::= {items}")).unwrap_err(), Error::TooLarge);
    let literal = "x".repeat(100_000);
    assert_eq!(parse(&format!("root ::= \"{literal}\"{{2000}}")).unwrap_err(), Error::TooLarge);
}

#[test]
fn nesting_takes_no_stack() {
    with_little_stack(|| {
        let depth = 200_000;
        let text = format!("root ::= {}\"a\"{}", "(".repeat(depth), ")".repeat(depth));
        let mut deep = matcher(&text);
        assert!(deep.accept(0, b"a") && deep.is_complete());
        assert!(parse(&format!("root ::= {}", "(".repeat(depth))).is_err());
        // Left recursion at the end of a long way.
        let chain: String = (0..50_000).map(|i| format!("r{i} ::= r{} \"a\"\n", i + 1)).collect();
        assert!(parse(&format!("root ::= r0\n{chain}r50000 ::= root\n")).is_err());
    });
}

#[test]
fn deep_texts_take_no_stack() {
    with_little_stack(|| {
        let depth = 100_000;
        // Two readings that differ in every place but the last.
        let mut two =
            matcher("root ::= x | y\nx ::= \"(\" x \")\" | \"!\"\ny ::= \"(\" y \")\" | \"!\"");
        for _ in 0..depth {
            assert!(two.accept(0, b"("));
        }
        assert!(two.accept(0, b"!"));
        let mut copy = two.clone();
        for left in (0..depth).rev() {
            assert!(copy.accept(0, b")"));
            assert_eq!(copy.is_complete(), left == 0);
        }
        assert!(!copy.accept(0, b")") && copy.is_dead());
        two.reset();
        assert!(two.accept(0, b"(!)") && two.is_complete());
    });
}

#[test]
fn ambiguity_is_followed() {
    // 3^n stacks after n characters.
    let mut stacks = matcher(r#"root ::= "a" root "b" | "a" root "c" | "a" root "d" | """#);
    assert!(stacks.accept(0, &[b'a'; 3000]));
    assert!(stacks.accept(0, "bcd".repeat(1000).as_bytes()) && stacks.is_complete());
    assert!(!stacks.accept(0, b"b"));

    // As many ways to read a text as there are binary trees.
    let mut trees = matcher(r#"root ::= "a" root root | "a""#);
    for n in 1..=400 {
        assert!(trees.accept(0, b"a"));
        assert_eq!(trees.is_complete(), n % 2 == 1, "{n}");
    }

    // Every text is a palindrome's beginning.
    let mut palindromes = matcher(r#"root ::= "a" root "a" | "b" root "b" | "a" | "b" | """#);
    let half: String = (0..400).map(|i| if i * i % 7 < 3 { 'a' } else { 'b' }).collect();
    let back: String = half.chars().rev().collect();
    assert!(palindromes.accept(0, half.as_bytes()) && palindromes.accept(0, back.as_bytes()));
    assert!(palindromes.is_complete() && !palindromes.is_too_ambiguous());

    // 2^60 ways down before the first character.
    let chain: String =
        (0..60).map(|i| format!("r{i} ::= r{0} \"x\" | r{0} \"y\"\n", i + 1)).collect();
    let mut ways = matcher(&format!("root ::= r0\n{chain}r60 ::= \"a\"\n"));
    assert!(ways.accept(0, b"a") && ways.accept(0, "xy".repeat(30).as_bytes()));
    assert!(ways.is_complete());

    // A thousand of what can be empty.
    let mut empty = matcher(r#"root ::= [a-z]*{2000} "!""#);
    assert!(empty.accept(0, &[b'a'; 500]) && empty.accept(0, b"!") && empty.is_complete());

    // Repetitions of what is alike.
    let mut alike =
        matcher(r#"root ::= ("a" | "a" | "aa" | "a" "a" "a"){0,300} ([a-z]{0,300} | .{0,300})"#);
    assert!(alike.accept(0, &[b'a'; 1200]) && alike.is_complete());
    assert!(!alike.accept(0, b"a"));
}

#[test]
fn large_grammars_are_quick() {
    let words: String = (0..20_000).map(|i| format!(" | \"w{}\"", i * 7919 % 100_003)).collect();
    let mut list = matcher(&format!("root ::= (\"none\"{words})+"));
    assert!(list.accept(0, b"w0w7919w15838none") && list.is_complete());

    let letters: String = (0x4e00..0x6e00u32).filter_map(char::from_u32).step_by(2).collect();
    let mut cjk = matcher(&format!("root ::= [{letters}]+"));
    assert!(cjk.accept(0, "一丂".as_bytes()) && !cjk.accept(0, "丁".as_bytes()));

    let comment = format!("# {}\nroot ::= \"a\" # {}", "x".repeat(1 << 20), "y".repeat(1 << 20));
    parse(&comment).unwrap();
}
