//! Files that lie: every count, length, offset, alignment, dimension, type and string, truncation
//! at every byte, a flip of every bit. The reader answers with an error that says what is wrong,
//! soon, and without memory for what was only claimed.
#![allow(unsafe_code, dead_code, reason = "counts what the reader allocates")]

#[path = "common/meter.rs"]
mod meter;

use std::time::{Duration, Instant};

use powerinfer::gguf::{self, Array, Error, Header, Magic, Value, Writer};
use powerinfer::quant::{self, QuantType};

/// Parses, and fails when that took memory or time out of proportion to the input.
fn parse(bytes: &[u8]) -> gguf::Result<Header> {
    let start = Instant::now();
    let (result, peak) = meter::peak(|| gguf::parse(bytes, "f"));
    let took = start.elapsed();
    let most = 16 * bytes.len() as isize + 8192;
    assert!(peak <= most, "{peak} bytes allocated for a file of {}", bytes.len());
    assert!(took < Duration::from_millis(500), "took {took:?}");
    result
}

/// A file written byte by byte.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, n_tensors: u64, n_kv: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(n_tensors).u64(n_kv)
    }
    fn bytes(mut self, b: &[u8]) -> Self {
        self.0.extend_from_slice(b);
        self
    }
    fn u32(self, v: u32) -> Self {
        self.bytes(&v.to_le_bytes())
    }
    fn u64(self, v: u64) -> Self {
        self.bytes(&v.to_le_bytes())
    }
    fn str(self, s: &[u8]) -> Self {
        self.u64(s.len() as u64).bytes(s)
    }
    /// An entry of the tensor table.
    fn tensor(self, name: &[u8], dims: &[u64], ty: u32, offset: u64) -> Self {
        let head = self.str(name).u32(dims.len() as u32);
        dims.iter().fold(head, |r, d| r.u64(*d)).u32(ty).u64(offset)
    }
    /// Padding up to the data, and then `n` bytes of it.
    fn data(mut self, n: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 0);
        self
    }
    /// Bytes that leave room for what a count claims.
    fn room(self) -> Self {
        self.bytes(&[0; 200])
    }
    fn fails(self, message: &str) {
        let error = parse(&self.0).expect_err(message).to_string();
        assert!(error.contains(message), "expected «{message}», found «{error}»");
    }
}

fn one_kv() -> Raw {
    Raw::new(3, 0, 1)
}

fn one_tensor(name: &[u8], dims: &[u64], ty: u32, offset: u64) -> Raw {
    Raw::new(3, 1, 0).tensor(name, dims, ty, offset).data(64)
}

#[test]
fn magic_and_version() {
    Raw::default().fails("f: the file ends inside the magic: 4 bytes are needed, found 0");
    Raw::default().bytes(b"GGU").fails("inside the magic");
    Raw::default()
        .bytes(b"ggml\0\0\0\0")
        .fails(r#"it starts with "ggml", expected "GGUF" or "PWRI""#);
    Raw::default().bytes(b"PK\x03\x04").fails(r#"it starts with "PK\x03\x04""#);
    Raw::default().bytes(b"PWRI").fails("inside the version: 8 bytes are needed, found 4");
    Raw::new(1, 0, 0).fails("version 1 is not supported, expected 2 or 3; version 1 was");
    Raw::new(4, 0, 0).fails("version 4 is not supported, expected 2 or 3");
    Raw::new(0, 0, 0).fails("version 0 is not supported");
    Raw::new(3u32.swap_bytes(), 0, 0)
        .fails("version 50331648 is not supported, expected 2 or 3; the file is big-endian");
    assert!(parse(&Raw::new(2, 0, 0).0).is_ok());
    assert!(parse(&Raw::new(3, 0, 0).0).is_ok());
}

#[test]
fn counts_that_the_file_has_no_room_for() {
    for n in [9, 1 << 60, u64::MAX] {
        Raw::new(3, n, 0)
            .room()
            .fails(&format!("claims {n} tensors, but the file has room for at most 8"));
    }
    for n in [15, 1 << 60, u64::MAX] {
        Raw::new(3, 0, n)
            .room()
            .fails(&format!("claims {n} key-value pairs, but the file has room for at most 14"));
    }
    Raw::new(3, u64::MAX, u64::MAX).fails("claims 18446744073709551615");
    // A count that fits, of things that do not come.
    Raw::new(3, 8, 0).room().fails("tensor '': found the name twice");
    Raw::new(3, 0, 14).room().fails("key '#0'");
}

#[test]
fn keys() {
    one_kv().str(b"").room().fails("key '#0': found \"\", expected text in UTF-8, not empty");
    one_kv().str(b"a\0b").room().fails("without NUL");
    one_kv().str(b"a\xff").room().fails(r#"key '#0': found "a\xff", expected text in UTF-8"#);
    one_kv()
        .u64(1 << 40)
        .room()
        .fails("the file ends inside key #0: 1099511627808 bytes are needed, found 232");
    one_kv().u64(u64::MAX).room().fails("the file ends inside key #0: 18446744073709551615 bytes");
    let twice = Raw::new(3, 0, 2).str(b"k").u32(0).bytes(&[1]).str(b"k").u32(0).bytes(&[1]);
    twice.room().fails("key 'k': found the key twice");
    // A control character in a message could rewrite the terminal.
    one_kv().str(b"a\x1b[2J").u32(99).room().fails(r"key 'a\u{1b}[2J': found value type 99");
    one_kv().str(&[b'k'; 150]).u32(99).room().fails(&format!("key '{}…': found", "k".repeat(80)));
}

#[test]
fn value_types_and_lengths() {
    for id in [13, 14, 255, u32::MAX] {
        one_kv()
            .str(b"k")
            .u32(id)
            .room()
            .fails(&format!("key 'k': found value type {id}, expected a type from 0 to 12"));
        one_kv()
            .str(b"k")
            .u32(9)
            .u32(id)
            .u64(1)
            .room()
            .fails(&format!("key 'k': found value type {id}"));
    }
    one_kv()
        .str(b"k")
        .u32(9)
        .u32(9)
        .u64(1)
        .room()
        .fails("key 'k': found an array of arrays, expected an array of numbers");
    one_kv()
        .str(b"key.type")
        .u32(10)
        .bytes(&[0; 7])
        .fails("the file ends inside the value of key 'key.type': 52 bytes are needed, found 51");
    one_kv().str(b"k").u32(8).u64(1 << 62).room().fails("inside the value of key 'k'");
    one_kv().str(b"k").u32(8).u64(u64::MAX).room().fails("inside the value of key 'k'");
    for elem in 0..13 {
        for n in [201, 1 << 40, 1 << 60, 1 << 61, u64::MAX / 8 + 1, u64::MAX] {
            if elem != 9 {
                one_kv()
                    .str(b"k")
                    .u32(9)
                    .u32(elem)
                    .u64(n)
                    .room()
                    .fails("inside the value of key 'k'");
            }
        }
    }
    // The first string of an array that eats the second.
    let strings = one_kv().str(b"k").u32(9).u32(8).u64(2).u64(12).u64(0).u64(0);
    strings.fails("inside the value of key 'k'");
}

#[test]
fn alignment() {
    let with = |ty: u32, v: &[u8]| one_kv().str(b"general.alignment").u32(ty).bytes(v);
    for bad in [0, 1, 4, 31, 33, 48, u32::MAX] {
        with(4, &bad.to_le_bytes()).fails(&format!(
            "key 'general.alignment': found u32 {bad}, expected a u32 that is a power of two and at least 8"
        ));
    }
    with(10, &32u64.to_le_bytes()).fails("found u64 32, expected a u32");
    with(6, &32f32.to_le_bytes()).fails("found f32 32.000000, expected a u32");
    for good in [8, 32, 64, 1 << 31] {
        let header = parse(&with(4, &u32::to_le_bytes(good)).0).unwrap();
        assert_eq!(header.meta.alignment(), u64::from(good));
    }
    // Data that an absurd alignment pushes out of the file.
    let file = Raw::new(3, 1, 1).str(b"general.alignment").u32(4).u32(1 << 31);
    file.tensor(b"t", &[1], 0, 0)
        .data(64)
        .fails("tensor 't': found 4 bytes at offset 0, in a file of");
}

#[test]
fn tensor_names() {
    one_tensor(&[b'n'; 64], &[1], 0, 0)
        .fails("tensor '#0': found a name of 64 bytes, expected less than 64");
    assert!(parse(&one_tensor(&[b'n'; 63], &[1], 0, 0).0).is_ok());
    one_tensor(b"a\xffb", &[1], 0, 0)
        .fails(r#"tensor '#0': found the name "a\xffb", expected text in UTF-8"#);
    one_tensor(b"a\0b", &[1], 0, 0).fails("without NUL");
    let twice = Raw::new(3, 2, 0).tensor(b"t", &[1], 0, 0).tensor(b"t", &[1], 0, 32).data(64);
    twice.fails("tensor 't': found the name twice, expected unique names");
    Raw::new(3, 1, 0).u64(1 << 50).room().fails("the file ends inside the name of tensor #0");
}

#[test]
fn dimensions() {
    one_tensor(b"t", &[1; 5], 0, 0).fails("tensor 't': found 5 dimensions, expected at most 4");
    Raw::new(3, 1, 0)
        .str(b"t")
        .u32(u32::MAX)
        .room()
        .fails("tensor 't': found 4294967295 dimensions");
    for dims in [
        &[1 << 63][..],
        &[u64::MAX],
        &[1 << 32, 1 << 31],
        &[1 << 32, 1 << 32],
        &[1 << 21, 1 << 21, 1 << 21],
        &[u64::MAX, u64::MAX, u64::MAX, u64::MAX],
        // A zero must not hide what overflows beside it.
        &[0, 1 << 62, 4],
        &[1 << 62, 1 << 62, 0],
        &[u64::MAX, 0],
    ] {
        one_tensor(b"t", dims, 24, 0).fails("fewer than 2^63 elements");
    }
    // Fewer than 2^63 elements of more than 2^64 bytes.
    one_tensor(b"t", &[1 << 31, 1 << 31], 28, 0).fails("tensor 't': found shape [2147483648, 2147483648] of type f64, expected less than 2^64 bytes");
    one_tensor(b"t", &[1 << 62], 28, 0).fails("tensor 't'");
    // ggml knows tensors of no dimensions and of no elements.
    assert_eq!(parse(&one_tensor(b"t", &[], 0, 0).0).unwrap().tensors[0].n_bytes, 4);
    assert_eq!(parse(&one_tensor(b"t", &[0], 0, 0).0).unwrap().tensors[0].n_bytes, 0);
    assert_eq!(parse(&one_tensor(b"t", &[32, 0], 2, 0).0).unwrap().tensors[0].n_bytes, 0);
}

#[test]
fn tensor_types() {
    for id in [4, 5, 31, 36, 43, 1000, u32::MAX] {
        one_tensor(b"t", &[32], id, 0)
            .fails(&format!("tensor 't': found type id {id}, expected the id of a known"));
    }
    one_tensor(b"t", &[33], 2, 0)
        .fails("tensor 't': found rows of 33 elements of type q4_0, expected a multiple of 32");
    one_tensor(b"t", &[16, 2], 8, 0).fails("found rows of 16 elements of type q8_0");
    one_tensor(b"t", &[128], 12, 0)
        .fails("rows of 128 elements of type q4_K, expected a multiple of 256");
}

#[test]
fn offsets() {
    let two =
        |offset| Raw::new(3, 2, 0).tensor(b"a", &[5], 0, 0).tensor(b"b", &[5], 0, offset).data(64);
    assert!(parse(&two(32).0).is_ok());
    for bad in [0, 16, 20, 31, 33, 64, 1 << 63, u64::MAX] {
        two(bad).fails(&format!(
            "tensor 'b': found offset {bad}, expected 32, behind the tensor before it"
        ));
    }
    one_tensor(b"t", &[1], 0, 32).fails("tensor 't': found offset 32, expected 0");
    // 64 bytes are there.
    assert!(parse(&one_tensor(b"t", &[16], 0, 0).0).is_ok());
    one_tensor(b"t", &[17], 0, 0).fails(
        "tensor 't': found 68 bytes at offset 0, in a file of 128 bytes with its data at 64, expected data inside the file",
    );
    one_tensor(b"t", &[1 << 60], 24, 0).fails("data inside the file");
    // The sum of the sizes overflows: data, or the padding behind it.
    let big = (1u64 << 63) - 1;
    Raw::new(3, 2, 0)
        .tensor(b"a", &[big], 24, 0)
        .tensor(b"b", &[big], 24, 1 << 63)
        .data(64)
        .fails("tensor 'a'");
    // The padding behind the last tensor may be missing.
    let mut file = one_tensor(b"t", &[5], 0, 0);
    file.0.truncate(64 + 20);
    assert!(parse(&file.0).is_ok());
    file.0.truncate(64 + 19);
    file.fails("data inside the file (is the download complete?)");
}

/// A small file with a bit of everything.
fn good() -> Vec<u8> {
    let mut w = Writer::new(Magic::Pwri);
    w.set("general.architecture", Value::Str("llama".into())).unwrap();
    w.set("general.alignment", Value::U32(32)).unwrap();
    w.set("llama.block_count", Value::U32(2)).unwrap();
    w.set("llama.rope.freq_base", Value::F32(1e4)).unwrap();
    let tokens = ["<s>", "a", ""].into_iter().collect();
    w.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens))).unwrap();
    w.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0, -1.0, -2.0]))).unwrap();
    w.set("flag", Value::Bool(true)).unwrap();
    w.add_tensor("token_embd.weight", &[32, 3], QuantType::Q4_0).unwrap();
    w.add_tensor("output_norm.weight", &[7], QuantType::F32).unwrap();
    let mut out = w.start(Vec::new()).unwrap();
    out.write(&[7; 54]).unwrap();
    out.write(&[1; 28]).unwrap();
    out.finish().unwrap()
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = good();
    let data_end = file.len() - 4; // without the padding of the last tensor
    for n in 0..file.len() {
        match parse(&file[..n]) {
            Ok(_) => assert!(n >= data_end, "cut at {n}"),
            Err(e) => {
                assert!(n < data_end, "cut at {n}: {e}");
                let found = e.cause();
                assert!(
                    matches!(
                        found,
                        Error::Truncated { .. } | Error::Count { .. } | Error::Tensor { .. }
                    ),
                    "cut at {n}: {e}"
                );
            }
        }
    }
}

/// Whatever a flipped bit makes of the file, it is refused, or all of its data can be read.
#[test]
fn a_flip_of_any_bit_is_refused_or_harmless() {
    let file = good();
    let good = parse(&file).unwrap();
    let start = Instant::now();
    let mut refused = 0;
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let Ok(header) = parse(&file) else {
            refused += 1;
            continue;
        };
        // Of the first 24 bytes only version 2 and a smaller number of tensors can pass.
        let fewer = header.tensors.len() < good.tensors.len();
        assert!(bit >= 24 * 8 || header.meta.version() == 2 || fewer, "bit {bit} accepted");
        if bit / 8 >= good.data_offset as usize {
            assert_eq!(header.tensors, good.tensors);
        }
        for t in &header.tensors {
            let at = (header.data_offset + t.offset) as usize;
            let data = &file[at..][..t.n_bytes as usize];
            let mut numbers = vec![0.0; t.shape.n_elements() as usize];
            quant::dequantize_row(t.ty, data, &mut numbers).unwrap();
        }
        header.meta.iter().for_each(|(k, v)| assert!(!k.is_empty() && v.to_string().len() < 100));
    }
    assert!(refused > 1000, "only {refused} flips were refused");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_prefix_says_how_much_more_it_needs() {
    let file = good();
    let len = file.len() as u64;
    let mut have = 0;
    let mut rounds = 0;
    let header = loop {
        match gguf::parse_prefix(&file[..have], len, "f") {
            Ok(header) => break header,
            Err(e) => match e.cause() {
                Error::Truncated { need, .. } => {
                    assert!(*need as usize > have && *need <= len);
                    have = *need as usize;
                }
                _ => panic!("{e}"),
            },
        }
        rounds += 1;
    };
    assert!(rounds > 20 && have <= header.data_offset as usize);
    assert_eq!(header.tensors, parse(&file).unwrap().tensors);
}
