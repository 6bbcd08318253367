//! A file that the `gguf` Python package made (`goldens/gen_gguf.py`): read, and written again.

use powerinfer::gguf::{Array, GgufType, Header, Magic, Value, Writer, parse};
use powerinfer::quant::QuantType;

const FILE: &[u8] = include_bytes!("goldens/gguf-all-types.gguf");

fn header() -> Header {
    parse(FILE, "all-types").unwrap()
}

#[test]
fn all_scalar_types_read_as_written() {
    let Header { meta, .. } = header();
    assert_eq!((meta.magic(), meta.version(), meta.alignment()), (Magic::Gguf, 3, 64));
    for (key, value) in [
        ("v.u8", Value::U8(200)),
        ("v.i8", Value::I8(-100)),
        ("v.u16", Value::U16(60000)),
        ("v.i16", Value::I16(-30000)),
        ("v.u32", Value::U32(4_000_000_000)),
        ("v.i32", Value::I32(-2_000_000_000)),
        ("v.f32", Value::F32(0.1)),
        ("v.true", Value::Bool(true)),
        ("v.false", Value::Bool(false)),
        ("v.str", Value::Str("grüße 🦀".into())),
        ("v.u64", Value::U64(u64::MAX)),
        ("v.i64", Value::I64(i64::MIN)),
        ("v.f64", Value::F64(0.1)),
    ] {
        assert_eq!(meta.get(key), Some(&value), "{key}");
    }
    assert_eq!(meta.entry(0).unwrap().0, "general.architecture");
    assert_eq!(meta.iter().position(|(k, _)| k == "v.f64"), meta.find("v.f64"));
    assert_eq!(meta.len(), 28);
}

#[test]
fn all_array_types_read_as_written() {
    let Header { meta, .. } = header();
    let strings = [&b"a"[..], b"", "ß".as_bytes()].into_iter().collect();
    for (key, array) in [
        ("a.u8", Array::U8(vec![0, 255])),
        ("a.i8", Array::I8(vec![-128, 127])),
        ("a.u16", Array::U16(vec![65535])),
        ("a.i16", Array::I16(vec![-32768])),
        ("a.u32", Array::U32(vec![1, 2, 3])),
        ("a.i32", Array::I32(vec![-1, 0, 1])),
        ("a.f32", Array::F32(vec![1.5, -0.0])),
        ("a.bool", Array::Bool(vec![true, false, true])),
        ("a.str", Array::Str(strings)),
        ("a.u64", Array::U64(vec![1 << 63])),
        ("a.i64", Array::I64(vec![-(1 << 62)])),
        ("a.f64", Array::F64(vec![1e300])),
    ] {
        assert_eq!(meta.get(key), Some(&Value::Array(array)), "{key}");
    }
}

#[test]
fn the_tensor_table_is_as_written() {
    let Header { tensors, data_offset, .. } = header();
    let table: Vec<_> =
        tensors.iter().map(|t| (&*t.name, t.shape.dims().to_vec(), t.ty, t.n_bytes)).collect();
    assert_eq!(
        table,
        [
            ("f32", vec![5], QuantType::F32, 20),
            ("f16", vec![2, 3], QuantType::F16, 12),
            ("bf16", vec![64, 3], QuantType::BF16, 384),
            ("q4_0", vec![64, 3], QuantType::Q4_0, 108),
            ("q4_1", vec![64, 3], QuantType::Q4_1, 120),
            ("q8_0", vec![64, 3], QuantType::Q8_0, 204),
            ("cube", vec![4, 3, 2, 1], QuantType::I32, 96),
        ]
    );
    assert_eq!(data_offset % 64, 0);
    let last = tensors.last().unwrap();
    let data = &FILE[(data_offset + last.offset) as usize..][..last.n_bytes as usize];
    let want: Vec<u8> = (0..24i32).flat_map(i32::to_le_bytes).collect();
    assert_eq!(data, want);
}

#[test]
fn writing_it_again_gives_the_same_bytes() {
    let Header { meta, tensors, data_offset } = header();
    let mut w = Writer::copy_of(&meta);
    for t in &tensors {
        w.add_tensor(&t.name, t.shape.dims(), t.ty).unwrap();
    }
    assert_eq!(w.layout().unwrap(), tensors);
    let mut out = w.start(Vec::new()).unwrap();
    for t in &tensors {
        let data = &FILE[(data_offset + t.offset) as usize..][..t.n_bytes as usize];
        // In pieces, as a stream would bring them.
        for piece in data.chunks(7) {
            assert_eq!(out.expects(), Some(t));
            out.write(piece).unwrap();
        }
    }
    assert!(out.finish().unwrap() == FILE);
}

#[test]
fn type_names_are_those_of_gguf_type_name() {
    let names: Vec<_> = (0..13).map(|i| GgufType::from_id(i).unwrap().name()).collect();
    let want = "u8 i8 u16 i16 u32 i32 f32 bool str arr u64 i64 f64";
    assert_eq!(names, want.split(' ').collect::<Vec<_>>());
    assert_eq!(GgufType::from_id(13), None);
}
