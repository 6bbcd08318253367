//! Files around the placement of neurons: where counts come from, the index that is kept beside a
//! model, and PowerInfer's. Its own, in `data/gpuidx`, are made by `tools/gpuidx_goldens.py`.

mod common;

use std::path::{Path, PathBuf};

use common::known_neurons::{self, N_FF, N_LAYER};
use common::log::logged;
use common::{tiny, tiny_archs};
use powerinfer::gguf::{
    Array, KvOverride, LoadOptions, Magic, ModelFiles, OverrideValue, Value, Writer,
};
use powerinfer::model::{Fingerprint, Model};
use powerinfer::plan::Skipping;
use powerinfer::quant::QuantType;
use powerinfer::sparse::placement::{
    Basis, GpuIndex, Home, IndexPlaces, Layer, Machine, MadeFor, Placement, Problem, find_counts,
    place,
};
use powerinfer::sparse::{ActivationCounts, CountedModel, LayerCounts};

const MODEL: Fingerprint = Fingerprint(0x0123_4567_89ab_cdef);
const BYTES: u64 = 100;
/// Bytes for 80 of the 288 neurons.
const CAP: u64 = 80 * BYTES;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("placement").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The upper half of each layer fires, in later layers more often.
fn counts() -> ActivationCounts {
    let layer = |il: usize| LayerCounts {
        tokens: 100,
        counts: (0..N_FF).map(|id| if id < N_FF / 2 { 1 } else { 20 * (il as u32 + 1) }).collect(),
    };
    ActivationCounts { model: None, layers: (0..N_LAYER).map(layer).collect() }
}

fn problem(counts: Option<&ActivationCounts>, cap: u64) -> Problem<'_> {
    let layer = |il| Layer {
        n_ff: N_FF,
        neuron_bytes: BYTES,
        always_read: 0.0,
        home: Home::Gpu,
        counts: counts.map(|counts: &ActivationCounts| &counts.layers[il]),
    };
    let machine = Machine { gpu_bytes_per_s: 1e12, cpu_bytes_per_s: 5e10, crossing_s: 2e-5 };
    Problem { layers: (0..N_LAYER).map(layer).collect(), machine, cap }
}

fn made_for(problem: &Problem<'_>) -> MadeFor {
    MadeFor::new(problem, MODEL, "a card, a processor", "q4_0")
}

fn index(problem: &Problem<'_>) -> GpuIndex {
    let placement = place(problem).unwrap();
    GpuIndex { made_for: made_for(problem), figures: problem.machine, placement }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gpuidx").join(name)
}

/// What is in the golden files.
fn hot_of_goldens() -> Vec<Vec<u32>> {
    vec![(0..96).step_by(3).collect(), vec![], (48..96).collect()]
}

#[test]
fn an_index_comes_back_as_it_went() {
    let path = folder("round").join("m.gpuidx");
    let counts = counts();
    for problem in [problem(Some(&counts), CAP), problem(None, CAP), problem(None, u64::MAX)] {
        let index = index(&problem);
        index.write(&path).unwrap();
        assert_eq!(GpuIndex::read(&path).unwrap(), index);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

#[test]
fn an_index_is_for_what_it_was_made_for() {
    let counts = counts();
    let now = problem(Some(&counts), CAP);
    let index = index(&now);
    index.is_for(&made_for(&now)).unwrap();
    // What was measured anew is no reason, nor is a little more or less memory.
    let mut measured = now.clone();
    measured.machine.cpu_bytes_per_s *= 1.1;
    index.is_for(&made_for(&measured)).unwrap();
    index.is_for(&made_for(&problem(Some(&counts), CAP + CAP / 64))).unwrap();

    let refused = |change: &dyn Fn(&mut MadeFor)| {
        let mut now = made_for(&now);
        change(&mut now);
        index.is_for(&now).unwrap_err()
    };
    assert!(refused(&|now| now.fingerprint = "0".into()).contains("for model"));
    assert!(refused(&|now| now.machine = "another card".into()).contains("another card"));
    assert!(refused(&|now| now.weights = "q8_0".into()).contains("'q4_0', this is 'q8_0'"));
    assert!(refused(&|now| now.neuron_bytes[1] += 1).contains("shapes"));
    assert!(refused(&|now| now.n_ff[2] += 1).contains("shapes"));
    assert!(refused(&|now| now.cap += CAP / 32).contains("a budget of 8000 bytes, this is 8250"));
    assert!(
        refused(&|now| now.cap = index.placement.predict(&problem(None, 0)).bytes() - 1)
            .contains("budget")
    );
    let activity = |change: fn(&mut Layer<'_>)| {
        let mut other = now.clone();
        change(&mut other.layers[1]);
        index.is_for(&made_for(&other)).unwrap_err()
    };
    for changed in [
        activity(|layer| layer.counts = None),
        activity(|layer| layer.always_read = 1.0 / 3.0),
        activity(|layer| layer.home = Home::Cpu),
    ] {
        assert!(changed.contains("other counts of activations"), "{changed}");
    }
    // All neurons are no fewer with more memory.
    let all = problem(None, 1 << 20);
    let whole = self::index(&all);
    assert!(whole.placement.hot.iter().all(|hot| hot.len() == N_FF));
    whole.is_for(&made_for(&problem(None, 1 << 30))).unwrap();
}

/// Cut and changed files are errors or other lists, which are still good ones.
#[test]
fn damaged_files_are_no_danger() {
    let folder = folder("damaged");
    let counts = counts();
    let now = problem(Some(&counts), CAP);
    let path = folder.join("own.gpuidx");
    index(&now).write(&path).unwrap();
    let own = std::fs::read(&path).unwrap();
    let theirs = std::fs::read(golden("buckets.gpuidx")).unwrap();
    let (cut, places) =
        (folder.join("cut"), |path: &Path| IndexPlaces::new(MODEL, None, Some(path)));
    let good = |placement: &Placement| {
        assert_eq!(placement.hot.len(), N_LAYER);
        assert!(placement.hot.iter().flatten().all(|&id| (id as usize) < N_FF));
        assert!(placement.hot.iter().all(|hot| hot.is_sorted_by(|a, b| a < b)));
        assert!(placement.predict(&now).bytes() <= CAP);
    };
    for bytes in [own, theirs] {
        for n in (0..bytes.len()).step_by(7) {
            std::fs::write(&cut, &bytes[..n]).unwrap();
            assert!(GpuIndex::read(&cut).is_err(), "{n} of {} bytes", bytes.len());
            let (placement, _) = logged(|| places(&cut).place(&now, made_for(&now), false));
            good(&placement.unwrap());
        }
        for at in (0..bytes.len()).step_by(3) {
            for flip in [1, 0x80] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                std::fs::write(&cut, &bytes).unwrap();
                let (placement, _) = logged(|| places(&cut).place(&now, made_for(&now), false));
                good(&placement.unwrap());
            }
        }
    }
}

#[test]
fn a_placement_is_kept_until_something_differs() {
    let folder = folder("kept");
    let model = folder.join("m.gguf");
    let places = IndexPlaces::new(MODEL, Some(&model), None);
    let counts = counts();
    let first = problem(Some(&counts), CAP);
    let run = |problem: &Problem<'_>, reset| {
        let (placement, lines) =
            logged(|| places.place(problem, made_for(problem), reset).unwrap());
        (placement, lines.into_iter().map(|(_, text)| text).collect::<String>())
    };
    let (placed, lines) = run(&first, false);
    assert!(lines.contains("kept in") && lines.contains("m.gguf.gpuidx"), "{lines}");
    assert_eq!((placed.basis, &placed), (Basis::Counts, &place(&first).unwrap()));

    // Another list under the same name shows what is read and what is made.
    let mut other = index(&first);
    other.placement.hot = vec![vec![], vec![7], vec![1, 2]];
    let write = || other.write(&folder.join("m.gguf.gpuidx")).unwrap();
    write();
    let (kept, lines) = run(&first, false);
    assert!(kept == other.placement && lines.contains("as kept in"), "{lines}");
    let (anew, lines) = run(&first, true);
    assert!(anew == placed && !lines.contains("as kept in"), "{lines}");
    assert_eq!(run(&first, false).0, placed, "written over");

    write();
    let (larger, lines) = run(&problem(Some(&counts), 2 * CAP), false);
    assert!(lines.contains("made for a budget of 8000 bytes, this is 16000"), "{lines}");
    assert!(larger.predict(&first).bytes() > CAP);
    assert!(run(&problem(Some(&counts), 2 * CAP), false).1.contains("as kept in"));
}

#[test]
fn powerinfers_index_is_used() {
    let folder = folder("theirs");
    let model = folder.join("m.gguf");
    let run = |explicit: Option<&Path>, problem: &Problem<'_>| {
        let places = IndexPlaces::new(MODEL, Some(&model), explicit);
        let (placement, lines) =
            logged(|| places.place(problem, made_for(problem), false).unwrap());
        (placement, lines.into_iter().map(|(_, text)| text).collect::<String>())
    };
    let counts = counts();
    // Named by the user: just these, whatever the counts say.
    for name in ["plain.gpuidx", "buckets.gpuidx"] {
        let named = folder.join(name);
        std::fs::copy(golden(name), &named).unwrap();
        for counts in [None, Some(&counts)] {
            let (placed, lines) = run(Some(&named), &problem(counts, 1 << 20));
            assert_eq!(
                (placed.basis, &placed.hot),
                (Basis::PowerInfer, &hot_of_goldens()),
                "{lines}"
            );
        }
        // Not beyond the budget; the file is nobody else's to write.
        let (placed, lines) = run(Some(&named), &problem(None, CAP - 1));
        assert!(lines.contains("8000 bytes, 7999 are there for neurons"), "{lines}");
        assert!(lines.contains("no index of ours: left as it is"), "{lines}");
        assert_eq!(placed.basis, Basis::Even);
        assert_eq!(std::fs::read(&named).unwrap(), std::fs::read(golden(name)).unwrap());
    }

    // Beside the model: where nothing better is known, with what the budget has left.
    let theirs = folder.join("m.gguf.generated.gpuidx");
    let now = problem(None, CAP + 33 * BYTES);
    assert_eq!(run(None, &now).0.basis, Basis::Even);
    std::fs::copy(golden("plain.gpuidx"), &theirs).unwrap();
    let later = |seconds| {
        let then = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
        std::fs::File::options().append(true).open(&theirs).unwrap().set_modified(then).unwrap();
    };
    later(100);
    let (placed, lines) = run(None, &now);
    assert!(lines.contains("is older than PowerInfer's"), "{lines}");
    assert_eq!(placed.basis, Basis::PowerInfer);
    assert_eq!(placed.hot[0].len(), 32 + 32, "one group more, to the first layer");
    assert_eq!(placed.hot[1..], hot_of_goldens()[1..]);
    assert!((0..96).step_by(3).all(|id| placed.hot[0].contains(&id)));
    // That is kept, also with a little more or less memory.
    later(0);
    assert_eq!(run(None, &now).0, placed);
    // Times of files are those of the last tick of the clock.
    std::thread::sleep(std::time::Duration::from_millis(20));
    run(None, &problem(None, CAP));
    let (kept, lines) = run(None, &problem(None, CAP + CAP / 100));
    assert!(lines.contains("as kept in"), "{lines}");
    assert_eq!((kept.basis, &kept.hot), (Basis::PowerInfer, &hot_of_goldens()));
    assert_eq!(run(None, &problem(Some(&counts), CAP)).0.basis, Basis::Counts);
}

/// An index of PowerInfer's kind.
fn theirs(n_layers: u32, edit: impl FnOnce(&mut Writer, &mut Vec<(String, Vec<i32>)>)) -> Vec<u8> {
    let mut out = Writer::new(Magic::Pwri);
    out.set("general.architecture", Value::Str("generic.gpu_index".into())).unwrap();
    out.set("generic.gpu_index.block_count", Value::U32(n_layers)).unwrap();
    let layer = |il| [(format!("blk.{il}.gpu_idx"), vec![1; N_FF])];
    let mut tensors: Vec<_> = (0..n_layers).flat_map(layer).collect();
    edit(&mut out, &mut tensors);
    for (name, numbers) in &tensors {
        out.add_tensor(name, &[numbers.len() as u64], QuantType::I32).unwrap();
    }
    let mut out = out.start(Vec::new()).unwrap();
    for (_, numbers) in &tensors {
        out.write(&numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn powerinfers_index_of_another_model_is_not() {
    let path = folder("others").join("named");
    let now = problem(None, 1 << 20);
    let lines_of = |bytes: Vec<u8>| {
        std::fs::write(&path, bytes).unwrap();
        let places = IndexPlaces::new(MODEL, None, Some(&path));
        let (placed, lines) = logged(|| places.place(&now, made_for(&now), false).unwrap());
        let lines: String = lines.into_iter().map(|(_, text)| text).collect();
        (placed.basis, lines)
    };
    let refused = |bytes: Vec<u8>, why: &str| {
        let (basis, lines) = lines_of(bytes);
        assert!(basis == Basis::Even && lines.contains(why), "{lines}, not {why}");
    };
    assert_eq!(lines_of(theirs(3, |_, _| ())).0, Basis::PowerInfer);
    refused(theirs(2, |_, _| ()), "2 layers, the model has 3");
    refused(theirs(3, |_, t| t[1].1.truncate(95)), "'blk.1.gpu_idx' has 95 numbers, expected 96");
    refused(
        theirs(3, |_, t| t[1].1.push(0)),
        "'blk.1.gpu_idx' is i32 [97], expected I32 [up to 96]",
    );
    refused(theirs(3, |_, t| t[2].1[7] = 2), "each 0 or 1");
    refused(theirs(3, |_, t| t[2].1[7] = -1), "each 0 or 1");
    refused(theirs(3, |_, t| t[0].0 = "blk.7.gpu_idx".into()), "'blk.0.gpu_idx' is missing");
    let bucket = |ids: Vec<i32>| theirs(3, |_, t| t.push(("blk.0.gpu_bucket".into(), ids)));
    assert_eq!(lines_of(bucket((0..96).collect())).0, Basis::PowerInfer);
    refused(bucket((0..95).collect()), "names other neurons than 'blk.0.gpu_idx'");
    refused(bucket((0..96).rev().collect()), "no ascending list");
    refused(bucket((1..97).collect()), "no ascending list");
    let architecture = |w: &mut Writer| {
        w.set("general.architecture", Value::Str("llama".into())).unwrap();
    };
    refused(theirs(3, |w, _| architecture(w)), "architecture 'llama' and magic PWRI");
    refused(b"no index at all".to_vec(), "not a GGUF file");
}

/// The tiny model in a folder, with these counts inside.
fn model(folder: &Path, inside: Option<&ActivationCounts>) -> (PathBuf, Model) {
    let path = folder.join("m.gguf");
    let spec =
        tiny_archs::Spec { ffn: tiny_archs::Ffn::Gated, keys: &[], ..tiny_archs::spec("mixtral") };
    let bytes = tiny_archs::edited_bytes(&spec, |keys, tensors| {
        for (il, layer) in inside.into_iter().flat_map(|counts| &counts.layers).enumerate() {
            let tokens = vec![layer.tokens; N_LAYER];
            let tokens = Value::Array(Array::U64(tokens));
            keys.set("powerinfer.activation.layer_tokens", tokens).unwrap();
            tensors.push(tiny::Tensor {
                name: format!("blk.{il}.activation_count"),
                dims: vec![layer.counts.len()],
                ty: QuantType::I32,
                data: layer.counts.iter().flat_map(|n| n.to_le_bytes()).collect(),
            });
        }
    });
    std::fs::write(&path, bytes).unwrap();
    let files = ModelFiles::open(&path, &LoadOptions::default()).unwrap();
    let model = Model::load(files, false, Skipping::Zeros, &mut |_| true).unwrap();
    (path, model)
}

#[test]
fn counts_are_found_where_they_may_be() {
    let (folder, n_ff) = (folder("counts"), [N_FF; N_LAYER]);
    let find = |model: &Model, path: &Path| {
        let (found, lines) = logged(|| find_counts(model, Some(path), &n_ff));
        (found, lines.into_iter().map(|(_, text)| text).collect::<String>())
    };
    let (path, plain) = model(&folder, None);
    assert_eq!(find(&plain, &path), (None, String::new()));

    // Saved by the engine.
    let saved = folder.join("m.gguf.activation.gguf");
    let own = CountedModel { architecture: "llama".into(), n_embd: 64 };
    let mut counts = ActivationCounts { model: Some(own), ..counts() };
    counts.layers[1] = LayerCounts::default();
    counts.save(&saved).unwrap();
    assert_eq!(ActivationCounts::load(&saved).unwrap(), counts);
    let (found, lines) = find(&plain, &path);
    assert_eq!(found.as_ref(), Some(&counts), "{lines}");
    assert!(lines.contains("counts of activations from") && lines.contains(".activation.gguf"));

    // In the file itself: those count first, and no line says that tensors are not used.
    let inside = ActivationCounts { model: None, ..self::counts() };
    let ((_, with_counts), lines) = logged(|| model(&folder, Some(&inside)));
    assert!(lines.iter().all(|(_, text)| !text.contains("not used")), "{lines:?}");
    assert_eq!(find(&with_counts, &path).0, Some(inside));

    // Another model's.
    let wrong = |change: fn(&mut ActivationCounts), why: &str| {
        let mut counts = counts.clone();
        change(&mut counts);
        counts.save(&saved).unwrap();
        let (found, lines) = find(&plain, &path);
        assert!(found.is_none() && lines.contains(why), "{lines}, not {why}");
    };
    wrong(|counts| counts.layers.truncate(2), "2 layers, the model has 3");
    wrong(|counts| counts.layers[2].counts.truncate(95), "layer 2 has 95 neurons, in the model 96");
    wrong(
        |counts| counts.model.as_mut().unwrap().architecture = "opt".into(),
        "architecture 'opt'",
    );
    // Damaged: no counts, no panic.
    counts.save(&saved).unwrap();
    let bytes = std::fs::read(&saved).unwrap();
    for n in (0..bytes.len()).step_by(11) {
        std::fs::write(&saved, &bytes[..n]).unwrap();
        assert!(ActivationCounts::load(&saved).is_err(), "{n} of {} bytes", bytes.len());
    }
    std::fs::write(&saved, "no counts").unwrap();
    assert!(find(&plain, &path).1.contains("not a GGUF file"));
    std::fs::remove_file(&saved).unwrap();

    // PowerInfer's folder, by real files of PyTorch: 40 neurons in 2 layers, none of this model.
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/activation");
    std::fs::create_dir(folder.join("activation")).unwrap();
    for il in 0..2 {
        let name = format!("activation_{il}.pt");
        std::fs::copy(real.join(&name), folder.join("activation").join(&name)).unwrap();
    }
    let (found, lines) = find(&plain, &path);
    assert!(found.is_none() && lines.contains("2 layers, the model has 3"), "{lines}");
    let found = logged(|| find_counts(&plain, Some(&path), &[40, 40])).0;
    assert_eq!(found.unwrap().layers[1].counts[..3], [3, 10, 17]);
}

#[test]
fn known_neurons_are_known() {
    // What the engine counts is what is placed: every fourth neuron fires, and these are hot.
    let bytes = known_neurons::bytes();
    let (key, value) = ("powerinfer.sparse".into(), OverrideValue::Str("exact".into()));
    let options =
        LoadOptions { kv_overrides: vec![KvOverride { key, value }], ..Default::default() };
    let model = tiny::load(&bytes, &options).unwrap();
    let mut ctx = model.context(common::params(|_| ())).unwrap();
    ctx.count_activations(true);
    common::decode(&mut ctx, &[9, 10, 11], false);
    let counts = ctx.activation_counts().unwrap();
    let placed = place(&problem(Some(&counts), 32 * BYTES)).unwrap();
    let hot: Vec<_> = placed.hot.iter().filter(|hot| !hot.is_empty()).collect();
    assert_eq!((hot.len(), hot[0].len()), (1, 32));
    assert!((0..N_FF as u32).step_by(known_neurons::FIRES).all(|id| hot[0].contains(&id)));
}
