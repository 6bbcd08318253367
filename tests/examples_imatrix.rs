//! The example program `imatrix`: what it counts, writes, adds up and shows.

mod c_programs;
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use c_programs::{example, model, repository, run, sanitized, scratch};
use common::{tiny, tiny_archs};
use powerinfer::api::{Content, Node, Observer, Op};
use powerinfer::gguf::{self, LoadOptions};
use serde_json::Value;

/// A file of this test's own.
fn path(name: &str) -> String {
    scratch("imatrix").join(name).to_str().unwrap().to_owned()
}

/// Text of the tiny models' vocabulary.
fn text_file(test: &str) -> (String, String) {
    let words = ["the", "sea", "is", "a", "ring", "and", "here", "on", "an", "iron", "hat"];
    let words: Vec<_> = (0..300).map(|i| words[i * i % 11]).collect();
    let (file, text) = (path(&format!("{test}.txt")), words.join(" "));
    fs::write(&file, format!("{text}\n")).unwrap();
    (file, text)
}

fn model_file(test: &str, bytes: &[u8]) -> String {
    let file = path(&format!("{test}.gguf"));
    fs::write(&file, bytes).unwrap();
    file
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Counts and sums of each tensor.
type Sums = BTreeMap<String, (Vec<f32>, Vec<f32>)>;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn read(file: &str) -> Sums {
    let bytes = fs::read(file).unwrap();
    let header = gguf::parse(&bytes, file).unwrap();
    let mut sums = Sums::new();
    for t in &header.tensors {
        let data = &bytes[(header.data_offset + t.offset) as usize..][..t.n_bytes as usize];
        let (name, kind) = t.name.rsplit_once('.').unwrap();
        let entry = sums.entry(name.to_owned()).or_default();
        match kind {
            "counts" => entry.0 = floats(data),
            "in_sum2" => entry.1 = floats(data),
            _ => panic!("{}", t.name),
        }
    }
    sums
}

/// The same of the format before GGUF: calls, means of squares times calls; what stands behind them.
fn read_old(file: &str) -> (BTreeMap<String, (i32, Vec<f32>)>, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let mut at = 0;
    let mut take = |n: usize| {
        at += n;
        bytes[at - n..at].to_vec()
    };
    let int =
        |take: &mut dyn FnMut(usize) -> Vec<u8>| i32::from_le_bytes(take(4).try_into().unwrap());
    let mut all = BTreeMap::new();
    for _ in 0..int(&mut take) {
        let len = int(&mut take);
        let name = String::from_utf8(take(len as usize)).unwrap();
        let (calls, n) = (int(&mut take), int(&mut take));
        all.insert(name, (calls, floats(&take(4 * n as usize))));
    }
    let rest = bytes[at..].to_vec();
    (all, rest)
}

/// Counts and sums by the engine.
type Expected = BTreeMap<String, (Vec<f64>, Vec<f64>)>;

/// Adds up what the engine shows of its products.
struct Adder(Arc<Mutex<Expected>>);

fn f32s<'a>(content: &Content<'a>) -> &'a [f32] {
    let Content::F32(x) = content else { panic!("no activations") };
    x
}

impl Observer for Adder {
    fn wants(&mut self, node: &Node<'_>) -> bool {
        matches!(node.op, Op::MulMat | Op::MulMatId)
    }

    fn see(&mut self, node: &Node<'_>) -> bool {
        let (weight, x) = (&node.sources[0], &node.sources[1]);
        let (columns, experts) = (x.ne[0], weight.ne[2]);
        let mut all = self.0.lock().unwrap();
        let blank = || (vec![0.0; experts], vec![0.0; experts * columns]);
        let (counts, sums) = all.entry(weight.name.to_owned()).or_insert_with(blank);
        for (i, row) in f32s(&x.content).chunks_exact(columns).enumerate() {
            let chosen: Vec<usize> = match node.sources.get(2).map(|ids| (&ids.content, ids.ne[0]))
            {
                // Row i of several rows a token belongs to one expert, a lone one to all chosen.
                Some((Content::I32(ids), n)) if x.ne[1] == 1 => {
                    ids[i * n..][..n].iter().map(|&id| id as usize).collect()
                }
                Some((Content::I32(ids), _)) => vec![ids[i] as usize],
                _ => vec![0],
            };
            for expert in chosen {
                counts[expert] += 1.0;
                let sums = &mut sums[expert * columns..][..columns];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x * x));
            }
        }
        true
    }
}

/// The sums by the engine, without the program.
fn expected(model: &str, text: &str, n_ctx: usize) -> Expected {
    let model =
        powerinfer::api::Model::load(model, &LoadOptions::default(), &mut |_| true).unwrap();
    let tokens = model.vocab().tokenize(text.as_bytes(), true, false).unwrap();
    let sums = Arc::new(Mutex::new(Expected::new()));
    let mut ctx = model.context(common::params(|_| {})).unwrap();
    ctx.observe(Box::new(Adder(Arc::clone(&sums)))).unwrap();
    for chunk in tokens.chunks_exact(n_ctx) {
        let mut chunk = chunk.to_vec();
        chunk[0] = tokens[0]; // BOS
        ctx.kv_mut().clear(false);
        common::decode(&mut ctx, &chunk, true);
    }
    let sums = sums.lock().unwrap();
    sums.clone()
}

#[test]
fn squares_are_those_of_the_products_inputs() {
    for (name, bytes) in [
        ("gqa", tiny::bytes(&tiny::spec("gqa"))),
        ("mixtral", tiny_archs::bytes(&tiny_archs::spec("mixtral"))),
        ("qwen2moe", tiny_archs::bytes(&tiny_archs::spec("qwen2moe"))),
    ] {
        let test = format!("squares-{name}");
        let (model, (file, text), out) =
            (model_file(&test, &bytes), text_file(&test), path(&format!("{test}.im.gguf")));
        let base =
            ["-m", &model, "-f", &file, "-o", &out, "-c", "64", "--json", "--process-output"];
        let done = run(&sanitized("imatrix"), &base);
        let mut expected = expected(&model, &text, 64);
        expected.retain(|name, _| name.starts_with("blk.") || name == "output.weight");
        let found = read(&out);
        assert!(found.keys().eq(expected.keys()), "{:?} {:?}", found.keys(), expected.keys());
        for (name, (counts, sums)) in &expected {
            let (found_counts, found_sums) = &found[name];
            let n: Vec<_> = found_counts.iter().map(|&n| f64::from(n)).collect();
            assert_eq!(n, *counts, "{name}");
            for (found, sum) in found_sums.iter().zip(sums) {
                assert!((f64::from(*found) - sum).abs() <= sum * 1e-6, "{name}: {found} {sum}");
            }
        }
        let n_chunks = expected["output.weight"].0[0] as u64 / 64;
        let said = json(done.text());
        assert_eq!((&said["n_chunks"], &said["chunk_size"]), (&n_chunks.into(), &64.into()));
        assert_eq!(said["entries"], expected.len());
        // Perplexity as `perplexity` has it, and no other file for chunks in pieces or side by side.
        let perplexity =
            run(&example("perplexity"), &["-m", &model, "-f", &file, "-c", "64", "--json"]);
        assert_eq!(said["ppl"], json(perplexity.text())["ppl"]);
        for batch in ["24", "200"] {
            run(&example("imatrix"), &[&base[..], &["-b", batch]].concat()).text();
            let other = read(&out);
            for (name, (counts, sums)) in &found {
                assert_eq!(other[name].0, *counts, "-b {batch}: {name}");
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
                assert!(other[name].1.iter().zip(sums).all(near), "-b {batch}: {name}");
            }
        }
        let plain = run(&example("imatrix"), &base[..8]);
        let line = plain.text().lines().last().unwrap();
        assert!(line.starts_with("Final estimate: PPL = "), "{plain:?}");
        assert!(!read(&out).contains_key("output.weight"));
    }
}

/// Sums of two files together.
fn added(a: &Sums, b: &Sums) -> Sums {
    let add = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter()
        .map(|(name, a)| (name.clone(), (add(&a.0, &b[name].0), add(&a.1, &b[name].1))))
        .collect()
}

fn assert_near(found: &Sums, expected: &Sums) {
    assert!(found.keys().eq(expected.keys()));
    for (name, (counts, sums)) in expected {
        assert_eq!(found[name].0, *counts, "{name}");
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs();
        assert!(found[name].1.iter().zip(sums).all(near), "{name}");
    }
}

#[test]
fn parts_add_up_in_either_format() {
    let model = model_file("parts", &tiny_archs::bytes(&tiny_archs::spec("mixtral")));
    let (file, _) = text_file("parts");
    let program = sanitized("imatrix");
    let make = |out: &str, more: &[&str]| {
        let out = path(out);
        let base = ["-m", &model, "-f", &file, "-o", &out, "-c", "64", "--no-ppl"];
        let done = run(&program, &[&base[..], more].concat());
        assert_eq!(done.text(), "");
        out
    };
    let combine = |files: &[&str], out: &str, more: &[&str]| {
        let (list, out) = (files.join(","), path(out));
        let base = ["--in-file", &list, "-o", &out, "-c", "64"];
        run(&program, &[&base[..], more].concat()).text();
        out
    };
    let whole = make("parts-whole.gguf", &["--chunks", "4"]);
    let first = make("parts-first.gguf", &["--chunks", "2"]);
    let second = make("parts-second.gguf", &["--chunks", "2", "--chunk", "2"]);
    assert_near(&added(&read(&first), &read(&second)), &read(&whole));
    assert_near(&read(&combine(&[&first, &second], "parts-both.gguf", &[])), &read(&whole));
    let more = make("parts-more.gguf", &["--chunks", "2", "--chunk", "2", "--in-file", &first]);
    assert_near(&read(&more), &read(&whole));
    let n_chunks = |file: &str| {
        let header = gguf::parse(&fs::read(file).unwrap(), file).unwrap();
        let number = header.meta.get("imatrix.chunk_count").unwrap().clone();
        format!("{number:?}")
    };
    assert_eq!([&whole, &first, &more].map(|f| n_chunks(f)), ["U32(4)", "U32(2)", "U32(4)"]);

    // The old format: means times calls; experts that met no token count 1.
    let (old, rest) = read_old(&combine(&[&whole], "parts.dat", &["--output-format", "dat"]));
    for (name, (counts, sums)) in read(&whole) {
        let (calls, values) = &old[&name];
        let most = counts.iter().copied().fold(0.0, f32::max);
        assert_eq!(*calls, (most / 64.0).ceil() as i32, "{name}");
        for (i, (value, sum)) in values.iter().zip(&sums).enumerate() {
            let count = counts[i / (sums.len() / counts.len())];
            let mean = if count > 0.0 { sum / count } else { 1.0 };
            let expected = mean * *calls as f32;
            assert!((value - expected).abs() <= 1e-5 * expected, "{name} {i}: {value} {expected}");
        }
    }
    let dataset = [&4i32.to_le_bytes()[..], &(file.len() as i32).to_le_bytes(), file.as_bytes()];
    assert_eq!(rest, dataset.concat());
    // Both formats together: a call of the old one is 64 tokens.
    let twice = read(&combine(&[&path("parts.dat"), &first], "parts-twice.gguf", &[]));
    let (name, again) = ("blk.0.attn_q.weight", read(&first));
    assert_eq!(twice[name].0, [4.0 * 64.0 + again[name].0[0]]);
    for (i, sum) in twice[name].1.iter().enumerate() {
        let expected = read(&whole)[name].1[i] + again[name].1[i];
        assert!((sum - expected).abs() <= 1e-5 * expected, "{i}: {sum} {expected}");
    }
}

#[test]
fn files_are_saved_on_the_way() {
    let model = model_file("way", &tiny::twin_bytes(&tiny::spec("gqa")));
    let (file, _) = text_file("way");
    let out = path("way.im.gguf");
    let save = ["--save-frequency", "2", "-ofreq", "1", "--chunks", "5"];
    let base = ["-m", &model, "-f", &file, "-o", &out, "-c", "64"];
    for batch in ["64", "128"] {
        run(&example("imatrix"), &[&base[..], &save, &["-b", batch]].concat()).text();
        for n in ["2", "4"] {
            let copy = format!("{out}.at_{n}");
            run(&example("imatrix"), &[&base[..], &["--chunks", n]].concat()).text();
            assert_near(&read(&copy), &read(&out));
            fs::remove_file(copy).unwrap();
        }
    }
    let left: Vec<_> = fs::read_dir(scratch("imatrix")).unwrap().collect();
    let left = left.iter().map(|e| e.as_ref().unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = left.filter(|name| name.starts_with("way.im")).collect();
    assert_eq!(left, ["way.im.gguf"]);

    // quantize takes the file, and weighs by it.
    let quantize = |out: &str, more: &[&str]| {
        let base = ["-m", &model, "-o", out, "-q", "IQ4_NL", "--quiet"];
        run(&example("quantize"), &[&base[..], more].concat()).text();
        fs::read(out).unwrap()
    };
    let (plain, weighed) = (path("way-plain.gguf"), path("way-weighed.gguf"));
    let (plain, weighed) = (quantize(&plain, &[]), quantize(&weighed, &["--imatrix", &out]));
    let tensor = |bytes: &[u8]| {
        let header = gguf::parse(bytes, "quantized").unwrap();
        let t = header.tensors.iter().find(|t| &*t.name == "blk.0.ffn_up.weight").unwrap();
        bytes[(header.data_offset + t.offset) as usize..][..t.n_bytes as usize].to_vec()
    };
    assert!(tensor(&plain) != tensor(&weighed), "the weights are the same");
}

/// Of numbers that are easy to follow: squares with the means 1, 3, 0 and 4 in layer 1, half of the
/// first three and 0 in layer 0.
#[test]
fn statistics_are_those_of_the_means() {
    let mut bytes = 2i32.to_le_bytes().to_vec();
    for (layer, values) in [(0, [1.0f32, 3.0, 0.0, 0.0]), (1, [2.0, 6.0, 0.0, 8.0])] {
        let name = format!("blk.{layer}.ffn_up.weight");
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend([2i32.to_le_bytes(), 4i32.to_le_bytes()].concat());
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
    let file = path("statistics.dat");
    fs::write(&file, bytes).unwrap();
    let show = |more: &[&str]| {
        let base = ["--in-file", &file, "--show-statistics"];
        run(&sanitized("imatrix"), &[&base[..], more].concat()).text().to_owned()
    };
    let lines: Vec<Value> = show(&["--json"]).lines().map(json).collect();
    // The greater sum first.
    assert_eq!(lines.iter().map(|l| l["layer"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 0]);
    let entropy = |shares: &[f64]| -shares.iter().map(|p| p * p.log2()).sum::<f64>();
    let cosine = (2.0 + 18.0) / (10.0f64.sqrt() * 104.0f64.sqrt());
    for (line, expected) in lines.iter().zip([
        [4.0, 8.0, 0.0, 4.0, 2.0, 2.5f64.sqrt(), 0.75, entropy(&[0.125, 0.375, 0.5]), 0.25, cosine],
        [4.0, 2.0, 0.0, 1.5, 0.5, 0.375f64.sqrt(), 0.5, entropy(&[0.25, 0.75]), 0.25, 0.0],
    ]) {
        let names =
            ["n", "sum", "min", "max", "mean", "stddev", "active", "entropy", "zd", "cossim"];
        for (name, expected) in names.iter().zip(expected) {
            let found = line[*name].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
        let norm = line["entropy_norm"].as_f64().unwrap();
        assert!((norm - line["entropy"].as_f64().unwrap() / 2.0).abs() < 1e-6, "{line}");
    }
    let table = show(&[]);
    let row = "    1\tffn_up              \t      8.00\t  0.0000\t     4.0000\t  2.00\t  1.58";
    assert!(table.contains(row), "{table}");
    assert!(table.contains("per layer (2 layers)\n"), "{table}");
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let model = model_file("refused", &tiny::bytes(&tiny::spec("gqa")));
    let moe = model_file("refused-moe", &tiny_archs::bytes(&tiny_archs::spec("mixtral")));
    let (file, _) = text_file("refused");
    let other = path("refused-other.gguf");
    let of_moe = ["-m", &moe, "-f", &file, "-o", &other, "-c", "64", "--chunks", "1", "--no-ppl"];
    run(&example("imatrix"), &of_moe).text();
    for (arguments, reason) in [
        (&["-m", "x"][..], "nothing to do"),
        (&["-m", "x", "-p", "a", "-f", "b"], "-p and -f"),
        (&["-m", "x", "-p", "a", "--output-format", "xml"], "gguf, dat"),
        (&["-m", "x", "-p", "a", "--chunks", "0"], "--chunks 0"),
        (&["-m", "absent.gguf", "-p", "a"], "absent.gguf"),
        (&["-m", "x", "-f", "absent.txt"], "absent.txt"),
        (&["--in-file", "absent.dat"], "absent.dat"),
        (&["--in-file", &file], "no importance matrix"),
        (&["--in-file", &model], "imatrix.datasets"),
        (&["--in-file", "a,b", "--show-statistics"], "needs one file"),
        (&["-m", &model, "-p", "the sea", "-c", "64"], "at least two are needed"),
        (&["-m", &model, "-f", &file, "-c", "64", "--chunk", "900"], "--chunk 900"),
        (&["--in-file", &other, "-o", "/"], "cannot write '/'"),
    ] {
        let refused = run(&example("imatrix"), arguments);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
    assert!(run(&example("imatrix"), &["-h"]).text().contains("--in-file FILE,..."));
}

/// Mean squares by llama.cpp's own program (commit 0c1e57098) on the same file and text, three chunks
/// of 128 tokens. Both round activations to 8 bits, each in its way.
const MEANS: [(&str, f64); 8] = [
    ("blk.0.attn_q.weight", 0.0021785),
    ("blk.0.ffn_down.weight", 0.027539),
    ("blk.5.attn_output.weight", 0.024646),
    ("blk.14.ffn_gate.weight", 0.018763),
    ("blk.20.ffn_down.weight", 0.15656),
    ("blk.29.attn_output.weight", 0.57581),
    ("blk.29.ffn_up.weight", 0.17026),
    ("blk.29.ffn_down.weight", 12.827),
];

#[test]
fn squares_are_those_of_llama_cpp() {
    let Some(model) = model() else { return };
    let text = repository().join("tests/data/golden/text.txt");
    let (out, text) = (path("real.gguf"), text.to_str().unwrap().to_owned());
    let flags = ["-m", model.to_str().unwrap(), "-f", &text, "-o", &out, "-c", "128"];
    run(&example("imatrix"), &[&flags[..], &["--chunks", "3"]].concat()).text();
    let found = read(&out);
    assert_eq!(found.len(), 7 * 30);
    for (name, expected) in MEANS {
        let (counts, sums) = &found[name];
        assert_eq!(*counts, [3.0 * 128.0]);
        let mean = sums.iter().map(|&x| f64::from(x)).sum::<f64>() / sums.len() as f64 / 384.0;
        assert!((mean / expected - 1.0).abs() < 0.03, "{name}: {mean} {expected}");
    }
}
