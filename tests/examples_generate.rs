//! Example programs that generate text in other ways than `main`: states in files, many clients,
//! guesses, conversations; and the one that shows, edits and splits files.

mod c_programs;
mod common;

use std::fs;
use std::path::PathBuf;

use c_programs::{command, example, model, run, run_with_input, sanitized, scratch};
use common::tiny;
use serde_json::{Value, json};

/// A tiny model in a file of this test's own.
fn tiny_model(test: &str, name: &str) -> String {
    let path = scratch("examples-generate").join(format!("{test}-{name}.gguf"));
    fs::write(&path, tiny::bytes(&tiny::spec(name))).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The tiny model, and the real one where it is.
fn models(test: &str) -> Vec<String> {
    let real = model().map(|path: PathBuf| path.to_str().unwrap().to_owned());
    [tiny_model(test, "gqa")].into_iter().chain(real).collect()
}

/// What `simple` writes after the prompt.
fn alone(model: &str, n: &str, prompt: &str) -> String {
    let run = run(&example("simple"), &["-m", model, "-n", n, prompt]);
    // `simple` shows the control tokens that the vocabulary puts around a text.
    let text = run.text().strip_suffix('\n').unwrap();
    text[text.find(prompt).unwrap() + prompt.len()..].to_owned()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn help_and_wrong_flags() {
    let both = ["-m", "x", "-p", "a", "-f", "b"];
    for (program, arguments, reason) in [
        ("save-load-state", &["-n", "0"][..], "-n needs a whole number"),
        ("save-load-state", &[], "no model"),
        ("save-load-state", &["-m", "absent.gguf"], "absent.gguf"),
        ("parallel", &["-np", "0"], "-np needs"),
        ("parallel", &both, "-p and -f"),
        ("parallel", &["-m", "x", "-p", "\n\n"], "no prompt"),
        ("parallel", &["-m", "absent.gguf"], "absent.gguf"),
        ("chat", &["-m", "x", "prompt"], "unexpected argument"),
        ("chat", &["-m", "absent.gguf"], "absent.gguf"),
        ("speculative", &["-m", "x", "-p", "a"], "nothing guesses"),
        ("speculative", &["-m", "x", "-md", "y", "--lookup", "-p", "a"], "-md and --lookup"),
        ("speculative", &["-m", "x", "--lookup"], "one way"),
        ("speculative", &["-m", "x", "--lookup", "-p", "a", "--draft-min", "17"], "--draft-min"),
        ("speculative", &["-m", "x", "--lookup", "-p", "a", "--ngram-min", "4"], "--ngram-min"),
        ("speculative", &["-m", "absent.gguf", "--lookup", "-p", "a"], "absent.gguf"),
    ] {
        let program = example(program);
        let refused = run(&program, arguments);
        assert!(refused.refusal().contains(reason), "{refused:?}");
        let help = run(&program, &["-h"]);
        assert!(help.text().contains("-m, --model FILE"), "{help:?}");
    }
}

#[test]
fn a_restored_state_goes_on_with_the_same_text() {
    for model in models("state") {
        let file = scratch("examples-generate").join("state.bin");
        let file = file.to_str().unwrap();
        let prompt = "the sun and the sea";
        let flags = ["-m", &model, "-n", "12", "--temp", "0", "--state", file, prompt];
        let run = run(&sanitized("save-load-state"), &flags);
        let text = run.text().strip_suffix("\nthe three texts are equal\n").unwrap();
        let (first, rest) = text.split_once("\nrestored: ").unwrap();
        let (second, other) = rest.split_once("\nother sequence: ").unwrap();
        let first = first.strip_prefix("first run: ").unwrap();
        assert_eq!((second, other), (first, first));
        assert_eq!(first, alone(&model, "12", prompt));
        assert!(fs::metadata(file).unwrap().len() > 1000);
        fs::remove_file(file).unwrap();
    }
}

/// A file that cannot be written, and a prompt that leaves nothing to save.
#[test]
fn states_need_a_file_and_a_prompt() {
    let model = tiny_model("state-refused", "gqa");
    let program = example("save-load-state");
    let refused = run(&program, &["-m", &model, "--state", "/", "the sun"]);
    assert!(refused.refusal().contains("cannot save the state in '/'"), "{refused:?}");
    let folder = scratch("examples-generate-temporary");
    let own = command(&program).args(["-m", &model, "the sun"]).env("TMPDIR", &folder).output();
    assert!(own.unwrap().status.success());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "the state is still there");
    let refused = run(&program, &["-m", &model, ""]);
    assert!(refused.refusal().contains("two tokens or more"), "{refused:?}");
}

const PROMPTS: [&str; 3] = ["the sun", "one and two and three", "a"];

#[test]
fn every_client_gets_its_lone_text() {
    for model in models("parallel") {
        let texts = PROMPTS.map(|prompt| alone(&model, "9", prompt));
        let prompts = PROMPTS.join("\n\n");
        // A batch of four: the prompts come in pieces while others write.
        for more in [&["-np", "1"][..], &["-np", "3"], &["-np", "2", "-nocb"], &["-b", "4"]] {
            let base = ["-m", &model, "-f", "-", "-n", "9", "-ns", "5", "--json"];
            let program = sanitized("parallel");
            let run = run_with_input(&program, &[&base[..], more].concat(), &prompts);
            let mut lines = json_lines(run.text());
            let totals = lines.pop().unwrap();
            lines.sort_by_key(|line| line["client"].as_u64());
            assert_eq!(lines.len(), 5);
            for (i, line) in lines.iter().enumerate() {
                assert_eq!(line["client"], i);
                assert_eq!(line["prompt"], PROMPTS[i % 3]);
                assert_eq!(line["answer"], texts[i % 3].as_str(), "{more:?}");
            }
            let sum = |key| lines.iter().map(|line| line[key].as_u64().unwrap()).sum::<u64>();
            assert_eq!(totals["n_prompt"], sum("n_prompt"));
            assert_eq!(totals["n_predicted"], sum("n_predicted"));
            assert_eq!((&totals["clients"], &totals["cache_misses"]), (&5.into(), &0.into()));
        }
    }
}

/// A text before every prompt is computed once with `-pps`, and changes nothing else.
#[test]
fn a_shared_beginning_is_computed_once() {
    for model in models("parallel-shared") {
        let prompts = PROMPTS.join("\n");
        let ask = |more: &[&str]| {
            let base = ["-m", &model, "-f", "-", "-n", "9", "-ns", "5", "--json"];
            let program = sanitized("parallel");
            let run = run_with_input(&program, &[&base[..], more].concat(), &prompts);
            let mut lines = json_lines(run.text());
            let totals = lines.pop().unwrap();
            lines.sort_by_key(|line| line["client"].as_u64());
            let answers: Vec<_> = lines.iter().map(|line| line["answer"].to_string()).collect();
            let n: u64 = lines.iter().map(|line| line["n_prompt"].as_u64().unwrap()).sum();
            (answers, n, totals)
        };
        let system = ["-sys", "on an iron hat\n"];
        let (apart, n, totals) = ask(&[&system[..], &["-np", "1"]].concat());
        assert_eq!((&totals["n_shared"], &totals["n_prompt"]), (&0.into(), &n.into()));
        for more in [&["-np", "1"][..], &["-np", "3"], &["-np", "2", "-nocb", "-b", "4"]] {
            let (shared, same, totals) = ask(&[&system[..], &["-pps"], more].concat());
            assert_eq!((&shared, same), (&apart, n), "{more:?}");
            let n_shared = totals["n_shared"].as_u64().unwrap();
            assert!(n_shared > 3, "{totals}");
            assert_eq!(totals["n_prompt"], n - 5 * n_shared);
        }
        let (plain, ..) = ask(&[]);
        assert_ne!(plain, apart);
        // Conversations before the question are each client's own.
        let junk = ["--junk", "4", "-pps"];
        let (one, long, totals) = ask(&[&junk[..], &["-np", "1"]].concat());
        assert_eq!(ask(&[&junk[..], &["-np", "3"]].concat()).0, one);
        let n_shared = totals["n_shared"].as_u64().unwrap();
        assert!(long - 5 * n_shared > 3 * n / 2 && one != plain, "{totals}");
        // An answer ends before a text that it should not have.
        let whole: String = serde_json::from_str(&plain[0]).unwrap();
        let stop: String = whole.chars().skip(3).take(2).collect();
        let (cut, ..) = ask(&["-r", &stop]);
        let expected = whole[..whole.find(&stop).unwrap()].to_owned();
        assert_eq!(serde_json::from_str::<String>(&cut[0]).unwrap(), expected);
    }
}

#[test]
fn a_client_keeps_its_seed_in_company() {
    let model = tiny_model("parallel-seed", "gqa");
    let answers = |slots: &str| {
        let flags = ["-m", &model, "-p", "the sun", "-n", "12", "-ns", "6", "--temp", "1"];
        let run = run(&example("parallel"), &[&flags[..], &["--json", "-np", slots]].concat());
        let mut lines = json_lines(run.text());
        lines.pop();
        lines.sort_by_key(|line| line["client"].as_u64());
        lines.iter().map(|line| line["answer"].to_string()).collect::<Vec<_>>()
    };
    let one = answers("1");
    assert_eq!(answers("4"), one);
    assert_ne!(one[0], one[1]);
}

/// A cache that is too small for all: first smaller batches, then a clear end.
#[test]
fn parallel_says_when_the_cache_is_full() {
    let model = tiny_model("parallel-full", "gqa");
    let flags = ["-m", &model, "-p", "the sun", "-np", "8", "-ns", "8", "-n", "200", "-c", "256"];
    let full = run(&sanitized("parallel"), &flags);
    assert_eq!(full.code, Some(1), "{full:?}");
    assert!(full.stderr.contains("the KV cache of 256 tokens is full"), "{full:?}");
    let totals = run(&example("parallel"), &["-m", &model, "-p", "a", "-n", "3", "-ns", "2"]);
    for line in ["[client 0, slot 0, ", "[client 1, slot 1, "] {
        assert!(totals.text().contains(line), "{totals:?}");
    }
    for line in ["Total prompt tokens: ", "Total gen tokens: ", "Cache misses:             0\n"] {
        assert!(totals.stderr.contains(line), "{totals:?}");
    }
}

/// The numbers of `speculative`: name, then value.
fn count(stderr: &str, name: &str) -> usize {
    let line =
        stderr.lines().find_map(|line| line.strip_prefix("speculative: ")?.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {stderr}"))
        .trim_start_matches([' ', '='])
        .parse()
        .unwrap()
}

#[test]
fn guesses_do_not_change_the_text() {
    let prompt = "one two three four. one two three four. one two";
    for model in models("speculative") {
        let text = format!("{prompt}{}\n", alone(&model, "24", prompt));
        for more in [
            &["--lookup"][..],
            &["--lookup", "--draft-max", "3", "--ngram-min", "2"],
            &["--lookup", "--draft-max", "0"],
            &["--lookup", "-b", "4", "--draft-min", "2"],
            &["-md", &model],
            &["-md", &model, "--draft-p-min", "0", "--draft-max", "5"],
        ] {
            let base = ["-m", &model, "-n", "24", "-p", prompt];
            let run = run(&sanitized("speculative"), &[&base[..], more].concat());
            assert_eq!(run.text(), text, "{more:?}");
            let [drafted, accepted, batches, written] =
                ["n_drafted", "n_accept", "batches", "n_predict"].map(|n| count(&run.stderr, n));
            // Every batch gives one token and the guesses that were right; the end is a token too.
            let tokens = written + usize::from(written < 24);
            assert!(accepted <= drafted, "{run:?}");
            assert_eq!(batches + accepted, tokens, "{run:?}");
            if more == ["--lookup", "--draft-max", "0"] {
                assert_eq!(drafted, 0);
            }
            if more.contains(&"--draft-p-min") {
                // A model guesses itself right.
                assert_eq!((accepted, batches), (drafted, tokens.div_ceil(6)), "{run:?}");
            }
        }
    }
}

/// Guesses of another model are wrong at times; with a seed the text is the same too.
#[test]
fn another_model_guesses_and_randomness_keeps_its_seed() {
    let (target, draft) = (tiny_model("draft", "gqa"), tiny_model("draft", "q8_0"));
    let text = |temp: &str, more: &[&str]| {
        let base = ["-m", &target, "-n", "30", "-p", "the sun and the sea", "--temp", temp];
        let run = run(&sanitized("speculative"), &[&base[..], more].concat());
        (run.text().to_owned(), count(&run.stderr, "n_drafted"), count(&run.stderr, "n_accept"))
    };
    for temp in ["0", "1"] {
        let (plain, ..) = text(temp, &["--lookup", "--draft-max", "0"]);
        let (guessed, drafted, accepted) = text(temp, &["-md", &draft, "--draft-p-min", "0"]);
        assert_eq!(guessed, plain);
        assert!(accepted < drafted, "{accepted} of {drafted}");
        assert_eq!(text(temp, &["--lookup"]).0, plain);
    }
    let other = tiny_model("draft", "odd");
    let flags = ["-m", &target, "-md", &other, "-p", "the sun"];
    let refused = run(&example("speculative"), &flags);
    assert!(refused.refusal().contains("needs the same vocabulary"), "{refused:?}");
}

/// Branches side by side: the text stays, and what they have in common is computed once.
#[test]
fn trees_of_guesses_do_not_change_the_text() {
    let (target, draft) = (tiny_model("tree", "gqa"), tiny_model("tree", "q8_0"));
    let text = |draft: &str, temp: &str, more: &[&str]| {
        let base = ["-m", &target, "-n", "30", "-p", "the sun and the sea", "--temp", temp];
        let flags = ["-md", draft, "--draft-p-min", "0", "--draft-max", "12"];
        let run = run(&sanitized("speculative"), &[&base[..], &flags, more].concat());
        let names = ["n_drafted", "n_accept", "batches", "n_predict"];
        (run.text().to_owned(), names.map(|name| count(&run.stderr, name)), run.stderr)
    };
    for temp in ["0", "1"] {
        let (plain, ..) = text(&draft, temp, &["--draft-max", "0"]);
        let mut most = 0;
        for (branches, split) in [("2", "0.02"), ("4", "0.05"), ("8", "0.01"), ("3", "1")] {
            let (found, [drafted, accepted, batches, written], stderr) =
                text(&draft, temp, &["-np", branches, "--draft-p-split", split]);
            assert_eq!(found, plain, "-np {branches} --temp {temp}");
            let tokens = written + usize::from(written < 30);
            assert_eq!(batches + accepted, tokens, "{stderr}");
            assert!(accepted < drafted && drafted <= 12 * batches, "{stderr}");
            let begun = count(&stderr, "branches");
            assert_eq!(begun == 0, split == "1", "{stderr}");
            most = most.max(begun);
        }
        assert!(most > 10, "only {most} branches");
    }
    // A model knows what it says, whatever else it holds for likely.
    let wide = ["-np", "3", "--draft-p-split", "0.001"];
    let (_, [_, accepted, batches, _], _) = text(&target, "0", &wide);
    assert!(accepted >= 2 * batches, "{accepted} in {batches}");
    let lookup = ["-m", &target, "--lookup", "-p", "a", "-np", "2"];
    assert!(run(&example("speculative"), &lookup).refusal().contains("-np is for"));

    let Some(model) = model() else { return };
    let model = model.to_str().unwrap();
    let prompt = "Three kinds of fruit are";
    let base = ["-m", model, "-md", model, "-n", "20", "-p", prompt, "--draft-p-min", "0"];
    let run = run(&example("speculative"), &[&base[..], &["-np", "4"]].concat());
    assert_eq!(run.text(), format!("{prompt}{}\n", alone(model, "20", prompt)));
    assert!(count(&run.stderr, "branches") > 0, "{run:?}");
}

/// Lines for scripts say what the lines for people say.
#[test]
fn json_has_what_is_shown() {
    let model = tiny_model("json", "gqa");
    let one = |program: &str, flags: &[&str]| {
        let run = run(&sanitized(program), &[&["-m", &model][..], flags].concat());
        (run.text().to_owned(), run.stderr)
    };
    let text = "the sun\u{e9}";
    let (lines, _) = one("tokenize", &[text]);
    let json: Value = serde_json::from_str(&one("tokenize", &["--json", text]).0).unwrap();
    assert_eq!(json["n_tokens"], lines.lines().count());
    for (line, token) in lines.lines().zip(json["tokens"].as_array().unwrap()) {
        let (id, piece) = line.trim_start().split_once(" -> ").unwrap();
        assert_eq!(token["id"].to_string(), id);
        // A byte of a character is a piece too, which JSON cannot say.
        let piece = piece.trim_matches('\'');
        assert!(token["piece"] == piece || token["piece"] == "\u{fffd}", "{line} {token}");
    }

    let flags = ["-n", "8", "--temp", "0", "-np", "2", "-p", "the sun"];
    let (shown, _) = one("batched", &flags);
    let (lines, said) = one("batched", &[&flags[..], &["--json"]].concat());
    assert_eq!(said, "");
    for (i, (line, shown)) in json_lines(&lines).iter().zip(shown.lines()).enumerate() {
        let text = format!("[{i}] the sun{}", line["answer"].as_str().unwrap());
        assert_eq!((&line["sequence"], text.as_str()), (&i.into(), shown));
    }

    let flags = ["-md", &model, "-n", "9", "-p", "the sun", "--draft-p-min", "0", "-np", "2"];
    let (shown, said) = one("speculative", &flags);
    let (line, quiet) = one("speculative", &[&flags[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&line).unwrap();
    let text = format!("{}{}\n", json["prompt"].as_str().unwrap(), json["text"].as_str().unwrap());
    assert_eq!((text, quiet), (shown, String::new()));
    for name in ["n_predict", "n_drafted", "n_accept", "batches", "branches"] {
        assert_eq!(json[name], count(&said, name), "{name}");
    }
    for (program, short, long) in [
        ("bench", &["--json"][..], &["-o", "json"][..]),
        ("batched-bench", &["--json"], &["--output-format", "jsonl"]),
    ] {
        let flags: &[&str] = match program {
            "bench" => &["-p", "4", "-n", "2", "-r", "1"],
            _ => &["-npp", "4", "-ntg", "2", "-npl", "1"],
        };
        let keys = |more: &[&str]| {
            let found = one(program, &[flags, more].concat()).0;
            found.matches('"').count()
        };
        assert_eq!(keys(short), keys(long), "{program}");
        assert!(keys(short) > 10);
    }
    let model = tiny_model("json-embedding", "gqa");
    let flags = ["-m", &model, "-p", "the sun", "--pooling", "mean"];
    let json = run(&sanitized("embedding"), &[&flags[..], &["--json"]].concat());
    let long = [&flags[..], &["--embd-output-format", "json"]].concat();
    assert_eq!(json.text(), run(&sanitized("embedding"), &long).text());
}

#[test]
fn a_conversation_keeps_what_was_said() {
    let tiny = tiny_model("chat", "gqa");
    let refused = run_with_input(&example("chat"), &["-m", &tiny], "Hello\n");
    assert!(refused.refusal().contains("brings no chat format"), "{refused:?}");

    let Some(model) = model() else { return };
    let model = model.to_str().unwrap();
    let talk = |input: &str, more: &[&str]| {
        let base = ["-m", model, "--temp", "0", "-n", "12"];
        run_with_input(&sanitized("chat"), &[&base[..], more].concat(), input)
    };
    let (hello, question) = ("My favourite colour is green.", "What is my favourite colour?");
    let both = talk(&format!("{hello}\n\n{question}"), &["-sys", "Be brief."]);
    let (first, second) = both.text().split_once('\n').unwrap();
    assert_eq!(talk(hello, &["-sys", "Be brief."]).text(), format!("{first}\n"));
    // The second answer is the one that reading all of it anew gives.
    let turn = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>\n");
    let turns =
        [("system", "Be brief."), ("user", hello), ("assistant", first), ("user", question)];
    let all: String = turns.iter().map(|(role, text)| turn(role, text)).collect();
    let expected = alone(model, "12", &format!("{all}<|im_start|>assistant\n"));
    assert_eq!(second, format!("{expected}\n"));
    assert_ne!(talk(question, &["-sys", "Be brief."]).text(), second);

    let full = talk(&format!("{}\n", "word ".repeat(400)), &["-c", "256"]);
    assert!(full.refusal().contains("the context is full: it holds 256 tokens"), "{full:?}");
    let story = format!("Write a very long story. {}", "dragon ".repeat(180));
    let full = talk(&story, &["-c", "256", "-n", "-1"]);
    assert_eq!(full.code, Some(1), "{full:?}");
    assert!(full.stdout.len() > 60 && full.stderr.contains("the context is full"), "{full:?}");
}

/// The parsed JSON of `gguf --json-array`.
fn contents(path: &str) -> Value {
    serde_json::from_str(run(&sanitized("gguf"), &["--json-array", path]).text()).unwrap()
}

#[test]
fn gguf_shows_what_is_in_a_file() {
    let model = tiny_model("show", "gqa");
    let bytes = fs::read(&model).unwrap();
    let expected = powerinfer::gguf::parse(&bytes, &model).unwrap();
    let json = contents(&model);
    assert_eq!(json["magic"], "GGUF");
    assert_eq!(json["metadata"]["general.architecture"]["value"], "llama");
    let tokens = json["metadata"]["tokenizer.ggml.tokens"]["value"].as_array().unwrap();
    assert_eq!(tokens[0], "Ċ");
    assert_eq!(json["metadata"]["tokenizer.ggml.add_bos_token"]["value"], true);
    assert_eq!(json["tensors"].as_object().unwrap().len(), expected.tensors.len());
    let shown = run(&sanitized("gguf"), &["-m", &model]);
    for tensor in &expected.tensors {
        let name = tensor.name.to_string();
        let shape: Vec<u64> =
            serde_json::from_value(json["tensors"][&name]["shape"].clone()).unwrap();
        assert_eq!(json["tensors"][&name]["size"], tensor.n_bytes, "{name}");
        assert_eq!(json["tensors"][&name]["type"], tensor.ty.to_string().to_lowercase(), "{name}");
        assert!(shown.text().contains(&format!("  {name} {shape:?}\n")), "{name}: {shown:?}");
    }
    assert!(shown.text().contains("general.architecture = \"llama\"\n"), "{shown:?}");
    let brief = run(&sanitized("gguf"), &["--json", &model]);
    let brief: Value = serde_json::from_str(brief.text()).unwrap();
    assert_eq!(brief["metadata"]["tokenizer.ggml.tokens"].get("value"), None);
}

#[test]
fn gguf_edits_entries_and_nothing_else() {
    let model = tiny_model("edit", "gqa");
    let out = format!("{model}.edited");
    let gguf = sanitized("gguf");
    let edits = ["--set", "llama.block_count=7", "--set", "general.architecture=a=b\u{e9}"];
    let more = ["--set", "tokenizer.ggml.add_bos_token=false", "--remove", "tokenizer.ggml.pre"];
    run(&gguf, &[&["-m", &model, "-o", &out][..], &edits, &more].concat()).text();
    let (old, mut new) = (contents(&model), contents(&out));
    let value = |key: &str| new["metadata"][key]["value"].clone();
    assert_eq!(value("llama.block_count"), 7);
    assert_eq!(value("general.architecture"), "a=b\u{e9}");
    assert_eq!(value("tokenizer.ggml.add_bos_token"), false);
    assert_eq!(value("tokenizer.ggml.pre"), Value::Null);
    assert_eq!(new["tensors"].take(), old["tensors"]);
    // Back again, in place: only the order of the entries could differ, and it does not.
    fs::copy(&model, &out).unwrap();
    let count = old["metadata"]["llama.block_count"]["value"].to_string();
    for value in ["9", &count] {
        let edit = format!("llama.block_count={value}");
        run(&gguf, &["-m", &out, "-o", &out, "--set", &edit]).text();
        assert_eq!(fs::read(&out).unwrap() == fs::read(&model).unwrap(), value == count);
    }
    for (edit, reason) in [
        ("llama.block_count=-1", "whole number of type u32"),
        ("llama.block_count=4294967296", "whole number of type u32"),
        ("llama.block_count=1.5", "whole number of type u32"),
        ("tokenizer.ggml.add_bos_token=1", "true or false"),
        ("tokenizer.ggml.token_type=1,a", "whole number of type i32"),
        ("absent=1", "there is no 'absent'"),
        ("absent", "--set needs KEY="),
    ] {
        let refused = run(&gguf, &["-m", &model, "-o", &out, "--set", edit]);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
}

#[test]
fn gguf_adds_entries_of_every_type() {
    let model = tiny_model("add", "gqa");
    let (out, template) = (format!("{model}.added"), format!("{model}.jinja"));
    fs::write(&template, "{{ messages }}\n\u{e9}\n").unwrap();
    let gguf = sanitized("gguf");
    let added = [
        ("a.u8=u8:255", json!(255)),
        ("a.i8=i8:-128", json!(-128)),
        ("a.u64=u64:18446744073709551615", json!(u64::MAX)),
        ("a.i64=i64:-9223372036854775808", json!(i64::MIN)),
        ("a.f32=f32:0.5", json!(0.5)),
        ("a.f64=f64:1e300", json!(1e300)),
        ("a.bool=bool:true", json!(true)),
        ("a.str=str:x=y, z:", json!("x=y, z:")),
        ("a.none=u32[]:", json!([])),
        ("a.numbers=i16[]:1,-2,3", json!([1, -2, 3])),
        ("a.bools=bool[]:true,false", json!([true, false])),
        ("a.texts=str[]:a b,,c\\,d\\\\", json!(["a b", "", "c,d\\"])),
    ];
    let flags: Vec<&str> = added.iter().flat_map(|(flag, _)| ["--add", flag]).collect();
    let from_file = format!("tokenizer.chat_template={template}");
    let more = ["--set-file", &from_file, "--set", "tokenizer.ggml.token_type=1,2,3"];
    run(&gguf, &[&["-m", &model, "-o", &out][..], &flags, &more].concat()).text();
    let (old, mut new) = (contents(&model), contents(&out));
    let value = |key: &str| new["metadata"][key]["value"].clone();
    for (flag, expected) in &added {
        assert_eq!(value(flag.split_once('=').unwrap().0), *expected, "{flag}");
    }
    assert_eq!(value("tokenizer.chat_template"), "{{ messages }}\n\u{e9}\n");
    assert_eq!(value("tokenizer.ggml.token_type"), json!([1, 2, 3]));
    assert_eq!(new["metadata"]["a.numbers"]["type"], "arr[i16, 3]");
    assert_eq!(new["tensors"].take(), old["tensors"]);
    // Nothing is written in a dry run, and the size is the one it will have.
    let size = fs::metadata(&out).unwrap().len();
    fs::remove_file(&out).unwrap();
    let dry = run(&gguf, &[&["-m", &model, "-o", &out, "--dry-run"][..], &flags, &more].concat());
    assert!(dry.text().ends_with(&format!(" tensors, {size} bytes\n")), "{dry:?}");
    assert!(!fs::exists(&out).unwrap());
    for (flag, edit, reason) in [
        ("--add", "a=u33:1", "is none of u8"),
        ("--add", "a=arr:1", "is none of u8"),
        ("--add", "a=u8:256", "whole number of type u8"),
        ("--add", "a=u8[]:1,,2", "whole number of type u8"),
        ("--add", "a=1", "KEY=TYPE:VALUE"),
        ("--add", "=u8:1", "needs KEY="),
        ("--add", "llama.block_count=u32:1", "is there already"),
        ("--set-file", "llama.block_count=/dev/null", "is no text"),
        ("--set-file", "a=absent.txt", "absent.txt"),
    ] {
        let refused = run(&gguf, &["-m", &model, "-o", &out, flag, edit]);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
}

#[test]
fn gguf_splits_and_merges() {
    let model = tiny_model("split", "gqa");
    let gguf = sanitized("gguf");
    let prefix = format!("{model}.part");
    let n = contents(&model)["tensors"].as_object().unwrap().len();
    let split = ["-m", &model, "-o", &prefix, "--split", "--split-max-tensors", "10"];
    let run_split = run(&gguf, &split);
    let count = n.div_ceil(10);
    assert_eq!(run_split.text().lines().count(), count);
    let name = |i: usize| format!("{prefix}-{i:05}-of-{count:05}.gguf");
    assert_eq!(contents(&name(count))["metadata"]["split.no"]["value"], count - 1);
    assert_eq!(alone(&name(1), "8", "the sun"), alone(&model, "8", "the sun"));
    let merged = format!("{model}.merged");
    run(&gguf, &["-m", &name(1), "-o", &merged, "--merge"]).text();
    assert!(
        fs::read(&merged).unwrap() == fs::read(&model).unwrap(),
        "merged is not what was split"
    );
    // What a dry run says is what comes; and a first file of metadata alone.
    for more in [&[][..], &["--no-tensor-first-split"]] {
        let prefix = format!("{model}.other");
        let flags = ["-m", &model, "-o", &prefix, "--split", "--split-max-tensors", "10"];
        let dry = run(&gguf, &[&flags[..], &["--dry-run"], more].concat());
        let done = run(&gguf, &[&flags[..], more].concat());
        let lines: Vec<_> = done.text().lines().collect();
        assert_eq!(lines.len(), count + more.len());
        for (line, dry) in lines.iter().zip(dry.text().lines()) {
            let size = fs::metadata(line.split_once(": ").unwrap().0).unwrap().len();
            assert_eq!(dry, format!("{line}, {size} bytes"));
        }
        assert_eq!(lines[0].ends_with(": 0 tensors"), !more.is_empty(), "{done:?}");
        let first = lines[0].split_once(": ").unwrap().0;
        run(&gguf, &["-m", first, "-o", &merged, "--merge"]).text();
        assert!(fs::read(&merged).unwrap() == fs::read(&model).unwrap(), "merged is another");
    }
    let whole = ["-m", &model, "-o", &prefix, "--split", "--split-max-size", "1M"];
    assert_eq!(run(&gguf, &whole).text(), format!("{prefix}-00001-of-00001.gguf: {n} tensors\n"));
    for (arguments, reason) in [
        (&["-m", &name(2), "-o", "x", "--merge"][..], "not the first file"),
        (&["-m", &model, "-o", "x", "--merge"], "not the first file"),
        (&["-m", &name(1), "-o", "x", "--split"], "is a split already"),
        (&["-m", &model, "-o", "x", "--split", "--split-max-size", "1K"], "M or G"),
        (&["-m", &model, "--split"], "-o FILE"),
        (&["-m", &model, "-o", "x"], "--set, --remove"),
        (&["-m", &model, "-o", "x", "--split", "--merge"], "opposites"),
        (&[], "no file"),
        (&["-m", "absent.gguf"], "absent.gguf"),
        (&["-m", "/"], "is no GGUF file"),
    ] {
        let refused = run(&gguf, arguments);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
    fs::remove_file(name(2)).unwrap();
    let refused = run(&gguf, &["-m", &name(1), "-o", &merged, "--merge"]);
    assert!(refused.refusal().contains("cannot open"), "{refused:?}");
}

/// Files that are cut anywhere, or have wild numbers in their head, are refused.
#[test]
fn gguf_refuses_damaged_files() {
    let model = tiny_model("damaged", "gqa");
    let gguf = sanitized("gguf");
    let whole = fs::read(&model).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&model, bytes).unwrap();
        run(&gguf, &[&model]).refusal().to_owned()
    };
    for n in (0..whole.len() - 32).step_by(whole.len() / 40) {
        assert!(refused(&whole[..n]).contains("damaged-gqa.gguf"), "{n}");
    }
    for at in (0..32).step_by(4) {
        let mut wild = whole.clone();
        wild[at..at + 4].fill(0xFF);
        assert!(!refused(&wild).is_empty(), "{at}");
    }
}

/// The middle is what the model writes after the announced texts, in either order.
#[test]
fn infill_announces_its_texts() {
    let infill = sanitized("infill");
    let plain = tiny_model("infill-plain", "gqa");
    for (arguments, reason) in [
        (&["-m", &plain, "--in-prefix", "a"][..], "no token for what comes before"),
        (&["-m", &plain], "no text"),
        (&["-m", &plain, "--in-prefix", "a", "--in-prefix-file", "b"], "both give"),
        (&["-m", "absent.gguf", "--in-suffix", "a"], "absent.gguf"),
    ] {
        let refused = run(&infill, arguments);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }

    let spec = tiny::spec("gqa");
    let bytes = tiny::edited_bytes(&spec, |keys, _| {
        for (name, back) in [("pre", 2), ("suf", 4), ("mid", 1)] {
            let id = powerinfer::gguf::Value::U32(spec.n_vocab as u32 - back);
            keys.set(&format!("tokenizer.ggml.fim_{name}_token_id"), id).unwrap();
        }
    });
    let model = format!("{plain}.fim");
    fs::write(&model, bytes).unwrap();
    let (pre, suf, mid) = ("<|im_start|>", "<|begin|>", "<|im_end|>");
    // `simple` shows control tokens in what it writes, `infill` does not.
    let lone = |prompt: &str| {
        let text = alone(&model, "8", prompt);
        [pre, suf, mid].iter().fold(text, |text, token| text.replace(token, ""))
    };
    let mut middles = Vec::new();
    for (before, after) in [("the sun", " and the sea"), ("one two", "\nfour"), ("a", "")] {
        let base = ["-m", &model, "-n", "8", "--in-prefix", before, "--in-suffix", after];
        let whole = run(&infill, &base);
        let middle = lone(&format!("{pre}{before}{suf}{after}{mid}"));
        assert_eq!(whole.text(), format!("{before}{middle}{after}\n"));
        let only = [&base[..], &["--no-display-prompt", "--spm-infill"]].concat();
        let middle = lone(&format!("{suf}{after}{pre}{before}{mid}"));
        assert_eq!(run(&infill, &only).text(), format!("{middle}\n"));
        middles.push(middle);
    }
    assert!(middles.iter().any(|middle| middle.len() > 4), "{middles:?}");
    let small = ["-m", &model, "--in-prefix", "a", "-c", "16"];
    assert!(run(&infill, &small).refusal().contains("the texts do not fit"));
}
