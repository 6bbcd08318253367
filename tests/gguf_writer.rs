//! The writer: what it writes reads back, real files come out as they went in, and what no
//! reader would accept cannot be written.
#![allow(clippy::print_stdout, reason = "says what is skipped")]

use std::path::PathBuf;

use powerinfer::gguf::{Array, ByteStr, Magic, Value, Writer, parse};
use powerinfer::quant::QuantType;
use proptest::prelude::*;

/// The file again, from its parsed header and its data.
fn rewritten(file: &[u8]) -> Vec<u8> {
    let header = parse(file, "f").unwrap();
    let mut w = Writer::copy_of(&header.meta);
    for t in &header.tensors {
        w.add_tensor(&t.name, t.shape.dims(), t.ty).unwrap();
    }
    let mut out = w.start(Vec::with_capacity(file.len())).unwrap();
    for t in &header.tensors {
        out.write(&file[(header.data_offset + t.offset) as usize..][..t.n_bytes as usize]).unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn real_files_come_out_as_they_went_in() {
    let shared = std::env::var_os("POWERINFER_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    for dir in ["data/vocabs", "data/archs"] {
        let mut n = 0;
        let Ok(entries) = std::fs::read_dir(shared.join(dir)) else {
            println!("skipped: no {dir} in {}", shared.display());
            continue;
        };
        for path in entries.map(|e| e.unwrap().path()) {
            if path.extension().is_some_and(|e| e == "gguf") {
                let mut file = std::fs::read(&path).unwrap();
                if file[4] == 2 {
                    file[4] = 3; // version 2 has the same layout, and is written as 3
                }
                assert!(rewritten(&file) == file, "{}", path.display());
                n += 1;
            }
        }
        assert!(n > 5, "only {n} files in {dir}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    use prop::collection::vec;
    let text = || vec(any::<u8>(), 0..20);
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        prop::num::f32::NORMAL.prop_map(Value::F32),
        prop::num::f64::NORMAL.prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        text().prop_map(|b| Value::Str(ByteStr::new(&b))),
        vec(any::<i8>(), 0..9).prop_map(|v| Value::Array(Array::I8(v))),
        vec(any::<u16>(), 0..9).prop_map(|v| Value::Array(Array::U16(v))),
        vec(any::<u64>(), 0..9).prop_map(|v| Value::Array(Array::U64(v))),
        vec(any::<bool>(), 0..9).prop_map(|v| Value::Array(Array::Bool(v))),
        vec(text(), 0..9).prop_map(|v| Value::Array(Array::Str(v.into_iter().collect()))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        kvs in prop::collection::btree_map("[a-z.]{1,12}", value(), 0..12),
        tensors in prop::collection::btree_map("[a-z0-9._]{0,63}", prop::collection::vec(0u64..9, 1..5), 0..6),
        align in prop::sample::select(vec![8u32, 16, 32, 128]),
    ) {
        let mut w = Writer::new(Magic::Pwri);
        for (key, value) in &kvs {
            w.set(key, value.clone()).unwrap();
        }
        w.set("general.alignment", Value::U32(align)).unwrap();
        for (name, dims) in &tensors {
            w.add_tensor(name, dims, QuantType::I16).unwrap();
        }
        let mut out = w.start(Vec::new()).unwrap();
        while let Some(t) = out.expects() {
            let data = vec![0xee; t.n_bytes as usize];
            out.write(&data).unwrap();
        }
        let file = out.finish().unwrap();

        let header = parse(&file, "f").unwrap();
        prop_assert_eq!(header.meta.magic(), Magic::Pwri);
        prop_assert_eq!(header.meta.alignment(), u64::from(align));
        prop_assert_eq!(header.meta.len(), kvs.len() + 1);
        for (key, value) in &kvs {
            prop_assert_eq!(header.meta.get(key), Some(value));
        }
        prop_assert_eq!(&header.tensors, &w.layout().unwrap());
        for (t, (name, dims)) in header.tensors.iter().zip(&tensors) {
            prop_assert_eq!((&*t.name, t.shape.dims()), (name.as_str(), dims.as_slice()));
            let data = &file[(header.data_offset + t.offset) as usize..][..t.n_bytes as usize];
            prop_assert!(data.iter().all(|b| *b == 0xee));
        }
        prop_assert!(rewritten(&file) == file);
    }
}

#[test]
fn what_no_reader_accepts_cannot_be_written() {
    let mut w = Writer::new(Magic::Gguf);
    let text = |r: Result<(), powerinfer::gguf::Error>| r.unwrap_err().to_string();
    assert!(text(w.set("", Value::U8(1))).contains("not empty"));
    assert!(text(w.set("a\0", Value::U8(1))).contains("without NUL"));
    assert!(text(w.set("general.alignment", Value::U32(20))).contains("found u32 20"));
    assert!(text(w.add_tensor("t", &[33], QuantType::Q4_0)).contains("rows of 33 elements"));
    assert!(text(w.add_tensor("t", &[], QuantType::F32)).contains("1 to 4 dimensions"));
    assert!(text(w.add_tensor("t", &[1; 5], QuantType::F32)).contains("1 to 4 dimensions"));
    assert!(text(w.add_tensor(&"n".repeat(64), &[1], QuantType::F32)).contains("64 bytes"));
    w.add_tensor("t", &[3], QuantType::F32).unwrap();
    assert!(text(w.add_tensor("t", &[3], QuantType::F32)).contains("the name twice"));
    w.add_tensor("u", &[1], QuantType::F32).unwrap();

    let mut out = w.start(Vec::new()).unwrap();
    out.write(&[0; 8]).unwrap();
    assert!(text(out.write(&[0; 5])).contains("tensor 't': found 5 more bytes, expected 4 of 12"));
    out.write(&[0; 4]).unwrap();
    let unfinished = out.finish().unwrap_err().to_string();
    assert_eq!(unfinished, "tensor 'u': found 0 bytes written, expected 4 bytes");

    let mut out = w.start(Vec::new()).unwrap();
    out.write(&[0; 12]).unwrap();
    out.write(&[0; 4]).unwrap();
    assert!(text(out.write(&[0; 1])).contains("1 more bytes, expected no data"));
}

#[test]
fn keys_can_be_replaced_and_removed() {
    let mut w = Writer::new(Magic::Gguf);
    for (i, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        w.set(key, Value::U8(i as u8)).unwrap();
    }
    assert_eq!(w.remove("b"), Some(Value::U8(1)));
    assert_eq!(w.remove("b"), None);
    w.set("c", Value::Bool(true)).unwrap();
    w.set("b", Value::U8(9)).unwrap();
    let header = parse(&w.header().unwrap(), "f").unwrap();
    let kvs: Vec<_> = header.meta.iter().collect();
    let want = [
        ("a", &Value::U8(0)),
        ("c", &Value::Bool(true)),
        ("d", &Value::U8(3)),
        ("b", &Value::U8(9)),
    ];
    assert_eq!(kvs, want);
}

/// A disk that is full after some bytes.
struct Full(usize);
impl std::io::Write for Full {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        let n = b.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        if self.0 == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_fills() {
    let mut w = Writer::new(Magic::Gguf);
    w.set("general.alignment", Value::U32(8192)).unwrap();
    w.add_tensor("t", &[100], QuantType::F32).unwrap();
    let write = |room| {
        let mut out = w.start(Full(room))?;
        out.write(&[0; 400])?;
        out.finish().map(|_| ())
    };
    let whole = 2 * 8192;
    for room in [0, 10, 8192, 8300, 8592, 16000, whole] {
        let message = write(room).unwrap_err().to_string();
        assert!(message.starts_with("cannot write"), "{room}: {message}");
    }
    write(whole + 1).unwrap();
}
