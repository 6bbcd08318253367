//! What `main` keeps and forgets: caches of prompts in files, full contexts, conversations in other
//! formats than the model's own; and JSON of a schema.

mod c_programs;
mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use c_programs::{Run, command, example, model, run, run_with_input, sanitized, scratch, succeed};
use common::tiny;
use serde_json::{Value, json};

/// A tiny model in a file of this test's own.
fn tiny_model(test: &str, name: &str) -> String {
    let path = scratch("main-session").join(format!("{test}-{name}.gguf"));
    fs::write(&path, tiny::bytes(&tiny::spec(name))).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The program for a model, and the model: the tiny one under sanitizers, the real one without.
fn programs(test: &str) -> Vec<(PathBuf, String)> {
    let real = model().map(|path| (example("main"), path.to_str().unwrap().to_owned()));
    [(sanitized("main"), tiny_model(test, "gqa"))].into_iter().chain(real).collect()
}

fn file(name: &str, text: &[u8]) -> String {
    let path = scratch("main-session").join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The tokens that a row of the table at the end counts.
fn counted(run: &Run, row: &str) -> usize {
    let line = run.stderr.lines().find(|line| line.trim_start().starts_with(row));
    let line = line.unwrap_or_else(|| panic!("no {row}: {}", run.stderr));
    line.split(" ms").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_prompt_cache_saves_reading_the_prompt_again() {
    const PROMPT: &str = "the sun and the sea. one two three four five six seven";
    for (i, (program, model)) in programs("cache").into_iter().enumerate() {
        let path = scratch("main-session").join(format!("cache-{i}.bin"));
        let _ = fs::remove_file(&path);
        let cache = ["--prompt-cache", path.to_str().unwrap()];
        let main = |arguments: &[&[&str]]| {
            let base = ["-m", &model, "-c", "256", "-s", "5", "--ignore-eos"];
            let odd = ["--temp", "0.9", "--repeat-penalty", "1.3"];
            run(&program, &[&base[..], &odd, &arguments.concat()].concat())
        };
        let plain = main(&[&["-p", PROMPT, "-n", "12"]]);
        let n = counted(&plain, "prompt");
        assert!(n > 8, "{plain:?}");

        let made = main(&[&["-p", PROMPT, "-n", "12"], &cache]);
        assert_eq!((made.text(), counted(&made, "prompt")), (plain.text(), n));
        let used = main(&[&["-p", PROMPT, "-n", "12"], &cache]);
        assert_eq!((used.text(), counted(&used, "prompt")), (plain.text(), 1));

        // What is the same at the start is taken, whatever follows.
        let first = fs::read(&path).unwrap();
        let longer = format!("{PROMPT} eight nine");
        let expected = main(&[&["-p", &longer, "-n", "8"]]);
        let read_only = ["--prompt-cache-ro"];
        let more = main(&[&["-p", &longer, "-n", "8"], &cache, &read_only]);
        assert_eq!(more.text(), expected.text());
        assert!(counted(&more, "prompt") <= counted(&expected, "prompt") - n + 1, "{more:?}");
        assert!(fs::read(&path).unwrap() == first, "only read");
        let other = main(&[&["-p", "the sea and the sun", "-n", "8"], &cache]);
        assert_eq!(other.text(), main(&[&["-p", "the sea and the sun", "-n", "8"]]).text());
        assert!(fs::read(&path).unwrap() != first, "the new prompt is kept");

        // All of it: without a prompt the text goes on. The last token was never read.
        let greedy = ["--temp", "0", "--repeat-penalty", "1"];
        let all = ["--prompt-cache-all"];
        main(&[&["-p", PROMPT, "-n", "12"], &greedy, &cache, &all]).text();
        let on = main(&[&["-n", "8"], &greedy, &cache, &read_only]);
        let whole = main(&[&["-p", PROMPT, "-n", "19"], &greedy]);
        assert!(on.text().ends_with(whole.text()), "{on:?}\n{whole:?}");
        assert_eq!(counted(&on, "prompt"), 1);
    }
}

#[test]
fn what_is_no_prompt_cache_is_refused() {
    let model = tiny_model("no-cache", "gqa");
    let main = |arguments: &[&str]| {
        run(&sanitized("main"), &[&["-m", &model, "-c", "256", "-n", "1"][..], arguments].concat())
    };
    let junk = file("junk.bin", b"no state");
    let refused = main(&["-p", "a", "--prompt-cache", &junk]);
    assert!(refused.refusal().contains(&format!("cannot use the prompt cache '{junk}'")));
    let other = tiny_model("no-cache", "odd");
    let theirs = file("theirs.bin", b"");
    let arguments = ["-m", &other, "-c", "256", "-n", "1", "-p", "a", "--prompt-cache", &theirs];
    run(&sanitized("main"), &arguments).text();
    main(&["-p", "a", "--prompt-cache", &theirs]).refusal();
    let absent = scratch("main-session").join("absent/cache.bin");
    let refused = main(&["-p", "a", "--prompt-cache", absent.to_str().unwrap()]);
    assert!(refused.stderr.contains("cannot write the prompt cache"), "{refused:?}");
    let empty = file("empty.bin", b"");
    assert!(main(&["--prompt-cache", &empty]).refusal().contains("no prompt"));
    assert!(main(&["-p", "a", "--prompt-cache-all"]).refusal().contains("need --prompt-cache"));
}

#[test]
fn a_full_context_is_shifted_if_asked() {
    for (i, (program, model)) in programs("shift").into_iter().enumerate() {
        let main = |arguments: &[&str]| {
            let base = ["-m", &model, "-c", "64", "--temp", "0", "--ignore-eos", "-n", "300"];
            run(&program, &[&base[..], &["-p", "One, two, three,"], arguments].concat())
        };
        let full = main(&[]);
        assert_eq!(full.code, Some(1), "{full:?}");
        let cache = file(&format!("shifted-{i}.bin"), b"");
        let keep = ["--keep", "-1", "--prompt-cache", &cache, "--prompt-cache-all"];
        for more in [&[][..], &["--keep", "3"], &keep] {
            let shifted = main(&[&["--context-shift"], more].concat());
            assert!(shifted.text().starts_with(full.stdout.trim_end()), "{shifted:?}");
            assert_eq!(counted(&shifted, "sampling"), 300);
            // Nothing is read anew but the one token each time.
            assert_eq!(counted(&shifted, "generation"), 299);
            assert!(shifted.stderr.contains("half of the context once"), "{shifted:?}");
        }
        // What was forgotten is not in the file, so the file keeps the prompt alone.
        let again = main(&["--prompt-cache", &cache, "--context-shift"]);
        assert_eq!(counted(&again, "prompt"), 1);
        assert!(again.text().starts_with(full.stdout.trim_end()));
    }
    let model = tiny_model("shift-long", "gqa");
    let long = "one two three ".repeat(200);
    let arguments = ["-m", &model, "-c", "64", "-n", "1", "--context-shift", "-p", &long];
    assert!(run(&sanitized("main"), &arguments).refusal().contains("the prompt does not fit"));
}

/// A library whose caches cannot be shifted: ours, but for one answer.
#[test]
fn a_cache_that_cannot_be_shifted_is_refused() {
    let source =
        file("no-shift.c", b"int llama_memory_can_shift(void *m) { (void)m; return 0; }\n");
    let shim = source.replace(".c", ".so");
    succeed(Command::new("cc").args(["-shared", "-fPIC", "-o", &shim, &source]));
    let model = tiny_model("no-shift", "gqa");
    let main = |more: &[&str]| -> Run {
        let mut main = command(&example("main"));
        main.env("LD_PRELOAD", &shim).args(["-m", &model, "-p", "the sun", "-n", "2"]).args(more);
        main.output().unwrap().into()
    };
    assert!(main(&["--context-shift"]).refusal().contains("run it without --context-shift"));
    main(&["--context-shift", "--no-context-shift", "--temp", "0"]).text();
}

/// A conversation goes on where its oldest part no longer fits.
#[test]
fn a_long_conversation_forgets_its_beginning() {
    let model = tiny_model("long-chat", "gqa");
    let base = ["-m", &model, "-c", "256", "--temp", "0", "-n", "40", "--ignore-eos"];
    let chat = ["--chat", "--chat-template", "chatml", "-sys", "be brief", "--context-shift"];
    let lines = "the sun and the sea\n".repeat(6);
    let arguments = [&base[..], &chat].concat();
    let talk = run_with_input(&sanitized("main"), &arguments, &lines);
    assert!(talk.text().lines().count() >= 6 && talk.stderr.contains("-n reached"), "{talk:?}");
    assert_eq!(counted(&talk, "sampling"), 240);
}

#[test]
fn json_keeps_to_its_schema() {
    let tiny = tiny_model("schema", "gqa");
    let main = |arguments: &[&str]| {
        let base = ["-m", &tiny, "-c", "256", "--temp", "0", "--no-display-prompt", "-p", "a"];
        run(&sanitized("main"), &[&base[..], arguments].concat())
    };
    // Digits, for this vocabulary has no brackets.
    let schema = r#"{"type": "integer", "minimum": 234, "maximum": 456}"#;
    let run_of = main(&["-j", schema]);
    let value: u32 = serde_json::from_str(run_of.text()).unwrap();
    assert!((234..=456).contains(&value), "{value}");
    let in_file = main(&["-jf", &file("schema.json", schema.as_bytes())]);
    assert_eq!(in_file.text(), run_of.text());

    for (arguments, reason) in [
        (["-j", "{"], "cannot use the JSON schema"),
        (["-j", r#"{"properties": {"a": {"type": "text"}}}"#], "#/properties/a/type"),
        (["-jf", "absent.json"], "cannot open 'absent.json'"),
    ] {
        assert!(main(&arguments).refusal().contains(reason), "{arguments:?}");
    }
    assert!(main(&["-j", "{}", "--grammar", "root ::= [a]"]).refusal().contains("both give"));
    let unheard = main(&["-j", r#"{"enum": [11, 22], "not": {"const": 3}}"#]);
    assert!(["11\n", "22\n"].contains(&unheard.text()), "{unheard:?}");
    assert_eq!(unheard.stderr.matches("#/not").count(), 1, "{unheard:?}");

    let Some(model) = model() else { return };
    let schema = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "capital": {"type": "boolean"},
            "inhabitants": {"type": "integer", "minimum": 1000, "maximum": 20_000_000},
        },
        "required": ["city", "capital", "inhabitants"],
    });
    let question = "Describe Paris as JSON.";
    let arguments = ["-m", model.to_str().unwrap(), "--temp", "0", "-n", "120", "--chat"];
    let more = ["-p", question, "-j", &schema.to_string()];
    let answer = run(&example("main"), &[&arguments[..], &more].concat());
    let value: Value = serde_json::from_str(answer.text()).unwrap();
    assert!(value["city"].is_string() && value["capital"].is_boolean(), "{value}");
    assert!((1000..=20_000_000).contains(&value["inhabitants"].as_i64().unwrap()), "{value}");
}

#[test]
fn conversations_are_laid_out_by_the_template_that_is_asked_for() {
    let tiny = tiny_model("formats", "gqa");
    let main = |arguments: &[&str]| {
        let base = ["-m", &tiny, "-c", "256", "--temp", "0", "-n", "6", "--ignore-eos"];
        run(&sanitized("main"), &[&base[..], arguments].concat())
    };
    let chat = |more: &[&str]| main(&[&["--chat", "-p", "the sun"], more].concat());
    assert!(chat(&[]).refusal().contains("brings no chat format"));
    // The text of the layout, as if it were the prompt.
    let by_hand = |prompt: &str| main(&["-p", prompt, "--no-display-prompt"]).text().to_owned();
    let chatml = by_hand("<|im_start|>user\nthe sun<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(chat(&["--chat-template", "chatml"]).text(), chatml);
    let jinja =
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}bot:";
    let expected = by_hand("user: the sun\nbot:");
    assert_ne!(expected, chatml);
    assert_eq!(chat(&["--chat-template", jinja]).text(), expected);
    let in_file = file("template.jinja", jinja.as_bytes());
    assert_eq!(chat(&["--chat-template-file", &in_file]).text(), expected);
    // One that fails, but looks like a format that is built in.
    let fails = "{{ raise_exception('no') }}<|im_start|>";
    assert_eq!(chat(&["--chat-template", fails]).text(), chatml);
    let wrong = chat(&["--chat-template", "{{ raise_exception('only in verse') }}"]);
    assert!(wrong.refusal().contains("only in verse"), "{wrong:?}");
    let both = chat(&["--chat-template", "chatml", "--chat-template-file", &in_file]);
    assert!(both.refusal().contains("both give the template"));
    assert!(main(&["-p", "a", "--chat-template", "chatml"]).refusal().contains("needs --chat"));
}

/// The two programs that talk say the same.
#[test]
fn chat_and_main_answer_alike() {
    let Some(model) = model() else { return };
    let base = ["-m", model.to_str().unwrap(), "-c", "512", "--temp", "0", "-n", "12"];
    let questions = "Name the capital of France.\nAnd of Spain?\n";
    let short = run_with_input(&sanitized("chat"), &base, questions);
    let long = run_with_input(&example("main"), &[&base[..], &["--chat"]].concat(), questions);
    assert_eq!(long.text(), short.text());
    assert!(short.text().contains("Paris"), "{short:?}");
}
