//! Opening and loading: splits, overrides, modes, progress, what is no model at all.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use powerinfer::gguf::{
    Array, Error, KvOverride, LoadMode, LoadOptions, Magic, ModelFiles, OverrideValue, Value,
    Writer, split_path,
};
use powerinfer::quant::QuantType;
use powerinfer::util::log;

/// An empty folder for one test.
fn folder(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gguf_files").join(test);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The numbers in the data of tensor `name`.
fn pattern(name: &str, n: usize) -> Vec<f32> {
    let seed = name.bytes().map(f32::from).sum::<f32>();
    (0..n).map(|i| seed + i as f32).collect()
}

/// Writes a file with these pairs and F32 tensors of these lengths.
fn write(path: &Path, magic: Magic, kvs: &[(&str, Value)], tensors: &[(&str, usize)]) {
    let mut w = Writer::new(magic);
    for (key, value) in kvs {
        w.set(key, value.clone()).unwrap();
    }
    for (name, n) in tensors {
        w.add_tensor(name, &[*n as u64], QuantType::F32).unwrap();
    }
    let mut out = w.start(fs::File::create(path).unwrap()).unwrap();
    for (name, n) in tensors {
        let bytes: Vec<u8> = pattern(name, *n).into_iter().flat_map(f32::to_le_bytes).collect();
        out.write(&bytes).unwrap();
    }
    out.finish().unwrap();
}

fn check_data(files: &ModelFiles) {
    for t in files.tensors() {
        let data = files.data(t).unwrap();
        let numbers: Vec<f32> = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(numbers, pattern(&t.name, t.shape.n_elements() as usize), "{}", t.name);
    }
}

fn text(result: Result<ModelFiles, Error>) -> String {
    result.expect_err("should have failed").to_string()
}

fn options() -> LoadOptions {
    LoadOptions::default()
}

const SPLITS: [&[(&str, usize)]; 3] =
    [&[("token_embd.weight", 100)], &[("a", 3), ("b", 0), ("c", 7)], &[("d", 33)]];

fn split_kvs(no: u16, count: u16, tensors: i32) -> Vec<(&'static str, Value)> {
    vec![
        ("split.no", Value::U16(no)),
        ("split.count", Value::U16(count)),
        ("split.tensors.count", Value::I32(tensors)),
    ]
}

/// Three files of one model; gives their paths.
fn write_splits(dir: &Path) -> Vec<PathBuf> {
    let prefix = dir.join("m");
    let mut paths = Vec::new();
    for (no, tensors) in SPLITS.iter().enumerate() {
        let path = PathBuf::from(split_path(prefix.to_str().unwrap(), no as u32, 3));
        let mut kvs = split_kvs(no as u16, 3, 5);
        if no == 0 {
            kvs.push(("general.architecture", Value::Str("llama".into())));
        }
        write(&path, Magic::Gguf, &kvs, tensors);
        paths.push(path);
    }
    paths
}

#[test]
fn a_set_of_splits_opens_by_its_first_file_and_by_paths() {
    let paths = write_splits(&folder("splits"));
    for mode in [LoadMode::Auto, LoadMode::None, LoadMode::DirectIo] {
        let options = LoadOptions { mode, ..options() };
        for open in
            [ModelFiles::open(&paths[0], &options), ModelFiles::open_splits(&paths, &options)]
        {
            let mut files = open.unwrap();
            let names: Vec<_> = files.tensors().iter().map(|t| (&*t.name, t.split)).collect();
            let want = [("token_embd.weight", 0), ("a", 1), ("b", 1), ("c", 1), ("d", 2)];
            assert_eq!(names, want);
            assert_eq!(files.meta().require_str("general.architecture").unwrap(), "llama");
            assert_eq!(files.n_bytes(), 4 * 143);
            assert_eq!(files.tensor("c").unwrap().split, 1);
            files.load_tensors(&mut |_| true).unwrap();
            check_data(&files);
        }
    }
}

#[test]
fn splits_by_paths_may_have_any_names() {
    let dir = folder("any_names");
    let paths: Vec<_> = write_splits(&dir)
        .iter()
        .enumerate()
        .map(|(i, path)| {
            let other = dir.join(format!("part{i}"));
            fs::rename(path, &other).unwrap();
            other
        })
        .collect();
    let mut files = ModelFiles::open_splits(&paths, &options()).unwrap();
    files.load_tensors(&mut |_| true).unwrap();
    check_data(&files);

    let message = text(ModelFiles::open(&paths[0], &options()));
    assert!(message.contains("expected a name that ends in -00001-of-00003.gguf"), "{message}");
    let message = text(ModelFiles::open_splits(&paths[..2], &options()));
    assert!(message.contains("found 2 paths, expected 3, by the first file's split.count"));
    let message = text(ModelFiles::open_splits(&[&paths[0], &paths[2], &paths[1]], &options()));
    assert!(message.contains("part2: split files: found split.no = 2, expected 1"), "{message}");
    let message = text(ModelFiles::open_splits::<PathBuf>(&[], &options()));
    assert_eq!(message, "split files: found no path, expected at least one");
}

#[test]
fn a_set_of_splits_that_does_not_fit_together_is_refused() {
    let dir = folder("bad_splits");
    let paths = write_splits(&dir);
    let refused = |with: &str| {
        let message = text(ModelFiles::open(&paths[0], &options()));
        assert!(message.contains(with), "expected «{with}», found «{message}»");
    };

    let message = text(ModelFiles::open(&paths[1], &options()));
    assert!(message.contains("found split.no = 1, expected 0: open a set by its first file"));

    write(&paths[2], Magic::Pwri, &split_kvs(2, 3, 5), SPLITS[2]);
    refused("m-00003-of-00003.gguf: split files: found magic Pwri, expected Gguf");
    write(&paths[2], Magic::Gguf, &split_kvs(2, 3, 5), &[("c", 1)]);
    refused("tensor 'c': found the name in two files");
    write(&paths[2], Magic::Gguf, &split_kvs(2, 3, 5), &[("d", 1), ("e", 1)]);
    refused("found 6 tensors in 3 files, expected 5, by split.tensors.count");
    write(&paths[2], Magic::Gguf, &[], SPLITS[2]);
    refused("m-00003-of-00003.gguf: split files: found no split.no, expected 2");
    fs::write(&paths[2], b"GGUF").unwrap();
    refused("m-00003-of-00003.gguf: the file ends inside the version");
    fs::remove_file(&paths[2]).unwrap();
    refused("m-00003-of-00003.gguf: cannot open the file: No such file");

    let lone = fs::File::open(&paths[0]).unwrap();
    let message = text(ModelFiles::open_file(lone, "fd", &options()));
    assert!(message.contains("one of 3 files, opened without a path"), "{message}");

    write(&paths[0], Magic::Gguf, &[("split.count", Value::F32(3.0))], &[]);
    refused("key 'split.count': found 3.000000, expected a u16");
    write(&paths[0], Magic::Gguf, &[("split.count", Value::U32(70000))], &[]);
    refused("key 'split.count': found 70000, expected a u16");
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let dir = folder("no_model");
    let refused = |path: &Path, with: &str| {
        for mode in [LoadMode::Auto, LoadMode::None, LoadMode::DirectIo] {
            let message = text(ModelFiles::open(path, &LoadOptions { mode, ..options() }));
            assert!(message.contains(with), "expected «{with}», found «{message}»");
            assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        }
    };
    refused(&dir.join("absent"), "cannot open the file: No such file");
    refused(&dir, "not a regular file");
    refused(Path::new("/dev/zero"), "not a regular file");
    let file = dir.join("file");
    fs::write(&file, b"").unwrap();
    refused(&file, "the file ends inside the magic: 4 bytes are needed, found 0");
    fs::write(&file, vec![0; 1 << 21]).unwrap();
    refused(&file, "not a GGUF file");

    write(&file, Magic::Gguf, &[], &[("t", 1000)]);
    let whole = fs::read(&file).unwrap();
    for cut in [3, 20, 40, 60, 1000, 4000] {
        fs::write(&file, &whole[..cut]).unwrap();
        refused(&file, "");
    }
}

#[test]
fn a_header_larger_than_the_first_read_is_read_on() {
    let file = folder("large_header").join("m.gguf");
    let tokens = Array::Str((0..300_000).map(|i| format!("token number {i}")).collect());
    let kvs = [("tokens", Value::Array(tokens)), ("after", Value::U8(1))];
    write(&file, Magic::Gguf, &kvs, &[("t", 9)]);
    for mode in [LoadMode::None, LoadMode::Mmap] {
        let mut files = ModelFiles::open(&file, &LoadOptions { mode, ..options() }).unwrap();
        let tokens = files.meta().require_strs("tokens").unwrap();
        assert_eq!(tokens.get(299_999), Some(&b"token number 299999"[..]));
        assert_eq!(files.meta().require_u32("after").unwrap(), 1);
        files.load_tensors(&mut |_| true).unwrap();
        check_data(&files);
    }
}

#[test]
fn progress_counts_up_and_can_stop() {
    let file = folder("progress").join("m.gguf");
    write(&file, Magic::Gguf, &[], &[("a", 9_000_000), ("b", 100)]);
    for mode in [LoadMode::Mmap, LoadMode::None, LoadMode::DirectIo] {
        let options = LoadOptions { mode, ..options() };
        let mut heard = Vec::new();
        let mut files = ModelFiles::open(&file, &options).unwrap();
        files.load_tensors(&mut |p| (heard.push(p), true).1).unwrap();
        assert_eq!((heard[0], *heard.last().unwrap()), (0.0, 1.0), "{mode:?}");
        assert!(heard.len() >= 4 && heard.is_sorted(), "{mode:?}: {heard:?}");
        check_data(&files);

        for stop_at in 0..heard.len() {
            let mut files = ModelFiles::open(&file, &options).unwrap();
            let mut calls = 0;
            let result = files.load_tensors(&mut |_| (calls += 1, calls <= stop_at).1);
            assert!(matches!(result, Err(Error::Cancelled)), "{mode:?} {result:?}");
            assert_eq!(calls, stop_at + 1);
        }
    }
}

#[test]
fn without_data_nothing_of_it_is_kept() {
    let file = folder("no_data").join("m.gguf");
    write(&file, Magic::Gguf, &[("k", Value::U8(1))], &[("t", 10)]);
    for options in [
        LoadOptions { vocab_only: true, ..options() },
        LoadOptions { no_alloc: true, mode: LoadMode::None, ..options() },
    ] {
        let mut files = ModelFiles::open(&file, &options).unwrap();
        files.load_tensors(&mut |_| true).unwrap();
        assert_eq!(files.tensor("t").unwrap().n_bytes, 40);
        let message = files.data(&files.tensors()[0]).unwrap_err().to_string();
        assert_eq!(message, "the data of tensor 't' is not loaded");
    }
    // Nor is there data before it is loaded, or of a tensor of another model.
    let mut files = ModelFiles::open(&file, &options()).unwrap();
    let mut t = files.tensors()[0].clone();
    assert!(matches!(files.data(&t), Err(Error::NotLoaded { .. })));
    files.load_tensors(&mut |_| true).unwrap();
    let data = files.data(&t).unwrap();
    for (offset, n_bytes, split) in [(0, 1 << 40, 0), (u64::MAX, 1, 0), (0, 1, 1)] {
        (t.offset, t.n_bytes, t.split) = (offset, n_bytes, split);
        assert!(matches!(files.data(&t), Err(Error::NotLoaded { .. })));
    }
    // The data outlives the model.
    drop(files);
    assert_eq!(data[..4], pattern("t", 1)[0].to_le_bytes());
}

#[test]
fn an_open_file_is_taken_over() {
    let path = folder("open_file").join("m.gguf");
    write(&path, Magic::Gguf, &[], &[("t", 10)]);
    for mode in [LoadMode::Auto, LoadMode::None, LoadMode::DirectIo] {
        let file = fs::File::open(&path).unwrap();
        let options = LoadOptions { mode, ..options() };
        let mut files = ModelFiles::open_file(file, "a stream", &options).unwrap();
        assert_eq!(files.meta().file(), "a stream");
        files.load_tensors(&mut |_| true).unwrap();
        check_data(&files);
    }
}

#[test]
fn values_that_are_not_finite_are_found_when_asked_for() {
    let path = folder("check_tensors").join("m.gguf");
    write(&path, Magic::Gguf, &[], &[("good", 8), ("bad", 10)]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 64 + 4 * 3; // "bad" takes 40 bytes of the last 64
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::File::create(&path).unwrap().write_all(&bytes).unwrap();

    let load = |check_tensors| {
        let mut files = ModelFiles::open(&path, &LoadOptions { check_tensors, ..options() })?;
        files.load_tensors(&mut |_| true)
    };
    load(false).unwrap();
    let message = load(true).unwrap_err().to_string();
    assert!(
        message.ends_with(
            "m.gguf: tensor 'bad': found a value or scale of type f32 at element 3 that is not \
             finite, expected finite numbers"
        ),
        "{message}"
    );
}

/// Keeps what was logged.
#[derive(Default)]
struct Lines(Mutex<String>);
impl log::Sink for Lines {
    fn write(&self, _: log::Level, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

#[test]
fn overrides_take_the_place_of_values_of_their_kind() {
    let path = folder("overrides").join("m.gguf");
    let kvs = [
        ("u32", Value::U32(1)),
        ("i32", Value::I32(1)),
        ("u8", Value::U8(1)),
        ("f32", Value::F32(1.0)),
        ("bool", Value::Bool(false)),
        ("str", Value::Str("old".into())),
        ("arr", Value::Array(Array::U8(vec![1]))),
        ("eos", Value::U32(2)),
        ("other", Value::U32(7)),
    ];
    write(&path, Magic::Gguf, &kvs, &[]);
    let over = |key: &str, value| KvOverride { key: key.into(), value };
    let open =
        |kv_overrides| ModelFiles::open(&path, &LoadOptions { kv_overrides, ..options() }).unwrap();
    let files = open(vec![
        over("u32", OverrideValue::Int(5)),
        over("i32", OverrideValue::Int(-5)),
        over("f32", OverrideValue::Float(2.5)),
        over("bool", OverrideValue::Bool(true)),
        over("str", OverrideValue::Str("new".into())),
        over("eos", OverrideValue::Int(-1)),
        over("new.int", OverrideValue::Int(9)),
        over("new.str", OverrideValue::Str("x".into())),
    ]);
    let meta = files.meta();
    for (key, value) in [
        ("u32", Value::U32(5)),
        ("i32", Value::I32(-5)),
        ("f32", Value::F32(2.5)),
        ("bool", Value::Bool(true)),
        ("str", Value::Str("new".into())),
        ("eos", Value::U32(u32::MAX)),
        ("new.int", Value::I64(9)),
        ("other", Value::U32(7)),
    ] {
        assert_eq!(meta.get(key), Some(&value), "{key}");
    }
    assert_eq!(meta.get_u32("new.int").unwrap(), Some(9));
    assert_eq!(meta.get_str("new.str").unwrap(), Some("x"));
    // What the file has stays visible as such, as through llama_model_meta_val_str.
    assert_eq!(meta.len(), kvs.len());
    assert_eq!(meta.file_value("u32"), Some(&Value::U32(1)));
    assert!(meta.iter().all(|(k, v)| kvs.iter().any(|(k2, v2)| (k, v) == (*k2, v2))));

    // Another kind than the file's: a warning, and the file's value stays.
    let lines = Arc::new(Lines::default());
    log::set_sink(Some(lines.clone()));
    let bad = [
        ("u32", OverrideValue::Float(5.0)),
        ("i32", OverrideValue::Int(1 << 40)),
        ("u8", OverrideValue::Int(-129)),
        ("f32", OverrideValue::Int(2)),
        ("bool", OverrideValue::Int(1)),
        ("str", OverrideValue::Bool(true)),
        ("arr", OverrideValue::Int(1)),
    ];
    let files = open(bad.iter().map(|(k, v)| over(k, v.clone())).collect());
    log::set_sink(None);
    let text = lines.0.lock().unwrap().clone();
    for (key, value) in &kvs {
        assert_eq!(files.meta().get(key), Some(value));
        let warned = text.contains(&format!("key '{key}': the override is "));
        assert_eq!(warned, bad.iter().any(|(k, _)| k == key), "{key} in {text}");
    }
    assert!(
        text.contains("key 'u32': the override is f64 5.000000 but the file has u32 1, ignored")
    );
}

#[test]
fn getters_convert_between_types_and_name_what_does_not_fit() {
    let path = folder("getters").join("m.gguf");
    let kvs = [
        ("small", Value::U8(1)),
        ("negative", Value::I32(-1)),
        ("large", Value::U64(1 << 40)),
        ("real", Value::F64(0.5)),
        ("text", Value::Str("abc".into())),
        ("flags", Value::Array(Array::Bool(vec![true, false]))),
        ("ids", Value::Array(Array::I32(vec![4, 5]))),
        ("bad_ids", Value::Array(Array::I64(vec![4, -5]))),
        ("names", Value::Array(Array::Str(["x", "y"].into_iter().collect()))),
    ];
    write(&path, Magic::Gguf, &kvs, &[]);
    let files = ModelFiles::open(&path, &options()).unwrap();
    let m = files.meta();
    assert_eq!(m.get_u32("small").unwrap(), Some(1));
    assert_eq!(m.get_i64("small").unwrap(), Some(1));
    assert_eq!(m.get_bool("small").unwrap(), Some(true));
    assert_eq!(m.get_f32("small").unwrap(), Some(1.0));
    assert_eq!(m.get_i32("negative").unwrap(), Some(-1));
    assert_eq!(m.get_u64("large").unwrap(), Some(1 << 40));
    assert_eq!(m.get_f32("real").unwrap(), Some(0.5));
    assert_eq!(m.get_u32("absent").unwrap(), None);
    assert_eq!(m.get_u32s("flags").unwrap().unwrap()[..], [1, 0]);
    assert_eq!(m.get_u32s("ids").unwrap().unwrap()[..], [4, 5]);
    assert_eq!(m.get_f32s("ids").unwrap().unwrap()[..], [4.0, 5.0]);
    assert_eq!(m.require_strs("names").unwrap().len(), 2);
    assert_eq!(m.get_u32_per_layer("ids", 2).unwrap(), Some(vec![4, 5]));
    assert_eq!(m.get_u32_per_layer("small", 3).unwrap(), Some(vec![1; 3]));
    assert_eq!(m.get_u32_per_layer("absent", 3).unwrap(), None);

    let fails = |e: Error, with: &str| {
        let message = e.to_string();
        assert!(message.ends_with(with) && message.contains("m.gguf: "), "{message}");
    };
    fails(m.get_u32("negative").unwrap_err(), "key 'negative': found i32 -1, expected u32");
    fails(m.get_u32("large").unwrap_err(), "key 'large': found u64 1099511627776, expected u32");
    fails(m.get_u32("real").unwrap_err(), "key 'real': found f64 0.500000, expected u32");
    fails(m.get_f32("text").unwrap_err(), "key 'text': found str \"abc\", expected f32");
    fails(m.get_bool("negative").unwrap_err(), "key 'negative': found i32 -1, expected bool");
    fails(m.get_str("ids").unwrap_err(), "found an array of 2 i32, expected a str in UTF-8");
    fails(m.get_u32s("bad_ids").unwrap_err(), "found an array of 2 i64, expected an array of u32");
    fails(m.get_strs("ids").unwrap_err(), "found an array of 2 i32, expected an array of str");
    fails(m.require_u32("absent").unwrap_err(), "key 'absent' is missing, expected u32");
    fails(
        m.get_u32_per_layer("ids", 3).unwrap_err(),
        "key 'ids': found 2 elements, expected 3, one per layer",
    );
}
