//! The example program `lora`: what it writes is the model with its adapters.

mod c_programs;
mod common;

use std::fs;
use std::sync::Arc;

use c_programs::{example, run, sanitized, scratch};
use common::tiny_lora::{self, Shape};
use common::{tiny, tiny_archs, tiny_sparse};
use powerinfer::gguf::{self, LoadOptions, Value};
use powerinfer::quant::QuantType::{self, F16, F32, Q8_0};
use powerinfer::quant::dequantize_row;

/// A file of this test's own.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = scratch("lora").join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A tensor: its extents, type, bytes, and numbers.
struct Tensor {
    ne: [usize; 4],
    ty: QuantType,
    bytes: Vec<u8>,
    numbers: Vec<f32>,
}

fn tensors(bytes: &[u8]) -> Vec<(String, Tensor)> {
    let header = gguf::parse(bytes, "a file").unwrap();
    let tensor = |t: &gguf::TensorInfo| {
        let data = &bytes[(header.data_offset + t.offset) as usize..][..t.n_bytes as usize];
        let ne = t.shape.ne().map(|n| n as usize);
        let mut numbers = vec![0.0; ne.iter().product()];
        dequantize_row(t.ty, data, &mut numbers).unwrap();
        (t.name.to_string(), Tensor { ne, ty: t.ty, bytes: data.to_vec(), numbers })
    };
    header.tensors.iter().map(tensor).collect()
}

fn find<'a>(tensors: &'a [(String, Tensor)], name: &str) -> Option<&'a Tensor> {
    tensors.iter().find(|(other, _)| other == name).map(|(_, t)| t)
}

/// An adapter: its tensors, scale, and alpha.
type Adapter = (Vec<(String, Tensor)>, f32, Option<f32>);

/// What the adapters add to a tensor, by the definition: B A, or for embeddings A B.
fn added(name: &str, base: &Tensor, adapters: &[Adapter]) -> Option<Vec<f64>> {
    let turned = name.contains("ffn_down_t.");
    let name = name.replace("ffn_down_t.", "ffn_down.");
    let mut sum = vec![0.0; base.numbers.len()];
    let mut any = false;
    for (tensors, scale, alpha) in adapters {
        let Some(a) = find(tensors, &format!("{name}.lora_a")) else { continue };
        let b = find(tensors, &format!("{name}.lora_b")).unwrap();
        let rank = b.ne[0];
        let scale = f64::from(*scale) * alpha.map_or(1.0, |alpha| f64::from(alpha) / rank as f64);
        let (n, rows, matrices) = (base.ne[0], base.ne[1], base.ne[2]);
        for (i, out) in sum.iter_mut().enumerate() {
            let (matrix, row, column) = (i / (n * rows), i / n % rows, i % n);
            assert!(matrix < matrices);
            let product = |r: usize| {
                let (input, output) = if turned { (row, column) } else { (column, row) };
                let (a, b) = (
                    &a.numbers[matrix * a.ne[0] * a.ne[1]..],
                    &b.numbers[matrix * b.ne[0] * b.ne[1]..],
                );
                if name == "token_embd.weight" {
                    f64::from(a[row * rank + r]) * f64::from(b[column * rank + r])
                } else {
                    let n_in = if turned { rows } else { n };
                    f64::from(a[r * n_in + input]) * f64::from(b[output * rank + r])
                }
            };
            *out += scale * (0..rank).map(product).sum::<f64>();
        }
        any = true;
    }
    any.then_some(sum)
}

/// Checks a merged file against the definition; how many tensors were merged.
fn check(
    what: &str,
    base: &[u8],
    merged: &[u8],
    adapters: &[Adapter],
    ty: impl Fn(QuantType) -> QuantType,
    bound: f64,
) -> usize {
    let (base, merged) = (tensors(base), tensors(merged));
    assert_eq!(base.len(), merged.len());
    let mut n = 0;
    for ((name, old), (new_name, new)) in base.iter().zip(&merged) {
        assert_eq!((name, old.ne), (new_name, new.ne), "{what}");
        let Some(added) = added(name, old, adapters) else {
            assert!(old.ty == new.ty && old.bytes == new.bytes, "{what}: {name} has changed");
            continue;
        };
        assert_eq!(new.ty, ty(old.ty), "{what}: {name}");
        let most = new.numbers.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (i, ((old, new), added)) in old.numbers.iter().zip(&new.numbers).zip(added).enumerate()
        {
            let expected = f64::from(*old) + added;
            let apart = (f64::from(*new) - expected).abs();
            assert!(apart <= bound * f64::from(most), "{what}: {name} {i}: {new} {expected}");
        }
        n += 1;
    }
    n
}

fn models() -> Vec<(&'static str, Vec<u8>)> {
    let archs = ["mixtral", "gpt-oss", "falcon-40b"];
    let archs = archs.map(|name| (name, tiny_archs::bytes(&tiny_archs::spec(name))));
    let sparse = tiny_sparse::SPECS.first().unwrap();
    let gqa = [("gqa", tiny::bytes(&tiny::spec("gqa"))), ("sparse", tiny_sparse::bytes(sparse))];
    gqa.into_iter().chain(archs).collect()
}

#[test]
fn merged_weights_are_the_sum() {
    for (name, model) in models() {
        let shape = Shape { rank: 4, alpha: Some(6.0), ty: F32, gain: 0.3, seed: 3 };
        // The others of other types, and without alpha. Neurons of the sparse model are no whole blocks.
        let second = if name == "sparse" { F16 } else { Q8_0 };
        let bytes = [
            tiny_lora::bytes(&model, shape),
            tiny_lora::bytes(&model, Shape { rank: 32, alpha: None, ty: second, seed: 4, ..shape }),
            tiny_lora::bytes(&model, Shape { rank: 3, alpha: None, ty: F16, seed: 5, ..shape }),
        ];
        let base = file(&format!("{name}.gguf"), &model);
        let paths: Vec<_> =
            bytes.iter().enumerate().map(|(i, b)| file(&format!("{name}-{i}.gguf"), b)).collect();
        let out = scratch("lora").join(format!("{name}-merged.gguf"));
        let merge = |flags: &[&str]| {
            let place = ["-m", &base, "-o", out.to_str().unwrap()];
            let done = run(&sanitized("lora"), &[&place[..], flags].concat());
            assert_eq!(done.text(), "");
            fs::read(&out).unwrap()
        };
        let adapter = |i: usize, scale: f32| {
            (tensors(&bytes[i]), scale, if i == 0 { Some(6.0) } else { None })
        };
        let half = |ty: QuantType| if ty == F32 { F32 } else { F16 };
        let merged = merge(&["--lora", &paths[0]]);
        let n = check(name, &model, &merged, &[adapter(0, 1.0)], half, 5e-4);
        assert_eq!(n, tensors(&bytes[0]).len() / 2, "{name}");
        let file_type =
            gguf::parse(&merged, "merged").unwrap().meta.get("general.file_type").cloned();
        assert!(matches!(file_type, Some(Value::U32(1))), "{file_type:?}");

        let scaled = format!("{}:0.5,{}:-2", paths[1], paths[2]);
        let merged = merge(&["--lora", &paths[0], "--lora-scaled", &scaled, "--outtype", "f32"]);
        let all = [adapter(0, 1.0), adapter(1, 0.5), adapter(2, -2.0)];
        assert_eq!(check(name, &model, &merged, &all, |_| F32, 1e-6), n);
        // In the types of the model: Q4_0 has steps of an eighth of the greatest of 32.
        let merged = merge(&["--lora", &paths[0], "--outtype", "base"]);
        assert_eq!(check(name, &model, &merged, &[adapter(0, 1.0)], |ty| ty, 0.13), n);
    }
}

/// A merged model says what the model with the adapter says.
#[test]
fn a_merged_model_is_the_adapted_one() {
    for name in ["gqa", "mixtral"] {
        let twin = match name {
            "gqa" => tiny::twin_bytes(&tiny::spec(name)),
            _ => tiny_archs::twin_bytes(&tiny_archs::spec(name)),
        };
        let bytes = tiny_lora::pair(&twin, 7);
        let base = file(&format!("{name}-same.gguf"), &twin);
        let paths = [0, 1].map(|i| file(&format!("{name}-same-{i}.gguf"), &bytes[i]));
        let out = scratch("lora").join(format!("{name}-same-merged.gguf"));
        let scaled = format!("{}:0.5", paths[1]);
        let flags = ["-m", &base, "-o", out.to_str().unwrap(), "--lora", &paths[0]];
        run(&example("lora"), &[&flags[..], &["--lora-scaled", &scaled]].concat()).text();

        let load = |bytes: &[u8]| tiny::load(bytes, &LoadOptions::default()).unwrap();
        let tokens = tiny::tokens(20, tiny_archs::N_VOCAB);
        let logits = |ctx: &mut powerinfer::api::Context| {
            common::decode(ctx, &tokens, false);
            ctx.outputs().logits_ith(-1).unwrap().to_vec()
        };
        let merged = load(&fs::read(&out).unwrap());
        let merged = logits(&mut merged.context(common::params(|_| {})).unwrap());
        let model = load(&twin);
        let mut ctx = model.context(common::params(|_| {})).unwrap();
        let plain = logits(&mut ctx);
        let mut ctx = model.context(common::params(|_| {})).unwrap();
        let [a, b] = paths.map(|path| Arc::new(model.lora(&path).unwrap()));
        ctx.set_loras(&[(a, 1.0), (b, 0.5)]).unwrap();
        let adapted = logits(&mut ctx);
        let apart = |a: &[f32], b: &[f32]| {
            let most = b.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            a.iter().zip(b).fold(0.0f32, |d, (a, b)| d.max((a - b).abs())) / most
        };
        assert!(apart(&merged, &adapted) < 1e-4, "{name}: {}", apart(&merged, &adapted));
        assert!(apart(&merged, &plain) > 0.05, "{name}: the adapters do nothing");
    }
}

#[test]
fn it_says_what_it_would_merge() {
    let model = tiny::bytes(&tiny::spec("gqa"));
    let shape = Shape { rank: 4, alpha: Some(6.0), ty: F32, gain: 0.3, seed: 3 };
    let (base, adapter) =
        (file("dry.gguf", &model), file("dry-adapter.gguf", &tiny_lora::bytes(&model, shape)));
    let scaled = format!("{adapter}:2");
    let dry = run(&example("lora"), &["-m", &base, "--lora-scaled", &scaled, "--dry-run"]);
    let line = format!("16, {adapter}: rank 4, scale 3");
    let kept = format!("f32 -> f32, {adapter}: rank 4, scale 3");
    assert!(dry.text().lines().all(|l| l.ends_with(&line) || l.ends_with(&kept)), "{dry:?}");
    assert!(dry.text().starts_with(&format!("token_embd.weight: q4_0 -> f{line}")), "{dry:?}");
    let json = run(&example("lora"), &["-m", &base, "--lora", &adapter, "--dry-run", "--json"]);
    let lines: Vec<serde_json::Value> =
        json.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), dry.text().lines().count());
    assert_eq!(lines[0]["type"], "f16");
    assert_eq!(lines[0]["pairs"][0]["adapter"], adapter.as_str());
    assert_eq!(
        (&lines[0]["pairs"][0]["rank"], &lines[0]["pairs"][0]["scale"]),
        (&4.into(), &1.5.into())
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = tiny::bytes(&tiny::spec("gqa"));
    let shape = Shape { rank: 4, alpha: None, ty: F32, gain: 0.3, seed: 3 };
    let out = scratch("lora").join("refused-out.gguf");
    let out = out.to_str().unwrap();
    let base = file("refused.gguf", &model);
    let good = file("refused-good.gguf", &tiny_lora::bytes(&model, shape));
    let edited = |name: &str, edit: &dyn Fn(&mut gguf::Writer, &mut Vec<tiny::Tensor>)| {
        file(name, &tiny_lora::edited_bytes(&model, shape, |keys, tensors| edit(keys, tensors)))
    };
    let kind = edited("kind.gguf", &|keys, _| {
        keys.set("adapter.type", Value::Str("dora".into())).unwrap();
    });
    let arch = edited("arch.gguf", &|keys, _| {
        keys.set("general.architecture", Value::Str("gpt2".into())).unwrap();
    });
    let alone = edited("alone.gguf", &|_, tensors| {
        tensors.remove(0);
    });
    let unknown = edited("unknown.gguf", &|_, tensors| {
        for t in &mut tensors[..2] {
            t.name = t.name.replace("weight", "height");
        }
    });
    let strange = edited("strange.gguf", &|_, tensors| tensors[0].name = "x".into());
    let other = tiny::bytes(&tiny::spec("tied"));
    let other = file("other-size.gguf", &tiny_lora::bytes(&other, shape));
    for (arguments, reason) in [
        (&["-m", &base, "-o", out][..], "no adapter"),
        (&["-m", &base, "--lora", &good], "-o FILE"),
        (&["--lora", &good, "-o", out], "no model"),
        (&["-m", "absent.gguf", "--lora", &good, "-o", out], "absent.gguf"),
        (&["-m", &base, "--lora", "absent.gguf", "-o", out], "absent.gguf"),
        (&["-m", &base, "--lora", &base, "-o", out], "general.type is not 'adapter'"),
        (&["-m", &base, "--lora-scaled", &good, "-o", out], "FILE:SCALE"),
        (&["-m", &base, "--lora", &good, "-o", out, "--outtype", "q9"], "--outtype is"),
        (&["-m", &base, "--lora", &good, "-o", out, "--outtype", "q4_K"], "no whole blocks"),
        (&["-m", &base, "--lora", &good, "-o", "/"], "cannot write '/'"),
        (&["-m", &base, "--lora", &kind, "-o", out], "adapter.type is not 'lora'"),
        (&["-m", &base, "--lora", &arch, "-o", out], "another architecture"),
        (&["-m", &base, "--lora", &alone, "-o", out], "is alone"),
        (&["-m", &base, "--lora", &unknown, "-o", out], "the model has no"),
        (&["-m", &base, "--lora", &strange, "-o", out], "neither a lora_a nor"),
        (&["-m", &base, "--lora", &other, "-o", out], "do not fit"),
    ] {
        let refused = run(&example("lora"), arguments);
        assert_eq!(refused.code, Some(1), "{reason}");
        assert!(refused.refusal().contains(reason), "{reason}: {refused:?}");
        assert!(!fs::exists(out).unwrap(), "{reason}");
    }
    assert!(run(&example("lora"), &["-h"]).text().contains("--lora-scaled FILE:S,..."));
}
