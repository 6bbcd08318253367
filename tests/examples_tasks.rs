//! The tasks of the example program `perplexity`: HellaSwag, Winogrande, multiple choice. Under the
//! sanitizers where the model is tiny.

mod c_programs;
mod common;

use std::fs;

use c_programs::{Run, example, model, run, sanitized, scratch};
use common::tiny;
use powerinfer::gguf::LoadOptions;
use serde_json::Value;

/// A file of this test's own.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = scratch("tasks").join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Lines with a task each: its number, then tabs and numbers.
fn lines(run: &Run) -> Vec<Vec<f64>> {
    let number = |text: &str| text.trim_matches(['%', '[', ']', ',']).parse().unwrap();
    let is_task = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    let lines = run.text().lines().filter(is_task);
    lines.map(|line| line.split_whitespace().map(number).collect()).collect()
}

/// Log probabilities by the engine of each token of sentences, but the first ones.
struct Engine {
    model: powerinfer::api::Model,
}

impl Engine {
    fn new(model: &str) -> Self {
        let options = LoadOptions::default();
        Self { model: powerinfer::api::Model::load(model, &options, &mut |_| true).unwrap() }
    }

    fn tokens(&self, text: &str) -> Vec<i32> {
        self.model.vocab().tokenize(text.as_bytes(), true, false).unwrap()
    }

    /// The mean over the tokens from..to.
    fn mean(&self, tokens: &[i32], from: usize, to: usize) -> f64 {
        let mut ctx = self.model.context(common::params(|_| {})).unwrap();
        common::decode(&mut ctx, tokens, true);
        let log_p = |at: usize| {
            let logits = ctx.outputs().logits_ith(at as i32 - 1).unwrap();
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
            f64::from(logits[tokens[at] as usize]) - sum.ln() - f64::from(max)
        };
        (from..to).map(log_p).sum::<f64>() / (to - from) as f64
    }
}

/// Tokens that all begin with; the last one of each is its own.
fn shared(sentences: &[Vec<i32>]) -> usize {
    let same = |k: usize| sentences.iter().all(|s| k + 1 < s.len() && s[k] == sentences[0][k]);
    (0..).take_while(|&k| same(k)).count()
}

/// Stories whose endings nobody confuses, with the right one's number.
const STORIES: &str = "\
Cooking: A man puts a pan on the stove and cracks two eggs into it. He
0
waits until the eggs are cooked and puts them on a plate.
paints the ceiling of the house blue with a large fish.
drives the eggs to the airport and boards a plane.
sings the stove to sleep under the quiet ocean floor.
Swimming: A girl stands at the edge of the pool. She
2
reads the pool a newspaper about taxes.
folds the water into a small cardboard box.
jumps into the water and swims to the other side.
plants the edge of a tree in the lawyer.
";

#[test]
fn hellaswag_finds_the_right_endings() {
    let Some(model) = model() else { return };
    let file = scratch("tasks").join("hellaswag.txt");
    let score = |stories: &str, flags: &[&str]| {
        fs::write(&file, stories).unwrap();
        let base = ["-m", model.to_str().unwrap(), "-f", file.to_str().unwrap(), "--hellaswag"];
        run(&example("perplexity"), &[&base[..], flags].concat())
    };
    let both = score(STORIES, &["--json"]);
    let both = json(both.text());
    assert_eq!((&both["n_tasks"], &both["acc_norm"]), (&2.into(), &1.0.into()));
    // Wilson's interval of 2 out of 2.
    assert!((both["low"].as_f64().unwrap() - 0.342380).abs() < 1e-5, "{both}");
    let wrong = score(&STORIES.replace("\n2\n", "\n1\n"), &[]);
    let last = wrong.text().lines().last().unwrap();
    assert!(last.starts_with("2\t50.00000000%\t["), "{wrong:?}");
    let one = score(STORIES, &["--json", "--hellaswag-tasks", "1"]);
    assert_eq!(json(one.text())["n_tasks"], 1);
    let bad = score(&STORIES.replace("\n2\n", "\n4\n"), &["--json"]);
    assert!(bad.refusal().contains("is the number of an ending"), "{bad:?}");
    // Endings that begin the text have nothing that could predict their first token.
    let bare = score("\n0\nwaits.\npaints.\ndrives.\nsings.\n", &["--json"]);
    assert!(bare.refusal().contains("has nothing before what is judged"), "{bare:?}");
}

/// Twelve sentences, some too short to leave the words out.
const GAPS: &str = "\
0,Sarah was a much better surgeon than Maria so _ always got the easier cases.,Sarah,Maria,2
1,Sarah was a much better surgeon than Maria so _ always got the harder cases.,Sarah,Maria,1
2,\"They were worried the wine would ruin the bed and the blanket, but the _ was't ruined.\",blanket,bed,2
3,Terry tried to bake the eggplant in the toaster oven but the _ was too big.,eggplant,toaster,1
4,The trophy does not fit in the suitcase because the _ is too large.,trophy,suitcase,1
5,The trophy does not fit in the suitcase because the _ is too small.,trophy,suitcase,2
6,\"The cat chased the mouse until the _ was tired, and then it slept.\",cat,mouse,1
7,Anna gave Lisa a present because _ had a birthday.,Anna,Lisa,2
8,Tom drove and Bill read the map because _ had no licence.,Tom,Bill,2
9,He poured water from the bottle into the cup until the _ was full.,bottle,cup,2
10,The man paid the waiter and _ left.,he,she,1

11,It was a _.,dog,cat,1
";

/// Sentence, words and answer of a line.
fn gap(line: &str) -> (String, [String; 2], f64) {
    let (_, rest) = line.split_once(',').unwrap();
    let mut fields = rest.rsplitn(4, ',').map(str::to_owned);
    let mut next = || fields.next().unwrap();
    let (answer, second, first, sentence) = (next(), next(), next(), next());
    (sentence.trim_matches('"').to_owned(), [first, second], answer.parse().unwrap())
}

#[test]
fn winogrande_compares_what_follows_the_words() {
    let model = file("winogrande.gguf", &tiny::bytes(&tiny::spec("gqa")));
    let tasks = file("winogrande.csv", GAPS.as_bytes());
    let ask = |flags: &[&str]| {
        let base = ["-m", &model, "-f", &tasks, "--winogrande"];
        run(&sanitized("perplexity"), &[&base[..], flags].concat())
    };
    let engine = Engine::new(&model);
    let all = ask(&[]);
    let found = lines(&all);
    let tasks: Vec<&str> = GAPS.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(found.len(), tasks.len());
    let mut right = 0.0;
    for (i, (line, task)) in found.iter().zip(&tasks).enumerate() {
        let (sentence, words, answer) = gap(task);
        let sentences = words.clone().map(|w| engine.tokens(&sentence.replace('_', &w)));
        let shared = shared(&sentences);
        let enough = sentences.iter().all(|s| s.len() > shared + 3);
        let scores = [0, 1].map(|k| {
            let before = sentence.split('_').next().unwrap().to_owned() + &words[k];
            let from = if enough { engine.tokens(&before).len() } else { shared };
            let len = sentences[k].len();
            engine.mean(&sentences[k], from, if len - from > 1 { len - 1 } else { len })
        });
        for (found, expected) in line[2..4].iter().zip(scores) {
            assert!((found - expected).abs() < 1e-4, "{task}: {found} {expected}");
        }
        let said = if scores[0] > scores[1] { 1.0 } else { 2.0 };
        right += f64::from(u8::from(said == answer));
        assert_eq!(line[4..], [said, answer]);
        assert!((line[1] - 100.0 * right / (i + 1) as f64).abs() < 1e-4, "{line:?}");
    }
    let share = right / 12.0;
    let (ask_json, error) = (ask(&["--json"]), (share * (1.0 - share) / 11.0).sqrt());
    let whole = json(ask_json.text());
    assert_eq!(whole["n_tasks"], 12);
    assert!((whole["acc"].as_f64().unwrap() - share).abs() < 1e-6, "{whole}");
    assert!((whole["acc_error"].as_f64().unwrap() - error).abs() < 1e-6, "{whole}");
    let last = all.text().lines().last().unwrap();
    assert!(last.starts_with("Final Winogrande score(12 tasks): "), "{all:?}");
    // Those that llama.cpp picks (commit 0c1e57098), in its order.
    let some = lines(&ask(&["--winogrande-tasks", "5"]));
    let picked = [5, 10, 7, 8, 0].map(|i: usize| found[i][2..].to_vec());
    assert_eq!(some.iter().map(|line| line[2..].to_vec()).collect::<Vec<_>>(), picked);

    for (line, reason) in [
        ("0,a _ b,c,1", "line 1 has 4 fields"),
        ("0,a b,c,d,1", "has no _"),
        ("0,a _ b,c,d,3", "says 1 or 2"),
        ("0,a _ b,c,d,", "says 1 or 2"),
        ("0,\"a _ b,c,d,1", "line 1 has 2 fields"),
        ("\n\n", "no tasks"),
    ] {
        let bad = file("winogrande-bad.csv", line.as_bytes());
        let refused = run(&example("perplexity"), &["-m", &model, "-f", &bad, "--winogrande"]);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
    let both = run(&example("perplexity"), &["-m", "x", "-f", "y", "--winogrande", "--hellaswag"]);
    assert!(both.refusal().contains("one at a time"), "{both:?}");
}

/// Questions with answers, of which one is right.
const QUESTIONS: [(&str, &[&str], usize); 6] = [
    (
        "Question: What is the capital of France? Answer:",
        &[
            "It is Paris, of course.",
            "It is a lovely banana.",
            "London.",
            "The sea and the sky are blue.",
        ],
        0,
    ),
    (
        "Question: How many legs does a dog have? Answer:",
        &["Seven hundred", "Four legs", "None at all, it is a fish"],
        1,
    ),
    (
        "Question: What do bees make? Answer:",
        &["Bees make honey.", "Bees make cars and planes."],
        0,
    ),
    (
        "Question: Which is the largest planet? Answer:",
        &["Mars", "Pluto", "The Moon", "Jupiter", "Mercury"],
        3,
    ),
    (
        "Question: Why is the sky blue? Answer:",
        &[
            "Because it is painted every morning.",
            "Because air scatters blue light more than red light.",
        ],
        1,
    ),
    ("The opposite of hot is", &["cold", "a warm day in July", "hot"], 0),
];

/// The file of these, as the data sets for llama.cpp have them.
fn questions(questions: &[(&str, &[&str], usize)]) -> Vec<u8> {
    let number = |n: usize| (n as u32).to_le_bytes().to_vec();
    let text = |text: &str| [number(text.len()), text.as_bytes().to_vec()].concat();
    let task = |(question, answers, right): &(&str, &[&str], usize)| {
        let texts: Vec<u8> = answers.iter().flat_map(|answer| text(answer)).collect();
        let labels = (0..answers.len()).flat_map(|i| number(usize::from(i == *right)));
        let answers = [number(answers.len()), texts, labels.collect()].concat();
        [text(question), answers.clone(), answers].concat()
    };
    let tasks: Vec<Vec<u8>> = questions.iter().map(task).collect();
    let mut head = number(tasks.len());
    let mut at = 4 + 4 * tasks.len();
    for task in &tasks {
        head.extend(number(at));
        at += task.len();
    }
    [head, tasks.concat()].concat()
}

#[test]
fn multiple_choice_takes_the_likeliest_answer() {
    let model = file("choice.gguf", &tiny::bytes(&tiny::spec("gqa")));
    let (bytes, tasks) = (questions(&QUESTIONS), scratch("tasks").join("choice.bin"));
    let ask = |bytes: &[u8], flags: &[&str]| {
        fs::write(&tasks, bytes).unwrap();
        let base = ["-m", &model, "-f", tasks.to_str().unwrap(), "--multiple-choice"];
        run(&sanitized("perplexity"), &[&base[..], flags].concat())
    };
    let engine = Engine::new(&model);
    let right = |(question, answers, right): &(&str, &[&str], usize)| {
        let sentence = |answer: &&str| engine.tokens(&format!("{question} {answer}"));
        let sentences: Vec<_> = answers.iter().map(sentence).collect();
        let shared = shared(&sentences);
        let means: Vec<_> = sentences.iter().map(|s| engine.mean(s, shared, s.len())).collect();
        let best = (0..means.len()).max_by(|a, b| means[*a].total_cmp(&means[*b])).unwrap();
        f64::from(u8::from(best == *right))
    };
    let verdicts: Vec<f64> = QUESTIONS.iter().map(right).collect();
    let found = lines(&ask(&bytes, &[]));
    assert_eq!(found.len(), 6);
    for (i, line) in found.iter().enumerate() {
        let share = 100.0 * verdicts[..=i].iter().sum::<f64>() / (i + 1) as f64;
        assert!((line[1] - share).abs() < 1e-6, "{found:?} {verdicts:?}");
    }
    let whole = json(ask(&bytes, &["--json"]).text());
    let share = verdicts.iter().sum::<f64>() / 6.0;
    assert!((whole["acc"].as_f64().unwrap() - share).abs() < 1e-6, "{whole}");
    assert!((whole["random"].as_f64().unwrap() - 6.0 / 19.0).abs() < 1e-6, "{whole}");
    assert_eq!(lines(&ask(&bytes, &["--multiple-choice-tasks", "4"])).len(), 4);

    // Cut anywhere, or with numbers that lead outside, a file is refused.
    for n in [0, 3, 4, 20, 40, 100, bytes.len() - 300] {
        assert!(!ask(&bytes[..n], &["--json"]).refusal().is_empty(), "{n}");
    }
    for at in [0, 4, 28, 80] {
        let mut wild = bytes.clone();
        wild[at..at + 4].fill(0xFF);
        assert!(!ask(&wild, &["--json"]).refusal().is_empty(), "{at}");
    }
    let none = ask(&questions(&[("a", &["b", ""], 0)]), &["--json"]);
    assert!(none.refusal().contains("empty answer"), "{none:?}");
    let prompt = run(&example("perplexity"), &["-m", "x", "-p", "a", "--multiple-choice"]);
    assert!(prompt.refusal().contains("needs a file"), "{prompt:?}");
}

/// Of five stories three are read: the third, the last, the fourth, as llama.cpp picks them.
#[test]
fn hellaswag_picks_the_stories_of_llama_cpp() {
    let model = file("pick.gguf", &tiny::bytes(&tiny::spec("gqa")));
    let story =
        |label: &str| format!("the sea\n{label}\na ring\nan iron hat\nis on\nhere and on\n");
    let stories = ["9", "8", "0", "1", "2"].map(story).concat();
    let stories = file("pick.txt", stories.as_bytes());
    let ask = |n: &str| {
        let base = ["-m", &model, "-f", &stories, "--hellaswag", "--json", "--hellaswag-tasks", n];
        run(&sanitized("perplexity"), &base)
    };
    assert_eq!(json(ask("3").text())["n_tasks"], 3);
    assert!(ask("4").refusal().contains("0 to 3, not '"));
    let short = file("short.txt", b"the sea\n");
    let refused = run(&example("perplexity"), &["-m", &model, "-f", &short, "--hellaswag"]);
    assert!(refused.refusal().contains("has 1 lines"), "{refused:?}");
}

/// llama.cpp's scores of the twelve sentences, but for the last two: there it takes the second word
/// for what comes after it. Both round activations to 8 bits, each in its way.
const SCORES: [[f64; 2]; 10] = [
    [-5.379497, -4.910802],
    [-5.377754, -4.865616],
    [-5.633011, -5.573782],
    [-1.846256, -2.126599],
    [-1.246973, -1.287897],
    [-1.573506, -1.370716],
    [-2.831501, -3.006129],
    [-3.630572, -3.139294],
    [-5.986556, -5.896128],
    [-1.213047, -1.000532],
];

#[test]
fn scores_are_those_of_llama_cpp() {
    let Some(model) = model() else { return };
    let model = model.to_str().unwrap();
    let ask = |name: &str, bytes: &[u8], flag: &str| {
        let tasks = file(name, bytes);
        run(&example("perplexity"), &["-m", model, "-f", &tasks, flag])
    };
    let gaps = lines(&ask("real.csv", GAPS.as_bytes(), "--winogrande"));
    for (line, expected) in gaps.iter().zip(SCORES) {
        for (found, expected) in line[2..4].iter().zip(expected) {
            assert!((found - expected).abs() < 0.03 * expected.abs() + 0.1, "{line:?} {expected}");
        }
    }
    let choices = lines(&ask("real.bin", &questions(&QUESTIONS), "--multiple-choice"));
    let shares: Vec<f64> = choices.iter().map(|line| line[1]).collect();
    assert_eq!(shares, [100.0, 50.0, 66.66666667, 50.0, 60.0, 66.66666667]);
}
