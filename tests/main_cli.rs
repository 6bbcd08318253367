//! `main` as its users meet it: flags, files that are no models, limits, Ctrl-C.

mod c_programs;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use c_programs::{Run, command, example, model, run, run_with_input, scratch};
use powerinfer::gguf::{Magic, Value, Writer};
use powerinfer::quant::QuantType;

/// Flags that make a run quick and repeatable.
const QUICK: [&str; 4] = ["-c", "256", "--temp", "0"];

fn generate(model: &Path, arguments: &[&str]) -> Run {
    let model = model.to_str().unwrap();
    run(&example("main"), &[&["-m", model][..], &QUICK, arguments].concat())
}

#[test]
fn help_explains_every_flag() {
    let help = run(&example("main"), &["-h"]);
    for flag in [
        "-m",
        "-n",
        "-t",
        "-tb",
        "-c",
        "-b",
        "-ub",
        "-p",
        "-f",
        "-s",
        "--temp",
        "--top-k",
        "--top-p",
        "--min-p",
        "--repeat-penalty",
        "--repeat-last-n",
        "--ignore-eos",
        "--grammar",
        "--grammar-file",
        "-j",
        "-jf",
        "--prompt-cache",
        "--prompt-cache-all",
        "--prompt-cache-ro",
        "--context-shift",
        "--keep",
        "--chat-template",
        "--chat-template-file",
        "-ngl",
        "--vram-budget",
        "--sparse",
        "--sparse-threshold",
        "--sparse-stats",
        "--save-activation",
        "--lora",
        "--lora-scaled",
        "--control-vector",
        "--control-vector-scaled",
        "--control-vector-layer-range",
        "--no-display-prompt",
        "--verbose-prompt",
        "-i",
        "--interactive",
        "--chat",
    ] {
        let mut lines = help.text().lines();
        let line = lines.find(|l| l.trim().split([' ', ',']).any(|word| word == flag));
        let line = line.unwrap_or_else(|| panic!("{flag} is not in the help text"));
        // A flag too long for its column has the explanation on the next line.
        let next = lines.next().unwrap_or_default();
        let explained = line.trim().contains("  ") || line.len() > 50 || next.starts_with("     ");
        assert!(explained, "{flag} is not explained: {line}");
    }
    assert_eq!(help.stderr, "");
}

#[test]
fn wrong_flags_are_refused_in_one_line() {
    let main = example("main");
    for (arguments, message) in [
        (&[][..], "no model"),
        (&["-m", "x.gguf"], "no prompt"),
        (&["--colour"], "unknown flag '--colour'"),
        (&["-m"], "-m needs a value"),
        (&["-n", "many"], "-n needs a whole number between -1 and"),
        (&["-n", "12x"], "not '12x'"),
        (&["-n", ""], "not ''"),
        (&["-n", "99999999999999999999"], "-n needs a whole number"),
        (&["-t", "0"], "-t needs a whole number between 1 and 512, not '0'"),
        (&["-c", "-5"], "-c needs"),
        (&["--temp", "warm"], "--temp needs a number"),
        (&["--temp", "-1"], "--temp needs a number between 0 and"),
        (&["--top-p", "nan"], "--top-p needs a number between 0 and 1"),
        (&["--top-p", "1.5"], "--top-p needs"),
        (&["--sparse-threshold", "low"], "--sparse-threshold needs a number"),
        (&["-m", "x.gguf", "-p", "a", "-f", "b"], "-p and -f"),
        (&["-m", "x.gguf", "-p", "a", "--grammar", "b", "--grammar-file", "c"], "both give"),
        (&["-m", "x.gguf", "-p", "a", "-sys", "b"], "-sys needs --chat"),
        (&["--control-vector-layer-range", "1"], "needs two values"),
        (&["--control-vector-layer-range", "1", "b"], "needs a whole number"),
        (&["-m", "x.gguf", "prompt"], "unexpected argument 'prompt'"),
        (&["-m", "x.gguf", "-f", "no/such/file"], "cannot open 'no/such/file': No such file"),
        (&["-m", "x.gguf", "-f", "/"], "cannot read '/': Is a directory"),
    ] {
        let refused = run(&main, arguments);
        let line = refused.refusal();
        assert!(line.starts_with("main: "), "{line}");
        assert!(line.contains(message), "{arguments:?}: {line}");
    }
}

/// A file with these tensors of made-up numbers about `scale`: names and extents.
fn write_numbers(path: &Path, keys: &[(&str, Value)], tensors: &[(String, [u64; 2])], scale: f32) {
    let mut header = Writer::new(Magic::Gguf);
    for (key, value) in keys {
        header.set(key, value.clone()).unwrap();
    }
    for (name, [n, rows]) in tensors {
        let dims = [*n, *rows];
        header.add_tensor(name, &dims[..if *rows == 1 { 1 } else { 2 }], QuantType::F32).unwrap();
    }
    let mut out = header.start(File::create(path).unwrap()).unwrap();
    for (_, [n, rows]) in tensors {
        let number = |i: u64| scale * ((i * 7919 % 1009) as f32 / 504.5 - 1.0);
        out.write(&(0..n * rows).flat_map(|i| number(i).to_le_bytes()).collect::<Vec<_>>())
            .unwrap();
    }
    out.finish().unwrap();
}

/// Adapters change the text, at scale 0 they do not, and two halves are a whole.
#[test]
fn adapters_change_the_text() {
    let Some(model) = model() else { return };
    let folder = scratch("adapters");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (lora, control) = (path("lora.gguf"), path("control.gguf"));
    let keys = [
        ("general.architecture", Value::Str("llama".into())),
        ("general.type", Value::Str("adapter".into())),
        ("adapter.type", Value::Str("lora".into())),
        ("adapter.lora.alpha", Value::F32(4.0)),
    ];
    let pairs = (0..30).step_by(5).flat_map(|il| {
        let name = |half: &str| format!("blk.{il}.attn_output.weight.lora_{half}");
        [(name("a"), [576, 4]), (name("b"), [4, 576])]
    });
    write_numbers(lora.as_ref(), &keys, &pairs.collect::<Vec<_>>(), 0.5);
    let directions = [3, 10].map(|il| (format!("direction.{il}"), [576, 1]));
    write_numbers(control.as_ref(), &keys[..1], &directions, 4.0);

    let text = |arguments: &[&str]| {
        let base = ["-n", "16", "-p", "The sky is"];
        generate(&model, &[&base[..], arguments].concat()).text().to_owned()
    };
    let plain = text(&[]);
    let (with_lora, with_control) =
        (text(&["--lora", &lora]), text(&["--control-vector", &control]));
    assert!(with_lora != plain && with_control != plain && with_lora != with_control, "{plain}");
    assert_eq!(text(&["--lora-scaled", &format!("{lora}:0")]), plain);
    assert_eq!(text(&["--control-vector-scaled", &format!("{control}:0")]), plain);
    let halves = |file: &str| format!("{file}:0.5,{file}:0.5");
    assert_eq!(text(&["--lora-scaled", &halves(&lora)]), with_lora);
    assert_eq!(text(&["--control-vector-scaled", &halves(&control)]), with_control);
    let only = |layers: [&str; 2]| {
        text(&["--control-vector", &control, "--control-vector-layer-range", layers[0], layers[1]])
    };
    assert_eq!(only(["11", "29"]), plain, "no direction is for these layers");
    assert_eq!(only(["3", "10"]), with_control);

    for (arguments, reason) in [
        (["--lora", "absent.gguf"], "cannot load the LoRA adapter 'absent.gguf'"),
        (["--lora", &control], "general.type"),
        (["--lora-scaled", &lora], "is not FILE:SCALE"),
        (["--lora-scaled", "a.gguf:much"], "is not FILE:SCALE"),
        (["--control-vector", "absent.gguf"], "control vector 'absent.gguf'"),
        (["--control-vector", &lora], "is not direction.N"),
        (["--control-vector", &format!("{control},")], "no file in"),
    ] {
        let refused = generate(&model, &[&["-p", "a", "-n", "1"][..], &arguments].concat());
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
}

fn refused_model(path: &Path) -> String {
    let run = generate(path, &["-p", "a", "-n", "1"]);
    let line = run.refusal().to_owned();
    let expected = format!("main: cannot load the model '{}': ", path.display());
    assert!(line.starts_with(&expected) && line.len() > expected.len() + 10, "{line}");
    line
}

#[test]
fn what_is_no_model_is_refused_in_one_line() {
    let folder = scratch("no-models");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let header = |tensors: u64, pairs: u64| {
        let counts = [tensors.to_le_bytes(), pairs.to_le_bytes()].concat();
        let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &counts].concat();
        bytes.resize(100, 0);
        bytes
    };
    refused_model(&folder.join("absent.gguf"));
    refused_model(&folder);
    refused_model(&write("empty.gguf", b""));
    refused_model(&write("text.gguf", b"once upon a time there was a file that was no model"));
    refused_model(&write("magic.gguf", b"GGUF"));
    refused_model(&write("nothing.gguf", &header(0, 0)));
    refused_model(&write("tensors.gguf", &header(1 << 60, 0)));
    refused_model(&write("pairs.gguf", &header(0, 1 << 60)));
    refused_model(&write("both.gguf", &header(u64::MAX, u64::MAX)));
}

/// A copy of the model that a test may damage.
fn copy_of(model: &Path, folder: &str) -> PathBuf {
    let path = scratch(folder).join("model.gguf");
    fs::copy(model, &path).unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "our own file in a folder of ours")]
    permissions.set_readonly(false);
    fs::set_permissions(&path, permissions).unwrap();
    path
}

#[test]
fn a_truncated_model_is_refused_in_one_line() {
    let Some(model) = model() else { return };
    let path = copy_of(&model, "truncated");
    let len = fs::metadata(&path).unwrap().len();
    for keep in [len - 1, len - 1_000_000, len / 2, 1_800_000, 1_000_000, 5_000, 100, 24, 23] {
        File::options().write(true).open(&path).unwrap().set_len(keep).unwrap();
        refused_model(&path);
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_bit_flipped_model_never_crashes() {
    let Some(model) = model() else { return };
    let path = copy_of(&model, "flipped");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let flip = |at: u64, bit: u8| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ bit], at).unwrap();
    };
    // Magic, version, counts, the first keys, then all over the metadata, the tensor table and
    // the data (1.8 MB of metadata and tables come first).
    let places = (0..24).chain((24..2_000).step_by(83)).chain((2_000..1_900_000).step_by(97_003));
    let mut refused = 0;
    for (n, at) in places.chain([5_000_000, 90_000_000]).enumerate() {
        let bit = 1 << (n % 8);
        flip(at, bit);
        let run = generate(&path, &["-p", "a", "-n", "1"]);
        flip(at, bit);
        // A flipped bit in a name or a weight may go unseen. A signal or a second line may not.
        if run.code != Some(0) {
            run.refusal();
            refused += 1;
        }
    }
    fs::remove_file(path).unwrap();
    assert!(refused >= 20, "only {refused} were noticed: magic, version and counts alone are more");
}

#[test]
fn the_text_continues_the_prompt_and_the_table_follows() {
    let Some(model) = model() else { return };
    let run = generate(&model, &["-p", "The capital of France is", "-n", "6"]);
    assert!(run.text().starts_with("The capital of France is Paris"), "{run:?}");
    for word in ["load", "prompt", "generation", "tokens/s", "memory", "KV cache", "-n reached"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    // No progress bar where there is no terminal.
    assert!(!run.stderr.contains('\r') && !run.stderr.contains("loading"), "{}", run.stderr);
}

#[test]
fn the_same_flags_give_the_same_text() {
    let Some(model) = model() else { return };
    let text = |more: &[&str]| {
        let prompt = ["-p", "Once upon a time", "-n", "24"];
        generate(&model, &[&prompt[..], more].concat()).text().to_owned()
    };
    let greedy = text(&[]);
    assert_eq!(text(&[]), greedy);
    let seeded = text(&["--temp", "0.9", "-s", "7"]);
    assert_eq!(text(&["--temp", "0.9", "-s", "7"]), seeded);
    assert_ne!(text(&["--temp", "0.9", "-s", "8"]), seeded);
    assert_ne!(seeded, greedy);
}

#[test]
fn a_file_is_a_prompt_and_the_prompt_can_be_hidden() {
    let Some(model) = model() else { return };
    let file = scratch("prompts").join("prompt.txt");
    fs::write(&file, "Water boils at\n").unwrap();
    let file = file.to_str().unwrap();
    let shown = generate(&model, &["-f", file, "-n", "8"]);
    let hidden = generate(&model, &["-p", "Water boils at", "-n", "8", "--no-display-prompt"]);
    assert_eq!(shown.text(), format!("Water boils at{}", hidden.text()));
}

#[test]
fn verbose_prompt_lists_the_tokens() {
    let Some(model) = model() else { return };
    let run = generate(&model, &["-p", "Hello world", "-n", "1", "--verbose-prompt"]);
    assert!(run.stderr.contains("prompt: 2 tokens"), "{}", run.stderr);
    assert!(run.stderr.contains("19556 -> 'Hello'"), "{}", run.stderr);
    assert!(run.stderr.contains("905 -> ' world'"), "{}", run.stderr);
}

#[test]
fn escapes_in_the_prompt_are_read_unless_told_otherwise() {
    let Some(model) = model() else { return };
    let read = generate(&model, &["-p", r"a\nb", "-n", "1"]);
    assert!(read.text().starts_with("a\nb"), "{read:?}");
    let kept = generate(&model, &["-p", r"a\nb", "-n", "1", "--no-escape"]);
    assert!(kept.text().starts_with(r"a\nb"), "{kept:?}");
}

#[test]
fn an_end_token_ends_the_text_unless_ignored() {
    let Some(model) = model() else { return };
    // Chat format by hand: the answer ends with the end-of-turn token.
    let prompt =
        "<|im_start|>user\nWhat is 2+2? Answer with one number.<|im_end|>\n<|im_start|>assistant\n";
    let ended = generate(&model, &["-p", prompt, "-n", "30"]);
    ended.text();
    assert!(ended.stderr.contains("end of text"), "{}", ended.stderr);
    let ignored = generate(&model, &["-p", prompt, "-n", "30", "--ignore-eos"]);
    assert!(ignored.stderr.contains("-n reached"), "{}", ignored.stderr);
    assert!(ignored.text().len() > ended.text().len());
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_in_one_line() {
    let Some(model) = model() else { return };
    let prompt = "one two three four ".repeat(100);
    let run = generate(&model, &["-p", &prompt, "-n", "1"]);
    let line = run.refusal();
    assert!(line.contains("401 tokens") && line.contains("256"), "{line}");
}

#[test]
fn a_full_context_ends_with_a_line_and_exit_code_1() {
    let Some(model) = model() else { return };
    let run = generate(&model, &["-p", "One, two,", "--ignore-eos", "-n", "1000"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.starts_with("main: the context is full: it holds 256 tokens"), "{run:?}");
    assert!(run.stderr.contains("generation"), "the table is missing: {}", run.stderr);
}

#[test]
fn gpu_flags_say_that_there_is_no_gpu() {
    let Some(model) = model() else { return };
    let run = generate(&model, &["-p", "a", "-n", "1", "-ngl", "99", "--vram-budget", "4"]);
    run.text();
    assert!(run.stderr.contains("main: no GPU is in use"), "{}", run.stderr);
    let run = generate(&model, &["-p", "a", "-n", "1", "-ngl", "0"]);
    assert!(!run.stderr.contains("GPU"), "nothing was asked for: {}", run.stderr);
}

#[test]
fn chat_answers_one_question() {
    let Some(model) = model() else { return };
    let question = "Name the capital of France.";
    let run = generate(&model, &["--chat", "-p", question, "-n", "24"]);
    assert!(run.text().contains("Paris"), "{run:?}");
    assert!(!run.text().contains("<|im_"), "{run:?}");
}

#[test]
fn a_grammar_holds_for_answers_and_not_for_questions() {
    let Some(model) = model() else { return };
    let yes_or_no = r#"root ::= ("yes" | "no") [.!]"#;
    let question = "Is the sky blue? Answer in a long poem.";
    let run = generate(&model, &["--chat", "-p", question, "--grammar", yes_or_no]);
    assert!(["yes.", "yes!", "no.", "no!"].contains(&run.text().trim()), "{run:?}");

    let file = scratch("grammar").join("digits.gbnf");
    fs::write(&file, "root ::= \" \"? [0-9]{3}\n").unwrap();
    let file = file.to_str().unwrap();
    let run = generate(&model, &["-p", "Digits:", "--grammar-file", file]);
    let text = run.text().strip_prefix("Digits:").unwrap().trim().to_owned();
    assert!(text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit()), "{run:?}");

    let wrong = generate(&model, &["-p", "a", "--grammar", "root ::= [a"]);
    let line = wrong.refusal();
    assert!(
        line.contains("cannot use the grammar") && line.contains("line 1, column 12"),
        "{line}"
    );
}

#[test]
fn chat_holds_a_conversation() {
    let Some(model) = model() else { return };
    let arguments = ["-m", model.to_str().unwrap(), "--temp", "0", "-c", "512", "-n", "24"];
    let arguments = [&arguments[..], &["--chat", "-sys", "You are brief."]].concat();
    let once = run_with_input(&example("main"), &arguments, "Name a colour.\n");
    let twice = run_with_input(&example("main"), &arguments, "Name a colour.\nAnother one?\n");
    // The first answer does not depend on what comes later, and a second one follows it.
    let first = once.text();
    let second = twice.text().strip_prefix(first).expect("the same first answer");
    assert!(second.trim().len() > 1, "{twice:?}");
}

#[test]
fn interactive_mode_takes_more_text_line_by_line() {
    let Some(model) = model() else { return };
    let arguments = ["-m", model.to_str().unwrap(), "--temp", "0", "-c", "512", "-n", "4"];
    let arguments = [&arguments[..], &["-i", "-p", "Red, green,"]].concat();
    let run = run_with_input(&example("main"), &arguments, "\nMonday, Tuesday,\n");
    assert!(run.text().starts_with("Red, green,"), "{run:?}");
    assert_eq!(run.text().lines().filter(|line| !line.trim().is_empty()).count(), 3, "{run:?}");
}

/// Sends SIGINT once the program has printed `after` bytes; what it did then.
fn interrupt(arguments: &[&str], after: usize) -> (Vec<u8>, String, Option<i32>) {
    let mut child = command(&example("main"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; after];
    stdout.read_exact(&mut text).unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    stdout.read_to_end(&mut text).unwrap();
    drop(stdout);
    let run = child.wait_with_output().unwrap();
    (text, String::from_utf8_lossy(&run.stderr).into_owned(), run.status.code())
}

#[test]
fn ctrl_c_ends_the_text_and_shows_the_table() {
    let Some(model) = model() else { return };
    let arguments = ["-m", model.to_str().unwrap(), "--temp", "0", "-c", "4096", "--ignore-eos"];
    let prompt = ["-p", "Once upon a time", "-n", "4000"];
    let (text, stderr, code) = interrupt(&[&arguments[..], &prompt].concat(), 40);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(text.starts_with(b"Once upon a time") && text.ends_with(b"\n"));
    assert!(stderr.contains("generation") && stderr.contains("interrupted"), "{stderr}");
}

/// The output of a running program so far.
struct Watched {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Watched {
    fn new(mut stdout: ChildStdout) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 256];
            while let Ok(n @ 1..) = stdout.read(&mut chunk) {
                shared.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        Self { text, reader }
    }

    fn len(&self) -> usize {
        self.text.lock().unwrap().len()
    }

    /// Waits, two minutes at most, until more than `len` bytes came.
    fn wait_for_more_than(&self, len: usize) {
        for _ in 0..2_400 {
            if self.len() > len {
                return;
            }
            assert!(!self.reader.is_finished(), "the program ended after {} bytes", self.len());
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no text came after {len} bytes");
    }

    /// Waits until nothing came for a second: the program waits for input. Its length then.
    fn wait_for_silence(&self) -> usize {
        loop {
            let before = self.len();
            std::thread::sleep(Duration::from_secs(1));
            if self.len() == before {
                return before;
            }
        }
    }
}

#[test]
fn ctrl_c_in_interactive_mode_returns_to_the_prompt() {
    let Some(model) = model() else { return };
    let mut child = command(&example("main"))
        .args(["-m", model.to_str().unwrap(), "--temp", "0", "-c", "4096", "--ignore-eos"])
        .args(["-i", "-p", "Once upon a time", "-n", "4000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let watched = Watched::new(child.stdout.take().unwrap());
    let id = child.id().to_string();
    let interrupt =
        || assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());

    watched.wait_for_more_than(40);
    interrupt();
    let first = watched.wait_for_silence();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"The next day,\n").unwrap();
    watched.wait_for_more_than(first + 20);
    interrupt();
    watched.wait_for_silence();
    drop(stdin);
    let end = child.wait_with_output().unwrap();
    watched.reader.join().unwrap();
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("generation"), "the table is missing: {stderr}");
}

#[test]
fn an_empty_prompt_starts_a_text() {
    let Some(model) = model() else { return };
    let run = generate(&model, &["-p", "", "-n", "4"]);
    assert!(!run.text().trim().is_empty(), "{run:?}");
}

#[test]
fn batch_sizes_and_threads_change_nothing() {
    let Some(model) = model() else { return };
    let text = |more: &[&str]| {
        let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(4);
        let arguments = ["-p", prompt.as_str(), "-n", "16"];
        generate(&model, &[&arguments[..], more].concat()).text().to_owned()
    };
    let base = text(&["-t", "1"]);
    assert_eq!(text(&["-t", "2", "-tb", "3"]), base);
    assert_eq!(text(&["-t", "2", "-b", "7"]), base);
    assert_eq!(text(&["-t", "2", "-ub", "5"]), base);
}

/// A model file may not be needed to see that a path with odd characters is quoted as it is.
#[test]
fn messages_show_odd_paths_as_they_are() {
    let path = PathBuf::from("no such/%s%n model.gguf");
    let line = refused_model(&path);
    assert!(line.contains("%s%n model.gguf"), "{line}");
}
