//! The small example programs, and all of them under the sanitizers.

mod c_programs;

use std::fs;
use std::path::{Path, PathBuf};

use c_programs::{Build, compile, example, model, run, run_with_input, sanitized, scratch};
use powerinfer::api::{FileType, Imatrix, KvOverride, OverrideValue, QuantizeParams, quantize};
use powerinfer::gguf::{Array, Magic, Value, Writer};
use powerinfer::quant::QuantType;

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
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--tensor-type", "a"], "NAME=TYPE"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--tensor-type", "=f16"], "NAME=TYPE"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--tensor-type", "a=q"], "no type"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--tensor-type-file", "absent"], "absent"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--output-tensor-type", "q"], "no type"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--imatrix", "absent"], "absent"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--include-weights", "a"], "need --imatrix"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--override-kv", "a"], "KEY=TYPE:VALUE"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--override-kv", "a=char:1"], "none of int"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--override-kv", "a=int:one"], "no number"),
        (&["-m", "x", "-o", "y", "-q", "q8_0", "--override-kv", "a=bool:1"], "neither true"),
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
    let flags = ["-m", model, "-o", out, "-q", "q8_0", "--quiet", "--tensor-type", "ffn_up=q4_1"];
    let refused = run(&example("quantize"), &flags);
    assert!(refused.refusal().contains("requantizing from type q4_1 is disabled"), "{refused:?}");
    run(&example("quantize"), &[&flags[..], &["--allow-requantize"]].concat()).text();
    let text = run(&example("simple"), &["-m", out, "-n", "8", "The sky is"]);
    assert!(text.text().starts_with("The sky is"), "{text:?}");
    fs::remove_file(out).unwrap();
}

/// Matrices of a small model, with their importances: one row of them for each expert.
const MATRICES: [(&str, &[u64], usize); 2] =
    [("blk.0.ffn_up.weight", &[256, 4], 1), ("blk.0.ffn_down_exps.weight", &[256, 2, 3], 3)];

fn importances(matrix: usize) -> Vec<f32> {
    let n = 256 * MATRICES[matrix].2;
    (0..n).map(|i| ((i * 37 + matrix * 11) % 64 + 1) as f32 / 8.0).collect()
}

fn le_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn write_file(path: &Path, header: &Writer, data: &[Vec<u8>]) {
    let mut out = header.start(fs::File::create(path).unwrap()).unwrap();
    data.iter().for_each(|bytes| out.write(bytes).unwrap());
    out.finish().unwrap();
}

fn small_model(path: &Path) {
    let mut header = Writer::new(Magic::Gguf);
    header.set("general.architecture", Value::Str("llama".into())).unwrap();
    header.set("llama.block_count", Value::U32(1)).unwrap();
    let mut data = Vec::new();
    for (name, dims, _) in MATRICES {
        header.add_tensor(name, dims, QuantType::F32).unwrap();
        let n: u64 = dims.iter().product();
        let numbers: Vec<_> = (0..n).map(|i| (i * 7919 % 1009) as f32 / 500.0 - 1.0).collect();
        data.push(le_bytes(&numbers));
    }
    write_file(path, &header, &data);
}

/// As llama.cpp's `imatrix` writes it: sums over tokens, here four for each row.
fn gguf_imatrix(path: &Path) {
    let mut header = Writer::new(Magic::Gguf);
    header.set("general.type", Value::Str("imatrix".into())).unwrap();
    header
        .set("imatrix.datasets", Value::Array(Array::Str(["a.txt"].into_iter().collect())))
        .unwrap();
    header.set("imatrix.chunk_count", Value::U32(7)).unwrap();
    header.set("imatrix.chunk_size", Value::U32(512)).unwrap();
    let mut data = Vec::new();
    for (i, (name, _, n_experts)) in MATRICES.into_iter().enumerate() {
        let n = n_experts as u64;
        header.add_tensor(&format!("{name}.in_sum2"), &[256, n], QuantType::F32).unwrap();
        header.add_tensor(&format!("{name}.counts"), &[1, n], QuantType::F32).unwrap();
        data.push(le_bytes(&importances(i).iter().map(|x| 4.0 * x).collect::<Vec<_>>()));
        data.push(le_bytes(&vec![4.0; n_experts]));
    }
    write_file(path, &header, &data);
}

/// The format before that.
fn old_imatrix() -> Vec<u8> {
    let int = |n: usize| (n as i32).to_le_bytes();
    let mut out = int(MATRICES.len()).to_vec();
    for (i, (name, ..)) in MATRICES.into_iter().enumerate() {
        let values: Vec<f32> = importances(i).iter().map(|x| 2.0 * x).collect();
        out.extend(int(name.len()));
        out.extend(name.as_bytes());
        out.extend([int(2), int(values.len())].concat());
        out.extend(le_bytes(&values));
    }
    out.extend([int(7), int(5)].concat());
    out.extend(b"a.txt");
    out
}

/// Both formats give the file that the library makes of the same numbers.
#[test]
fn quantize_reads_importance_matrices() {
    let folder = scratch("examples-imatrix");
    let path = |name: &str| -> String { folder.join(name).to_str().unwrap().into() };
    let (input, out) = (path("in.gguf"), path("out.gguf"));
    small_model(input.as_ref());
    gguf_imatrix(path("im.gguf").as_ref());
    fs::write(path("im.dat"), old_imatrix()).unwrap();
    fs::write(path("types.txt"), "ffn_up=iq1_s\n  FFN_DOWN_exps=iq2_xxs\n").unwrap();
    let expected = |file: &str, mix: FileType, kept: &[usize]| {
        let key = |key: &str, value| KvOverride { key: format!("quantize.imatrix.{key}"), value };
        let all = kept.iter().map(|i| (MATRICES[*i].0.to_owned(), importances(*i)));
        let params = QuantizeParams {
            imatrix: Some(all.collect::<Imatrix>()),
            kv_overrides: vec![
                key("file", OverrideValue::Str(file.into())),
                key("dataset", OverrideValue::Str("a.txt".into())),
                key("entries_count", OverrideValue::Int(kept.len() as i64)),
                key("chunks_count", OverrideValue::Int(7)),
            ],
            ..QuantizeParams::new(mix)
        };
        let out = PathBuf::from(path("expected.gguf"));
        quantize(input.as_ref(), &out, &params).unwrap();
        fs::read(out).unwrap()
    };
    let made = |mix: &str, more: &[&str]| {
        let base = ["-m", &input, "-o", &out, "-q", mix, "--quiet"];
        run(&sanitized("quantize"), &[&base[..], more].concat())
    };
    for file in [path("im.gguf"), path("im.dat")] {
        made("IQ2_XS", &["--imatrix", &file]).text();
        assert_eq!(fs::read(&out).unwrap(), expected(&file, FileType::IQ2_XS, &[0, 1]), "{file}");
        made("IQ4_XS", &["--imatrix", &file, "--exclude-weights", "exps"]).text();
        assert_eq!(fs::read(&out).unwrap(), expected(&file, FileType::IQ4_XS, &[0]), "{file}");
        made("iq4_xs", &["--imatrix", &file, "--include-weights", "exps"]).text();
        assert_eq!(fs::read(&out).unwrap(), expected(&file, FileType::IQ4_XS, &[1]), "{file}");
    }
    let refused = made("IQ2_XS", &[]);
    assert!(refused.refusal().contains("requires an importance matrix"), "{refused:?}");
    made("IQ2_XS", &["--imatrix", &path("im.dat"), "--tensor-type-file", &path("types.txt")])
        .text();
    let types = powerinfer::gguf::parse(&fs::read(&out).unwrap(), "out").unwrap();
    let types: Vec<_> = types.tensors.iter().map(|t| t.ty).collect();
    assert_eq!(types, [QuantType::IQ2_XXS, QuantType::IQ1_S]);

    // Cut anywhere, the old format is refused or lacks what may be lacking: the text's name.
    let whole = old_imatrix();
    for n in (0..whole.len()).step_by(331).chain([whole.len() - 1]) {
        fs::write(path("cut.dat"), &whole[..n]).unwrap();
        let cut = made("Q4_0", &["--imatrix", &path("cut.dat")]);
        assert!(cut.refusal().contains("cut.dat"), "{n}: {cut:?}");
    }
    let refused = made("Q4_0", &["--imatrix", &input]);
    assert!(refused.refusal().contains("imatrix.datasets"), "{refused:?}");
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
    let quantize = ["-m", model, "-q", "Q4_K_M", "--dry-run", "--tensor-type", "ffn_up=q5_0"];
    let more = ["--tensor-type", "K=f16", "--prune-layers", "3,4", "--quiet"];
    run(&sanitized("quantize"), &[&quantize[..], &more].concat()).text();
    run(&sanitized("tokenize"), &["-m", model, "caf\u{e9} \u{1F642}"]).text();
    let full = ["-m", model, "-c", "256", "--temp", "0", "--ignore-eos", "-p", "a"];
    let full = run(&sanitized("main"), &full);
    assert_eq!(full.code, Some(1), "{full:?}");
}
