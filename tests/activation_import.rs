//! PowerInfer's folders of `activation_{i}.pt`, good and bad. The files are made here as
//! `torch.save` of PyTorch 2 writes a vector, which needs no PyTorch; two that it wrote itself are in
//! `data/activation`, made by `tools/activation_goldens.py`.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use powerinfer::api::ActivationCounts;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A pickle that says: `len` numbers from `offset` on in the storage `0` of this class.
fn pickle(class: &str, offset: u8, len: u16, stride: u8) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let int2 = |n: u16| [&[b'M'][..], &n.to_le_bytes()].concat();
    let mut out = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((".to_vec();
    text(&mut out, "storage");
    out.extend(b"q\x01ctorch\n");
    out.extend(class.as_bytes());
    out.extend(b"\nq\x02");
    text(&mut out, "0");
    out.extend(b"q\x03");
    text(&mut out, "cpu");
    out.extend(b"q\x04");
    out.extend(int2(offset as u16 + len));
    out.extend([b't', b'q', 5, b'Q', b'K', offset]);
    out.extend(int2(len));
    out.extend([0x85, b'q', 6, b'K', stride, 0x85, b'q', 7, 0x89]);
    out.extend(b"ccollections\nOrderedDict\nq\x08)Rq\x09tq\x0aRq\x0b.");
    out
}

/// An archive of these entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn file(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    archive(&[
        ("activation/data.pkl", pickle),
        ("activation/byteorder", b"little"),
        ("activation/data/0", storage),
        ("activation/version", b"3\n"),
    ])
}

/// A vector of floats.
fn floats(values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    file(&pickle("FloatStorage", 0, values.len() as u16, 1), &bytes)
}

fn folder(name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("activation-import").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn layers_come_in_the_order_of_numbers_from_any_storage() {
    let value = |il: usize, i: usize| 10 * il + i;
    type Bytes = fn(usize) -> Vec<u8>;
    let storages: [(&str, Bytes); 9] = [
        ("LongStorage", |n| (n as i64).to_le_bytes().into()),
        ("IntStorage", |n| (n as i32).to_le_bytes().into()),
        ("ShortStorage", |n| (n as i16).to_le_bytes().into()),
        ("CharStorage", |n| vec![n as u8]),
        ("ByteStorage", |n| vec![n as u8]),
        ("DoubleStorage", |n| (n as f64).to_le_bytes().into()),
        ("FloatStorage", |n| (n as f32).to_le_bytes().into()),
        ("HalfStorage", |n| half::f16::from_f32(n as f32).to_le_bytes().into()),
        ("BFloat16Storage", |n| half::bf16::from_f32(n as f32).to_le_bytes().into()),
    ];
    for (class, bytes) in storages {
        let files: Vec<_> = (0..12)
            .map(|il| {
                // The vector begins at the third number of its storage.
                let storage: Vec<u8> =
                    (0..7).flat_map(|i| bytes(value(il, i).saturating_sub(2))).collect();
                (format!("activation_{il}.pt"), file(&pickle(class, 2, 5, 1), &storage))
            })
            .collect();
        let files: Vec<_> = files.iter().map(|(name, bytes)| (&name[..], bytes.clone())).collect();
        let counts = ActivationCounts::import(&folder(class, &files)).unwrap();
        assert_eq!(counts.layers.len(), 12, "{class}");
        for (il, layer) in counts.layers.iter().enumerate() {
            let expected: Vec<u32> = (0..5).map(|i| value(il, i) as u32).collect();
            assert_eq!((layer.tokens, &layer.counts), (0, &expected), "{class}, layer {il}");
        }
    }
}

#[test]
fn files_of_pytorch_itself_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/activation");
    let counts = ActivationCounts::import(&folder).unwrap();
    assert_eq!(counts.layers.len(), 2);
    for (il, layer) in counts.layers.iter().enumerate() {
        let expected: Vec<u32> = (0..40).map(|i| (7 * i + 3 * il as u32) % 101).collect();
        assert_eq!((layer.tokens, &layer.counts), (0, &expected), "layer {il}");
    }
}

#[test]
fn shares_of_tokens_become_counts_of_a_million() {
    let shares = folder("shares", &[("activation_0.pt", floats(&[1.0, 0.5, 0.0, 0.25]))]);
    let counts = ActivationCounts::import(&shares).unwrap();
    assert_eq!(counts.layers[0].tokens, 1 << 20);
    assert_eq!(counts.layers[0].counts, [1 << 20, 1 << 19, 0, 1 << 18]);
}

/// What an import of these files says.
#[track_caller]
fn refused(name: &str, files: &[(&str, Vec<u8>)], message: &str) {
    let error = ActivationCounts::import(&folder(name, files)).unwrap_err().to_string();
    assert!(error.contains(message), "{name}: {error}");
}

#[test]
fn folders_that_are_no_layers_of_one_model_are_refused() {
    let good = || floats(&[1.0, 2.0]);
    refused("empty", &[], "there is no activation_0.pt");
    let message = "activation_1.pt is missing, there are files up to activation_2.pt";
    refused("gap", &[("activation_0.pt", good()), ("activation_2.pt", good())], message);
    refused("late", &[("activation_1.pt", good())], "activation_0.pt is missing");
    let message = "activation_1.pt has 3 neurons and activation_0.pt has 2";
    let longer = floats(&[1.0, 2.0, 3.0]);
    refused("lengths", &[("activation_0.pt", good()), ("activation_1.pt", longer)], message);
    for stray in ["notes.txt", "activation_00.pt", "activation_+1.pt", "activation_.pt"] {
        let files = [("activation_0.pt", good()), (stray, good())];
        refused("stray", &files, &format!("found '{stray}', expected only activation_0.pt"));
    }
    let absent = ActivationCounts::import(Path::new("no/such/folder")).unwrap_err().to_string();
    assert!(absent.starts_with("no/such/folder: cannot list it"), "{absent}");
}

#[test]
fn numbers_that_are_no_counts_are_refused() {
    for (name, values, message) in [
        ("negative", &[1.0, -1.0][..], "found -1, expected counts"),
        ("nan", &[f32::NAN], "found NaN, expected counts"),
        ("infinite", &[f32::INFINITY], "found inf, expected counts"),
        ("large", &[3e9], "found 3000000000, expected counts"),
        ("odd", &[1.0, 1.5], "found 1.5 and numbers above 1"),
    ] {
        refused(name, &[("activation_0.pt", floats(values))], message);
    }
}

#[test]
fn files_that_mean_harm_are_refused() {
    let one = |name: &str, bytes: Vec<u8>, message: &str| {
        refused(name, &[("activation_0.pt", bytes)], message);
    };
    let no_tensor = "not a tensor of one dimension";
    let storage = [0u8; 8];
    let with = |pickle: &[u8]| file(pickle, &storage);
    one("no-zip", b"\x80\x02a pickle of old".to_vec(), "not a file of torch.save");
    one("nothing", Vec::new(), "not a file of torch.save");
    one("other-zip", archive(&[("a.txt", b"a")]), "not one data.pkl");
    one("two", archive(&[("a/data.pkl", b"."), ("b/data.pkl", b".")]), "not one data.pkl");
    one("no-data", archive(&[("a/data.pkl", &pickle("FloatStorage", 0, 2, 1))]), "'a/data/0'");
    let big_endian = archive(&[("a/data.pkl", b"."), ("a/byteorder", b"big")]);
    one("big-endian", big_endian, "little-endian");
    one(
        "short",
        with(&pickle("FloatStorage", 0, 3, 1)),
        "3 numbers F32 from 0 on in a storage of 8",
    );
    one("beyond", with(&pickle("FloatStorage", 9, 2, 1)), "in a storage of 8 bytes");
    one("stride", with(&pickle("FloatStorage", 0, 2, 2)), no_tensor);
    one("storage", with(&pickle("QInt8Storage", 0, 2, 1)), no_tensor);

    // Calls are described, not made.
    one("code", with(b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truet\x52."), no_tensor);
    // A tensor whose sizes are a pair.
    let pair = [&pickle("FloatStorage", 0, 2, 1)[..]].concat();
    let at = pair.windows(2).position(|w| w == [0x85, b'q']).unwrap();
    let mut matrix = pair.clone();
    matrix.splice(at..at + 1, [b'K', 1, 0x86]);
    one("matrix", with(&matrix), no_tensor);
    for end in 0..pair.len() {
        one("cut", with(&pair[..end]), "ends too early");
    }
    // Every byte something else: an error or another tensor, never a crash.
    for i in 0..pair.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = pair.clone();
            changed[i] ^= flip;
            let files = [("activation_0.pt", with(&changed))];
            let _ = ActivationCounts::import(&folder("changed", &files));
        }
    }
    // Nested as deep as a pickle may be long.
    let deep = [&b"\x80\x02N"[..], &[0x85; 60_000], b"."].concat();
    one("deep", with(&deep), no_tensor);
    let long = [&b"\x80\x02"[..], &[b'N'; 70_000], b"."].concat();
    one("long", with(&long), "70003 bytes");
    one("memo", with(b"\x80\x02h\x07."), "nothing was kept as 7");
    one("stack", with(b"\x80\x02Rt."), "the stack is empty");
    one("operation", with(b"\x80\x02\x81."), "operation 0x81");
}
