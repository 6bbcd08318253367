//! The small example programs, and all of them under the sanitizers.

mod c_programs;

use c_programs::{Build, compile, example, model, run, run_with_input, sanitized, scratch};

#[test]
fn streamed_text_never_shows_half_a_character() {
    let program = compile("tests/c_programs/utf8_stream.c", Build::Sanitized);
    run(&program, &[] as &[&str]).text();
}

#[test]
fn both_batch_interfaces_give_the_same_text() {
    let Some(model) = model() else { return };
    let simple = example("simple");
    let text = |api: &str| {
        let prompt = "The three primary colours are";
        let run = run(&simple, &["-m", model.to_str().unwrap(), "-n", "24", "--api", api, prompt]);
        run.text().to_owned()
    };
    let ext = text("ext");
    assert!(ext.starts_with("The three primary colours are") && ext.len() > 60, "{ext}");
    assert_eq!(text("classic"), ext);
}

#[test]
fn an_unknown_interface_is_refused() {
    let refused = run(&example("simple"), &["-m", "x.gguf", "--api", "new"]);
    assert!(refused.refusal().contains("--api is 'ext' or 'classic', not 'new'"));
}

/// The continuations that `batched` printed. A text may contain newlines.
fn continuations(arguments: &[&str]) -> Vec<String> {
    let Some(model) = model() else { return Vec::new() };
    let prompt = "Hello my name is";
    let base = ["-m", model.to_str().unwrap(), "-n", "16"];
    let run = run(&example("batched"), &[&base[..], arguments, &[prompt]].concat());
    let mut texts: Vec<String> = Vec::new();
    for line in run.text().lines() {
        let start = format!("[{}] {prompt}", texts.len());
        match (line.strip_prefix(&start), texts.last_mut()) {
            (Some(text), _) => texts.push(text.to_owned()),
            (None, Some(last)) => {
                last.push('\n');
                last.push_str(line);
            }
            (None, None) => panic!("{line}"),
        }
    }
    texts
}

#[test]
fn a_continuation_does_not_depend_on_its_company() {
    if model().is_none() {
        return;
    }
    let alone = continuations(&["-np", "1", "-s", "5"]);
    let four = continuations(&["-np", "4", "-s", "5"]);
    assert_eq!((alone.len(), four.len()), (1, 4));
    assert_eq!(four[0], alone[0]);
    // Continuation 2 of seed 5 is continuation 0 of seed 7.
    assert_eq!(four[2], continuations(&["-np", "2", "-s", "7"])[0]);
    assert_ne!(four[0], four[1]);
}

#[test]
fn greedy_continuations_are_all_the_lone_run() {
    let Some(model) = model() else { return };
    let four = continuations(&["-np", "4", "--temp", "0"]);
    let prompt = "Hello my name is";
    let lone = run(&example("simple"), &["-m", model.to_str().unwrap(), "-n", "16", prompt]);
    let lone = lone.text().strip_prefix(prompt).unwrap().trim_end();
    for text in &four {
        assert_eq!(text.trim_end(), lone);
    }
    assert_eq!(four.len(), 4);
}

#[test]
fn tokenize_shows_ids_and_pieces() {
    let Some(model) = model() else { return };
    let (tokenize, model) = (example("tokenize"), model.to_str().unwrap());
    let listed = run(&tokenize, &["-m", model, "Hello world\\n"]);
    assert_eq!(listed.text(), " 19556 -> 'Hello'\n   905 -> ' world'\n   198 -> '\\n'\n");
    let ids = run(&tokenize, &["-m", model, "--ids", "--show-count", "-p", "Hello world\\n"]);
    assert_eq!(ids.text(), "[19556, 905, 198]\nTotal number of tokens: 3\n");
    let piped = run_with_input(&tokenize, &["-m", model, "--ids", "--stdin"], "Hello world\n");
    assert_eq!(piped.text(), "[19556, 905, 198]\n");
    let special = run(&tokenize, &["-m", model, "--ids", "<|im_start|>"]);
    assert_eq!(special.text(), "[1]\n");
    let plain = run(&tokenize, &["-m", model, "--ids", "--no-parse-special", "<|im_start|>"]);
    assert!(plain.text().len() > "[1]\n".len(), "{plain:?}");
    let none = run(&tokenize, &["-m", model, "--ids", ""]);
    assert_eq!(none.text(), "[]\n");
}

#[test]
fn tokenize_wants_one_text() {
    let tokenize = example("tokenize");
    for arguments in [&["-m", "x"][..], &["-m", "x", "a", "-p", "b"], &["-m", "x", "a", "--stdin"]]
    {
        run(&tokenize, arguments).refusal();
    }
}

#[test]
fn quantize_wants_names_that_there_are() {
    let quantize = example("quantize");
    for (arguments, reason) in [
        (&["-m", "x", "-q", "Q8_0"][..], "-o"),
        (&["-m", "x", "-o", "y"], "-q"),
        (&["-m", "x", "-o", "y", "-q", "Q9"], "none of F32"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--tensor-types", "a"], "PATTERN=TYPE"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--tensor-types", "a=q"], "no type"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--prune-layers", "1,a"], "list of layers"),
        (&["-m", "absent.gguf", "-o", "y", "-q", "q8_0", "--quiet"], "absent.gguf"),
    ] {
        let refused = run(&quantize, arguments);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
}

#[test]
fn quantize_writes_a_model_that_runs() {
    let Some(model) = model() else { return };
    let model = model.to_str().unwrap();
    let out = scratch("examples").join("quantized.gguf");
    let out = out.to_str().unwrap();
    let flags = ["-m", model, "-o", out, "-q", "q8_0", "--quiet", "--tensor-types", "ffn_up=q4_1"];
    let refused = run(&example("quantize"), &flags);
    assert!(refused.refusal().contains("requantizing from type q4_1 is disabled"), "{refused:?}");
    run(&example("quantize"), &[&flags[..], &["--allow-requantize"]].concat()).text();
    let text = run(&example("simple"), &["-m", out, "-n", "8", "The sky is"]);
    assert!(text.text().starts_with("The sky is"), "{text:?}");
    std::fs::remove_file(out).unwrap();
}

#[test]
fn the_programs_are_clean_under_sanitizers() {
    let refused = run(&sanitized("main"), &["-m", "absent.gguf", "-p", "a"]);
    assert!(refused.refusal().contains("absent.gguf"));
    run(&sanitized("main"), &["-h"]).text();

    let Some(model) = model() else { return };
    let model = model.to_str().unwrap();
    let base = ["-m", model, "-n", "4"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    // Without a random choice: four tokens could end inside of a character.
    let with_main = |more: &[&'static str]| [&with(&["--temp", "0"])[..], more].concat();
    run(&sanitized("main"), &with_main(&["-p", "Hi", "--repeat-penalty", "1.1", "--ignore-eos"]))
        .text();
    run(&sanitized("main"), &with_main(&["-p", "Hi", "--chat", "-sys", "Be brief."])).text();
    let talk = with_main(&["--chat", "-c", "512"]);
    run_with_input(&sanitized("main"), &talk, "Hello\nAnd now?\n").text();
    run(&sanitized("simple"), &with(&["--api", "ext"])).text();
    run(&sanitized("simple"), &with(&["--api", "classic"])).text();
    run(&sanitized("batched"), &with(&["-np", "3"])).text();
    let quantize =
        ["-m", model, "-q", "Q4_K_M", "--dry-run", "--tensor-types", "ffn_up=q5_0 k=f16"];
    run(&sanitized("quantize"), &[&quantize[..], &["--prune-layers", "3,4", "--quiet"]].concat())
        .text();
    run(&sanitized("tokenize"), &["-m", model, "caf\u{e9} \u{1F642}"]).text();
    let full = ["-m", model, "-c", "256", "--temp", "0", "--ignore-eos", "-p", "a"];
    let full = run(&sanitized("main"), &full);
    assert_eq!(full.code, Some(1), "{full:?}");
}
