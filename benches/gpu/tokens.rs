//! The same text from the CPU and from the card, on models that are made on the spot.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::machine::GIB;
use crate::report::{Report, Verdict, table};
use crate::{Bundle, suite};

/// What `main` wrote, and what it says of it.
pub struct Generated {
    pub text: String,
    /// Milliseconds of a token, without the first.
    pub ms: f64,
    /// Its lines about time and memory.
    pub said: String,
    pub card_bytes: usize,
    /// What the library says of its layers, like "3 of 5 layers are on CUDA0"; `None` when none is.
    pub layers: Option<String>,
}

/// What a program is asked to write.
pub struct Request<'a> {
    pub model: &'a Path,
    pub prompt: &'a str,
    pub n_tokens: usize,
    pub arguments: Vec<String>,
}

/// Runs `main` greedily.
pub fn generate(bundle: &Bundle, request: &Request<'_>, limit: u64) -> Result<Generated, String> {
    let mut command = Command::new(bundle.program("main"));
    command.arg("-m").arg(request.model).args(["-p", request.prompt]);
    command.args(["-n", &request.n_tokens.to_string(), "-c", "256", "--temp", "0"]);
    command.args(["--ignore-eos", "--no-display-prompt", "-v"]).args(&request.arguments);
    let limit = bundle.time(limit);
    if suite::no_time(limit) {
        return Err("no time left".into());
    }
    let outcome = child::run(&mut command, limit);
    if !outcome.succeeded() {
        return Err(outcome.ending());
    }
    let lines = || outcome.stderr.lines();
    let timing = lines().find(|line| line.trim().starts_with("generation"));
    let words: Vec<&str> = timing.unwrap_or_default().split_whitespace().collect();
    let ms = words.windows(2).find(|pair| pair[1] == "ms/token").and_then(|p| p[0].parse().ok());
    // The library's log stands before.
    let said = lines().skip_while(|line| !line.starts_with("  load "));
    let layers = lines().find_map(layers_on_card);
    Ok(Generated {
        ms: ms.ok_or("main says nothing of its speed")?,
        said: said.collect::<Vec<_>>().join("\n"),
        layers,
        card_bytes: outcome.card_bytes,
        text: outcome.stdout,
    })
}

/// Of the log's line "3 of 5 layers are on CUDA0: weights 1.0 MiB, ..." the part before the colon;
/// `None` for others, and where there is no layer.
fn layers_on_card(line: &str) -> Option<String> {
    let (before, after) = line.split_once(" layers are on ")?;
    let mut words = before.split_whitespace().rev();
    let (all, _, n) = (words.next()?, words.next()?, words.next()?);
    let card = after.split([':', ' ']).next()?;
    (n != "0").then(|| format!("{n} of {all} layers are on {card}"))
}

/// Makes a model; its files begin with the path.
pub fn make(
    bundle: &Bundle,
    name: &str,
    options: &[String],
    limit: u64,
) -> Result<PathBuf, String> {
    let prefix = bundle.work.join(name);
    let mut command = Command::new(bundle.program("make_sparse_model"));
    command.arg("--out").arg(&prefix).args(options);
    let limit = bundle.time(limit);
    if suite::no_time(limit) {
        return Err("no time left".into());
    }
    let outcome = child::run(&mut command, limit);
    match outcome.succeeded() {
        true => Ok(prefix),
        false => Err(format!("the model cannot be made: {}", outcome.ending())),
    }
}

/// Words on a command line.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A path with something behind it.
pub fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// A few prompts: texts of random weights may part where two tokens are nearly as good, which
/// rounding decides. One prompt of three may.
const PROMPTS: [&str; 3] = ["hello world", "In the year of the flood", "abc"];

/// How two ways to run a model compare.
enum Compared {
    Same(Generated),
    /// Which prompts part, and where.
    Parted(Vec<String>, Generated),
    Nothing(String),
}

fn compare(bundle: &Bundle, model: &Path, a: &str, b: &str) -> Compared {
    let n_tokens = if bundle.small { 6 } else { 32 };
    let mut parted = Vec::new();
    for prompt in PROMPTS {
        let run = |arguments: &str| {
            let request = Request { model, prompt, n_tokens, arguments: words(arguments) };
            generate(bundle, &request, 30)
        };
        let (first, second) = match (run(a), run(b)) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(error), _) | (_, Err(error)) => return Compared::Nothing(error),
        };
        if first.text != second.text {
            let pairs = first.text.chars().zip(second.text.chars());
            let same = pairs.take_while(|(a, b)| a == b).count();
            parted.push(format!("'{prompt}' parts after {same} characters"));
        } else if parted.is_empty() || prompt == PROMPTS[2] {
            return match parted.is_empty() {
                true => Compared::Same(second),
                false => Compared::Parted(parted, second),
            };
        }
        if parted.len() > 1 {
            return Compared::Parted(parted, second);
        }
    }
    Compared::Nothing("no prompt was judged".into())
}

pub const NOT_ON_CARD: &str = "the library computes nothing on a card";

/// The verdict over a list of models, and its table.
#[derive(Default)]
struct Judged {
    rows: Vec<Vec<String>>,
    n_same: usize,
    failed: bool,
    open: Option<String>,
}

impl Judged {
    fn add(&mut self, what: String, compared: Compared) {
        let result = match compared {
            Compared::Same(Generated { layers: None, .. }) => {
                self.open = Some(NOT_ON_CARD.into());
                NOT_ON_CARD.into()
            }
            Compared::Same(card) => {
                self.n_same += 1;
                format!("the same; {}", card.layers.unwrap_or_default())
            }
            Compared::Parted(parted, card) => {
                self.failed |= parted.len() > 1;
                self.n_same += usize::from(parted.len() == 1);
                format!("{}; {}", parted.join("; "), card.layers.unwrap_or_default())
            }
            Compared::Nothing(why) if why == "no time left" => {
                self.open = Some(why.clone());
                why
            }
            Compared::Nothing(why) => {
                self.failed = true;
                why
            }
        };
        self.rows.push(vec![what, result]);
    }

    fn report(self, report: &mut Report, check: &str, title: &str) {
        let n = self.rows.len();
        let (verdict, note) = match (self.failed, self.open) {
            (false, None) => (Verdict::Pass, format!("{} of {n} models", self.n_same)),
            (false, Some(why)) => (Verdict::Open, why),
            (true, _) => (Verdict::Fail, format!("{} of {n} models", self.n_same)),
        };
        report.check(check, verdict, note);
        report.section(title, &table(&["model", "texts"], self.rows));
    }
}

/// All layers on the card.
pub fn dense(bundle: &Bundle, report: &mut Report) {
    let (shape, types) = match bundle.small {
        true => (
            "--layers 2 --embd 256 --ff 256 --heads 4 --kv-heads 2 --vocab-size 400",
            &["f16", "q4_0"][..],
        ),
        false => (
            "--layers 4 --embd 1024 --ff 2816 --heads 16 --kv-heads 4 --vocab-size 2000",
            &["f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q4_K", "q5_K", "q6_K"][..],
        ),
    };
    let mut judged = Judged::default();
    for ty in types {
        let options = words(&format!("--dense --type {ty} {shape}"));
        let compared = match make(bundle, "dense", &options, 30) {
            Ok(prefix) => {
                compare(bundle, &with_suffix(&prefix, ".dense.gguf"), "-ngl 0", "-ngl 99")
            }
            Err(why) => Compared::Nothing(why),
        };
        judged.add((*ty).to_owned(), compared);
    }
    judged.report(report, "dense: CPU and card write the same", "Dense models");
}

/// Half of the model on the card, and the same again.
pub fn hybrid(bundle: &Bundle, report: &mut Report) {
    let shape = match bundle.small {
        true => "--layers 2 --embd 256 --ff 512 --heads 4 --vocab-size 400 --pred 64",
        false => {
            "--layers 8 --embd 2048 --ff 5632 --heads 16 --vocab-size 4000 --pred 512 --distinct 2"
        }
    };
    let mut judged = Judged::default();
    let mut again = Judged::default();
    let cases = [
        ("llama, predictors", "--pwi --type q4_0", ".pwi.gguf", "predictor"),
        ("llama, exact gates", "--relu --type q8_0", ".relu.gguf", "exact"),
        ("falcon, predictors", "--arch falcon --pwi --type f16", ".pwi.gguf", "predictor"),
    ];
    let n_cases = if bundle.small { 2 } else { cases.len() };
    for (what, kind, suffix, mode) in &cases[..n_cases] {
        let options = words(&format!("{kind} {shape} --counts 1000"));
        let model = match make(bundle, "hybrid", &options, 30) {
            Ok(prefix) => with_suffix(&prefix, suffix),
            Err(why) => {
                judged.add((*what).to_owned(), Compared::Nothing(why));
                continue;
            }
        };
        let bytes = std::fs::metadata(&model).map_or(0, |m| m.len());
        // What a model of a few kilobytes needs beside its weights is more than these.
        let beside = if bundle.small { 16 << 20 } else { 0 };
        let budget = (bytes / 2 + beside) as f64 / GIB;
        let on_cpu = format!("-ngl 0 --sparse {mode}");
        let split = format!("--vram-budget {budget:.6} --sparse {mode}");
        judged.add((*what).to_owned(), compare(bundle, &model, &on_cpu, &split));
        again.add((*what).to_owned(), compare(bundle, &model, &split, &split));
    }
    judged.report(report, "hybrid: CPU and both write the same", "Hybrid models");
    again.report(report, "hybrid: two runs write the same", "Hybrid models, run twice");
}
