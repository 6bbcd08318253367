//! Quantised files are llama.cpp's: the types that each mix gives the tensors of many architectures,
//! and whole files byte by byte (`tests/tools/quantize_goldens.py`).

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::tiny::{self, fingerprint, spec};
use common::tiny_sparse;
use half::f16;
use powerinfer::api::{
    FileType, Imatrix, KvOverride, OverrideValue, QuantizeError, QuantizeParams, QuantizeSummary,
    TypePattern, quantize,
};
use powerinfer::gguf::{self, Array, LoadOptions, Magic, ModelFiles, Value, Writer};
use powerinfer::quant::QuantType;
use powerinfer::util::log::{Level, Sink, set_sink};
use serde_json::Value as Json;

/// Takes the progress of thousands of tensors.
struct Silence;

impl Sink for Silence {
    fn write(&self, _: Level, _: &str) {}
}

fn golden() -> Json {
    set_sink(Some(Arc::new(Silence)));
    serde_json::from_str(include_str!("data/quantize.json")).unwrap()
}

/// An empty folder of a test.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("quantize-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap()
}

fn type_of(json: &Json) -> QuantType {
    QuantType::from_id(number(json) as u32).unwrap()
}

/// Keys of a model of the golden file, in its order.
fn keys(model: &Json) -> Writer {
    let mut header = Writer::new(Magic::Gguf);
    let arch = text(&model["arch"]);
    header.set("general.architecture", Value::Str(arch.into())).unwrap();
    header.set("general.file_type", Value::U32(0)).unwrap();
    // The order of the file: JSON's is not kept.
    let order = [
        "block_count",
        "context_length",
        "embedding_length",
        "attention.head_count",
        "attention.head_count_kv",
        "feed_forward_length",
        "attention.layer_norm_rms_epsilon",
        "expert_count",
        "expert_used_count",
    ];
    let values = model["keys"].as_object().unwrap();
    let rest = values.keys().map(String::as_str).filter(|key| !order.contains(key));
    for key in order.into_iter().chain(rest) {
        let value = match values.get(key) {
            Some(Json::Bool(v)) => Value::Bool(*v),
            Some(Json::Number(v)) => match v.as_u64() {
                Some(v) => Value::U32(v as u32),
                None => Value::F32(v.as_f64().unwrap() as f32),
            },
            _ => continue,
        };
        header.set(&format!("{arch}.{key}"), value).unwrap();
    }
    header
}

/// Names and extents of a model's tensors.
fn tensors(model: &Json) -> Vec<(String, Vec<u64>)> {
    let one = |prefix: &str, t: &Json| {
        let dims = list(&t[1]).iter().map(number).collect();
        (format!("{prefix}{}.weight", text(&t[0])), dims)
    };
    let mut all: Vec<_> = list(&model["tensors"]).iter().map(|t| one("", t)).collect();
    for il in 0..number(&model["n_layer"]) {
        all.extend(list(&model["layer"]).iter().map(|t| one(&format!("blk.{il}."), t)));
    }
    all
}

/// A file with zeros that take no place.
fn write_empty(path: &Path, model: &Json) {
    let mut header = keys(model);
    for (name, dims) in tensors(model) {
        header.add_tensor(&name, &dims, QuantType::F32).unwrap();
    }
    let bytes = header.header().unwrap();
    let last = header.layout().unwrap().pop().unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(bytes.len() as u64 + last.offset + last.n_bytes).unwrap();
}

/// Codes of types with counts, by the part of a name behind its layer.
fn by_part(summary: &QuantizeSummary) -> BTreeMap<String, String> {
    let mut parts: BTreeMap<String, Vec<(u32, usize)>> = BTreeMap::new();
    for (name, _, ty) in &summary.tensors {
        let part = name.strip_prefix("blk.").map_or(&**name, |n| n.split_once('.').unwrap().1);
        let runs = parts.entry(part.to_owned()).or_default();
        match runs.last_mut() {
            Some((last, n)) if *last == *ty as u32 => *n += 1,
            _ => runs.push((*ty as u32, 1)),
        }
    }
    let run = |(ty, n): &(u32, usize)| match n {
        1 => ty.to_string(),
        n => format!("{ty}*{n}"),
    };
    let text = |runs: &Vec<_>| runs.iter().map(run).collect::<Vec<_>>().join(" ");
    parts.iter().map(|(part, runs)| (part.clone(), text(runs))).collect()
}

/// Every mix of every architecture: the types are those that llama.cpp chooses.
#[test]
fn mixes_are_those_of_llama_cpp() {
    let golden = golden();
    let dir = folder("mixes");
    let mut compared = 0;
    for (name, model) in golden["models"].as_object().unwrap() {
        let path = dir.join(name);
        write_empty(&path, model);
        for mix in FileType::ALL {
            for imatrix in [None, Some(Imatrix::from([("x".into(), vec![1.0])]))] {
                let key = mix_key(*mix, imatrix.is_some());
                let params = QuantizeParams { dry_run: true, imatrix, ..QuantizeParams::new(*mix) };
                let found = quantize(&path, &dir.join("none"), &params);
                let fails = text(&model["fails"]).split(' ').any(|f| key.contains(&f.to_owned()));
                assert_eq!(found.is_err(), fails, "{name}: {key:?}: {found:?}");
                let Ok(found) = found else { continue };
                let parts = by_part(&found);
                for (part, table) in model["types"].as_object().unwrap() {
                    let has = |(_, mixes): &(&String, &Json)| {
                        text(mixes).split(' ').any(|m| key.contains(&m.to_owned()))
                    };
                    let (expected, _) = table.as_object().unwrap().iter().find(has).unwrap();
                    let n = found.tensors.iter().filter(|t| t.0.ends_with(part.as_str())).count();
                    let base = mix.base() as u32;
                    let is_base =
                        parts[part] == base.to_string() || parts[part] == format!("{base}*{n}");
                    let same = if expected == "base" { is_base } else { parts[part] == *expected };
                    assert!(same, "{name} {part} {key:?}: {}, not {expected}", parts[part]);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 5000, "only {compared}");
    assert_eq!(names(&dir).len(), golden["models"].as_object().unwrap().len(), "a dry run wrote");
}

/// How the golden file calls a mix: with both kinds of importances, or with this one.
fn mix_key(mix: FileType, weighted: bool) -> [String; 2] {
    let id = mix as u32;
    [id.to_string(), format!("{id}{}", if weighted { "i" } else { "n" })]
}

fn params(case: &Json) -> QuantizeParams {
    let flag = |key: &str| case[key].as_bool().unwrap_or(false);
    let ty = |key: &str| case.get(key).map(type_of);
    let pattern = |t: &Json| TypePattern::new(text(&t[0]), type_of(&t[1])).unwrap();
    let kv = |(key, value): (&String, &Json)| {
        let value = match value {
            Json::Bool(v) => OverrideValue::Bool(*v),
            Json::String(v) => OverrideValue::Str(v.clone()),
            v => v
                .as_i64()
                .map_or_else(|| OverrideValue::Float(v.as_f64().unwrap()), OverrideValue::Int),
        };
        KvOverride { key: key.clone(), value }
    };
    QuantizeParams {
        n_threads: 2,
        pure: flag("pure"),
        only_copy: flag("only_copy"),
        keep_split: flag("keep_split"),
        allow_requantize: flag("requantize"),
        quantize_output_tensor: !flag("leave_output"),
        output_tensor_type: ty("output"),
        token_embedding_type: ty("embd"),
        tensor_types: list(&case["overrides"]).iter().map(pattern).collect(),
        prune_layers: list(&case["prune"]).iter().map(|n| number(n) as u32).collect(),
        kv_overrides: case["kv"].as_object().into_iter().flatten().map(kv).collect(),
        ..QuantizeParams::new(FileType::from_id(number(&case["ftype"]) as i32).unwrap())
    }
}

#[test]
fn parameters_change_what_they_change_in_llama_cpp() {
    let golden = golden();
    let dir = folder("parameters");
    for case in list(&golden["cases"]) {
        let path = dir.join("model");
        write_empty(&path, &golden["models"][text(&case["model"])]);
        let params = QuantizeParams { dry_run: true, ..params(case) };
        let found = quantize(&path, Path::new(""), &params);
        if case["fails"] == true {
            assert!(matches!(found, Err(QuantizeError::NoFallback { .. })), "{case}: {found:?}");
            continue;
        }
        let parts = serde_json::to_value(by_part(&found.unwrap())).unwrap();
        assert_eq!(parts, case["types"], "{case}");
    }
}

/// Sums of four 16-bit numbers of SplitMix64, wider in some rows: exact in F32.
fn numbers(seed: u64, n: usize, n_cols: usize) -> Vec<f32> {
    let one = |i: usize| {
        let mut z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let sum: i64 = [0, 16, 32, 48].map(|s| (z >> s & 0xffff) as i64).into_iter().sum();
        ((sum - 131_070) * (1 + i / n_cols % 7) as i64) as f32 / (1 << 20) as f32
    };
    (0..n).map(one).collect()
}

fn importances(seed: u64, n: usize) -> Vec<f32> {
    numbers(seed + 1000, n, n).iter().map(|x| x.abs() + 1.0 / 1024.0).collect()
}

/// Writes a model of `sources`, or its splits; gives the first file.
fn write_source(dir: &Path, model: &Json, splits: usize) -> PathBuf {
    let ty = type_of(&model["type"]);
    let all: Vec<_> = tensors(model).into_iter().enumerate().collect();
    let path = |i| match splits {
        1 => dir.join("in.gguf"),
        n => dir.join(format!("in-{:05}-of-{n:05}.gguf", i + 1)),
    };
    for i in 0..splits {
        let mut header = if i == 0 { keys(model) } else { Writer::new(Magic::Gguf) };
        if splits > 1 {
            header.set("split.no", Value::U16(i as u16)).unwrap();
            header.set("split.count", Value::U16(splits as u16)).unwrap();
            header.set("split.tensors.count", Value::I32(all.len() as i32)).unwrap();
        }
        let part: Vec<_> = all.iter().skip(i).step_by(splits).collect();
        for (_, (name, dims)) in &part {
            header.add_tensor(name, dims, ty).unwrap();
        }
        let mut out = header.start(File::create(path(i)).unwrap()).unwrap();
        for (seed, (_, dims)) in &part {
            let n = dims.iter().product::<u64>() as usize;
            let numbers = numbers(*seed as u64, n, dims[0] as usize);
            let bytes: Vec<u8> = match ty {
                QuantType::F16 => {
                    numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()
                }
                _ => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            out.write(&bytes).unwrap();
        }
        out.finish().unwrap();
    }
    path(0)
}

fn imatrix(model: &Json) -> Imatrix {
    let one = |(i, (name, dims)): (usize, (String, Vec<u64>))| {
        let n = dims[0] * dims.get(2).unwrap_or(&1);
        (name, importances(i as u64, n as usize))
    };
    tensors(model).into_iter().enumerate().map(one).collect()
}

/// Whole files, keys and all, have the bytes of llama.cpp's.
#[test]
fn files_are_those_of_llama_cpp() {
    let golden = golden();
    let mut different = Vec::new();
    for (i, case) in list(&golden["files"]).iter().enumerate() {
        let dir = folder(&format!("files-{i}"));
        let model = &golden["sources"][text(&case["source"])];
        let mut source = write_source(&dir, model, case["splits"].as_u64().unwrap_or(1) as usize);
        if let Some(through) = case["through"].as_i64() {
            let between = dir.join("between.gguf");
            let first = QuantizeParams::new(FileType::from_id(through as i32).unwrap());
            quantize(&source, &between, &first).unwrap();
            source = between;
        }
        let mut params = params(case);
        params.imatrix = (case["imatrix"] == true).then(|| imatrix(model));
        quantize(&source, &dir.join("out"), &params).unwrap();
        let written = names(&dir).into_iter().filter(|name| name.starts_with("out"));
        let found: Vec<_> =
            written.map(|name| fingerprint(&fs::read(dir.join(name)).unwrap())).collect();
        if serde_json::to_value(found).unwrap() != case["files"] {
            different.push(case.to_string());
        }
        fs::remove_dir_all(dir).unwrap();
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Neither threads nor the size of slabs change a bit.
#[test]
fn threads_and_slabs_do_not_matter() {
    let golden = golden();
    let dir = folder("threads");
    let model = &golden["sources"]["f16-moe"];
    let source = write_source(&dir, model, 1);
    let mut made = Vec::new();
    for (n_threads, max_buf_size) in [(1, 0), (3, 1), (2, 5000), (0, usize::MAX)] {
        let params = QuantizeParams {
            n_threads,
            max_buf_size,
            imatrix: Some(imatrix(model)),
            ..QuantizeParams::new(FileType::Q4_K_M)
        };
        let out = dir.join("out");
        quantize(&source, &out, &params).unwrap();
        made.push(fs::read(out).unwrap());
    }
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Predictors of PowerInfer's files keep their type unless they are named, and the files their kind.
#[test]
fn predictors_keep_their_type() {
    set_sink(Some(Arc::new(Silence)));
    let dir = folder("predictors");
    let (source, out) = (dir.join("in.gguf"), dir.join("out.gguf"));
    let files = |path: &Path| ModelFiles::open(path, &LoadOptions::default()).unwrap();
    let is_predictor = |name: &str| name.contains(".fc1.weight") || name.contains(".fc2.weight");
    let loads = |path: &Path| {
        powerinfer::api::Model::load(path, &LoadOptions::default(), &mut |_| true).unwrap();
    };
    for spec in tiny_sparse::SPECS {
        fs::write(&source, tiny_sparse::bytes(spec)).unwrap();
        let before = files(&source);
        assert!(before.tensors().iter().any(|t| is_predictor(&t.name)), "no predictors");
        for mix in [FileType::Q4_0, FileType::Q4_K_M, FileType::F16] {
            let mut params = QuantizeParams { allow_requantize: true, ..QuantizeParams::new(mix) };
            quantize(&source, &out, &params).unwrap();
            let after = files(&out);
            assert_eq!(after.meta().magic(), before.meta().magic());
            let mut changed = 0;
            for t in after.tensors() {
                let old = before.tensor(&t.name).unwrap();
                changed += usize::from(t.ty != old.ty);
                assert!(!is_predictor(&t.name) || t.ty == old.ty, "{}", t.name);
            }
            assert!(changed > 0 || mix == FileType::F16, "{} {mix:?}", spec.name);
            loads(&out);

            params.tensor_types = vec![TypePattern::new(r"\.fc[12]\.", QuantType::Q5_0).unwrap()];
            quantize(&source, &out, &params).unwrap();
            for t in files(&out).tensors().iter().filter(|t| is_predictor(&t.name)) {
                // Rows of odd lengths become F16.
                let fits = t.shape.ne()[0].is_multiple_of(32);
                let expected = if fits { QuantType::Q5_0 } else { QuantType::F16 };
                assert_eq!(t.ty, expected, "{}", t.name);
            }
            loads(&out);
        }
    }
}

/// Lists with a value for each layer lose those of the layers that go.
#[test]
fn pruning_shortens_lists() {
    set_sink(Some(Arc::new(Silence)));
    let dir = folder("lists");
    let source = dir.join("in");
    let mut header = Writer::new(Magic::Gguf);
    header.set("general.architecture", Value::Str("llama".into())).unwrap();
    header.set("llama.block_count", Value::U32(3)).unwrap();
    let kv = Value::Array(Array::U32(vec![1, 2, 3]));
    header.set("llama.attention.head_count_kv", kv).unwrap();
    header.set("llama.other", Value::Array(Array::U32(vec![1, 2, 3]))).unwrap();
    for il in 0..3 {
        header.add_tensor(&format!("blk.{il}.attn_q.weight"), &[32, 2], QuantType::F32).unwrap();
    }
    let mut out = header.start(File::create(&source).unwrap()).unwrap();
    for il in 0..3 {
        let row = numbers(il, 64, 32);
        out.write(&row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    out.finish().unwrap();
    let pruned = |layers: &[u32]| QuantizeParams {
        prune_layers: layers.to_vec(),
        ..QuantizeParams::new(FileType::F32)
    };
    let target = dir.join("out");
    quantize(&source, &target, &pruned(&[1, 99])).unwrap();
    let bytes = fs::read(&target).unwrap();
    let after = gguf::parse(&bytes, "out").unwrap();
    assert_eq!(after.meta.get_u32("llama.block_count").unwrap(), Some(2));
    let list = |key: &str| after.meta.get_u32s(key).unwrap().unwrap().into_owned();
    assert_eq!(list("llama.attention.head_count_kv"), [1, 3]);
    assert_eq!(list("llama.other"), [1, 2, 3]);
    // The second layer is now what was the third.
    let last = after.tensors.last().unwrap();
    assert_eq!(&*last.name, "blk.1.attn_q.weight");
    let start = (after.data_offset + last.offset) as usize;
    assert_eq!(&bytes[start..start + 4], &numbers(2, 64, 32)[0].to_le_bytes());

    let error = quantize(&source, &target, &pruned(&[0, 1, 2])).unwrap_err();
    assert!(matches!(error, QuantizeError::NoLayers { n_layer: 3 }), "{error}");
}

/// What cannot be done is refused before there is a file, and what fails leaves none.
#[test]
fn refusals_leave_no_file() {
    let golden = golden();
    let dir = folder("refusals");
    let model = &golden["sources"]["f32"];
    let source = write_source(&dir, model, 1);
    let out = dir.join("out");
    let new = |mix| QuantizeParams::new(mix);
    let refused = |source: &Path, out: &Path, params: &QuantizeParams, expected: &str| {
        let before = names(&dir);
        let error = quantize(source, out, params).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, not {expected}");
        assert_eq!(names(&dir), before, "{expected}");
    };
    let mut weighted = new(FileType::IQ2_XS);
    refused(&source, &out, &weighted, "requires an importance matrix");
    weighted.file_type = FileType::Q4_0;
    weighted.token_embedding_type = Some(QuantType::IQ1_S);
    refused(&source, &out, &weighted, "token_embd.weight: type iq1_s requires an importance");
    weighted.token_embedding_type = None;
    weighted.imatrix = Some([("blk.0.attn_q.weight".into(), vec![1.0; 7])].into());
    refused(&source, &out, &weighted, "7 importances, expected 256");
    weighted.imatrix = Some([("x".into(), vec![1.0, f32::NAN])].into());
    refused(&source, &out, &weighted, "not finite");
    let mut named = new(FileType::Q4_0);
    named.tensor_types = vec![TypePattern::new("attn_q", QuantType::Q8_K).unwrap()];
    refused(&source, &out, &named, "cannot quantise to type q8_K");
    assert!(TypePattern::new("(", QuantType::F16).is_err());
    refused(&source, &source, &new(FileType::Q4_0), "is the file that is read");
    refused(&source, &dir, &new(FileType::Q4_0), "cannot write to");
    refused(&source, &dir.join("none/out"), &new(FileType::Q4_0), "cannot create");
    refused(&dir.join("none"), &out, &new(FileType::Q4_0), "none");

    let quantised = dir.join("quantised");
    quantize(&source, &quantised, &new(FileType::Q8_0)).unwrap();
    refused(&quantised, &out, &new(FileType::Q4_0), "requantizing from type q8_0 is disabled");
    quantize(&quantised, &out, &new(FileType::Q8_0)).unwrap(); // nothing changes
    fs::remove_file(&out).unwrap();

    // A number that is none, in a tensor that is converted and in one that is copied; what was
    // there before stays.
    fs::write(&out, "before").unwrap();
    let whole = fs::read(&source).unwrap();
    let header = gguf::parse(&whole, "in").unwrap();
    let broken = dir.join("broken");
    for name in ["blk.1.ffn_up.weight", "blk.1.ffn_norm.weight"] {
        let t = header.tensors.iter().find(|t| *t.name == *name).unwrap();
        let mut bytes = whole.clone();
        let at = (header.data_offset + t.offset) as usize + 40;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&broken, bytes).unwrap();
        refused(&broken, &out, &new(FileType::Q4_0), "not finite");
    }
    // Cut, at many places.
    for n in (0..whole.len()).step_by(whole.len() / 50) {
        fs::write(&broken, &whole[..n]).unwrap();
        refused(&broken, &out, &new(FileType::Q4_0), "");
    }
    assert_eq!(fs::read(&out).unwrap(), b"before");

    // No room, in the middle of it; one of several files cannot be written.
    let error = quantize(&source, Path::new("/dev/full"), &new(FileType::Q8_0)).unwrap_err();
    assert!(error.to_string().contains("cannot"), "{error}");
    let split = dir.join("splits");
    fs::create_dir(&split).unwrap();
    let first = write_source(&split, model, 3);
    fs::create_dir(split.join("out-00003-of-00003.gguf")).unwrap();
    let before = names(&split);
    let params = QuantizeParams { keep_split: true, ..new(FileType::Q8_0) };
    let error = quantize(&first, &split.join("out"), &params).unwrap_err();
    assert!(matches!(error, QuantizeError::Io { .. }), "{error}");
    assert_eq!(names(&split), before);
    quantize(&source, &out, &new(FileType::Q4_0)).unwrap();
    assert!(gguf::parse(&fs::read(&out).unwrap(), "out").is_ok());
}

/// Files with a wrong byte anywhere before the data are quantised or refused.
#[test]
fn damaged_files_do_no_harm() {
    let golden = golden();
    let dir = folder("damaged");
    let whole = fs::read(write_source(&dir, &golden["sources"]["f16-moe"], 1)).unwrap();
    let n = gguf::parse(&whole, "in").unwrap().data_offset as usize;
    let (damaged, out) = (dir.join("damaged"), dir.join("out"));
    let mut refused = 0;
    for at in 0..n {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x80, 0x01, 0xff, 0x10][at % 4];
        fs::write(&damaged, &bytes).unwrap();
        let params = QuantizeParams {
            dry_run: at % 16 > 0,
            keep_split: at % 3 == 0,
            imatrix: (at % 5 == 0).then(|| imatrix(&golden["sources"]["f16-moe"])),
            prune_layers: if at % 7 == 0 { vec![0] } else { Vec::new() },
            ..QuantizeParams::new(FileType::ALL[at % FileType::ALL.len()])
        };
        refused += usize::from(quantize(&damaged, &out, &params).is_err());
    }
    assert!(refused > n / 3 && refused < n, "{refused} of {n}");
}

/// Links are written through; what is no file is written to as it is.
#[test]
fn links_and_devices_are_written_to() {
    let golden = golden();
    let dir = folder("links");
    let source = write_source(&dir, &golden["sources"]["f32"], 1);
    let (link, real) = (dir.join("link"), dir.join("real"));
    fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let params = QuantizeParams::new(FileType::Q4_0);
    quantize(&source, &link, &params).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(gguf::parse(&fs::read(&real).unwrap(), "real").is_ok());
    quantize(&source, Path::new("/dev/null"), &params).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    // A link to the file that is read is that file.
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&source, &link).unwrap();
    let error = quantize(&source, &link, &params).unwrap_err();
    assert!(matches!(error, QuantizeError::SameFile { .. }), "{error}");
}

/// A model that runs, in every mix that can be made: it still loads and says nearly the same.
#[test]
fn quantised_models_load() {
    set_sink(Some(Arc::new(Silence)));
    let dir = folder("load");
    let source = dir.join("in.gguf");
    fs::write(&source, tiny::bytes(&spec("gqa"))).unwrap();
    let mut n = 0;
    for mix in FileType::ALL {
        let params = QuantizeParams { allow_requantize: true, ..QuantizeParams::new(*mix) };
        let out = dir.join("out.gguf");
        match quantize(&source, &out, &params) {
            Ok(_) => {
                powerinfer::api::Model::load(&out, &LoadOptions::default(), &mut |_| true).unwrap();
                n += 1;
            }
            Err(QuantizeError::NoFallback { .. } | QuantizeError::NeedsImatrix { .. }) => {}
            Err(error) => panic!("{mix:?}: {error}"),
        }
    }
    assert!(n > 20, "only {n}");
}
