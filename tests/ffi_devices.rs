//! GPUs through the C interface: what programs are told of them, and models on them. Runs on the
//! fake driver, in children of the tests.
#![allow(unsafe_code, reason = "calls the C interface")]

mod common;
mod cuda_support;

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::{fs, process, ptr};

use powerinfer::ffi::batch::llama_batch_get_one;
use powerinfer::ffi::ext::{
    llama_get_memory_breakdown, llama_model_get_device, llama_model_n_devices,
};
use powerinfer::ffi::ggml::{buffer::*, device::*, opened::*};
use powerinfer::ffi::powerinfer::{powerinfer_get_gpu_memory, powerinfer_gpu_memory};
use powerinfer::ffi::types::*;
use powerinfer::ffi::{context::*, decode::*, load::*, memory::*, params::*, state::*, system::*};

use common::log::logged;
use common::{tiny, tiny_sparse};
use cuda_support::{passes_with, said, with_settings};

const MIB: usize = 1 << 20;
/// What stays free of a card.
const MARGIN: usize = 512 * MIB;
/// Tokens decoded at once; single ones follow.
const BATCH: usize = 20;

fn text(chars: *const c_char) -> &'static str {
    // SAFETY: a string of the library, which lives as long as the process.
    unsafe { CStr::from_ptr(chars) }.to_str().expect("UTF-8")
}

fn temp(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ffi-devices-{}-{name}", process::id()))
}

/// A file of `gqa` with exact weights.
fn model_file() -> CString {
    let path = temp("gqa.gguf");
    fs::write(&path, tiny::twin_bytes(&tiny::spec("gqa"))).expect("target is writable");
    CString::new(path.to_str().expect("UTF-8")).expect("no NUL")
}

/// A loaded model.
struct Loaded(*mut llama_model);

impl Loaded {
    fn try_new(file: &CStr, set: impl FnOnce(&mut llama_model_params)) -> Option<Self> {
        // SAFETY: default parameters that a test changed for others that make sense.
        unsafe {
            let mut params = llama_model_default_params();
            set(&mut params);
            let model = llama_model_load_from_file(file.as_ptr(), params);
            (!model.is_null()).then_some(Self(model))
        }
    }

    fn new(file: &CStr, n_gpu_layers: i32) -> Self {
        Self::try_new(file, |p| p.n_gpu_layers = n_gpu_layers).expect("a model")
    }

    fn n_devices(&self) -> i32 {
        // SAFETY: a model.
        unsafe { llama_model_n_devices(self.0) }
    }

    /// The GPU that it is on.
    fn device(&self) -> Option<&'static str> {
        // SAFETY: a model; no handle for a device that there is not.
        let device = unsafe { llama_model_get_device(self.0, 0) };
        // SAFETY: a device.
        (!device.is_null()).then(|| text(unsafe { ggml_backend_dev_name(device) }))
    }

    /// A context with an exact cache.
    fn context(&self, set: impl FnOnce(&mut llama_context_params)) -> Session {
        // SAFETY: default parameters that a test changed for others that make sense.
        unsafe {
            let mut params = llama_context_default_params();
            (params.n_ctx, params.n_batch, params.n_ubatch) = (256, 256, 32);
            (params.n_threads, params.n_threads_batch) = (1, 1);
            (params.type_k, params.type_v) = (0, 0);
            set(&mut params);
            let ctx = llama_init_from_model(self.0, params);
            assert!(!ctx.is_null());
            Session(ctx)
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { llama_model_free(self.0) }
    }
}

/// A context.
struct Session(*mut llama_context);

impl Session {
    /// Decodes tokens of sequence 0 at its next positions.
    fn decode(&self, tokens: &[i32]) -> i32 {
        let mut tokens = tokens.to_vec();
        // SAFETY: the batch is over the tokens.
        unsafe {
            llama_decode(self.0, llama_batch_get_one(tokens.as_mut_ptr(), tokens.len() as i32))
        }
    }

    fn last(&self) -> Vec<f32> {
        // SAFETY: there are outputs; a row has n_vocab numbers.
        unsafe {
            let logits = llama_get_logits_ith(self.0, -1);
            std::slice::from_raw_parts(logits, tiny::spec("gqa").n_vocab).to_vec()
        }
    }

    /// The logits of the last of these tokens.
    fn go(&self, tokens: &[i32]) -> Vec<f32> {
        assert_eq!(self.decode(tokens), 0);
        self.last()
    }

    fn memory(&self) -> llama_memory_t {
        // SAFETY: a context.
        unsafe { llama_get_memory(self.0) }
    }

    fn state(&self) -> Vec<u8> {
        // SAFETY: the buffer is as large as was said.
        unsafe {
            let mut bytes = vec![0; llama_state_get_size(self.0)];
            assert_eq!(llama_state_get_data(self.0, bytes.as_mut_ptr(), bytes.len()), bytes.len());
            bytes
        }
    }

    fn set_state(&self, bytes: &[u8]) {
        // SAFETY: a slice.
        let read = unsafe { llama_state_set_data(self.0, bytes.as_ptr(), bytes.len()) };
        assert_eq!(read, bytes.len());
    }

    /// Budget, weights, neurons, keys and values, activations; all zero without a GPU.
    fn gpu_memory(&self) -> [usize; 5] {
        let mut found = [0u64; 5];
        let out = (&raw mut found).cast::<powerinfer_gpu_memory>();
        // SAFETY: a context, and room for what is written: five numbers of 64 bits.
        unsafe { powerinfer_get_gpu_memory(self.0, out, size_of_val(&found)) };
        found.map(|bytes| bytes as usize)
    }

    /// What is held by type of buffer: model, context, compute.
    fn breakdown(&self) -> Vec<(&'static str, [usize; 3])> {
        let mut map = [0; 6];
        let mut found = Vec::new();
        // SAFETY: the map of libstdc++ with at most two nodes, the second to the right of the first;
        // a node has four words of the tree, then the key and three numbers.
        unsafe {
            llama_get_memory_breakdown(&raw mut map, self.0);
            let [_, _, root, first, last, n] = map;
            assert_eq!(first, root);
            let mut node = root;
            while node != 0 {
                let words = *(node as *const [usize; 8]);
                let name = text(ggml_backend_buft_name(words[4] as ggml_backend_buffer_type_t));
                found.push((name, [words[5], words[6], words[7]]));
                assert!(words[3] != 0 || node == last);
                node = words[3];
            }
            assert_eq!(found.len(), n);
        }
        found
    }

    fn held(&self, name: &str) -> Option<[usize; 3]> {
        self.breakdown().into_iter().find(|(known, _)| *known == name).map(|(_, held)| held)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { llama_free(self.0) }
    }
}

fn tokens(n: usize) -> Vec<i32> {
    tiny::tokens(n, tiny::spec("gqa").n_vocab)
}

/// Asserts that logits differ by the order of sums alone.
#[track_caller]
fn same(found: &[f32], expected: &[f32], what: &str) {
    let pairs = found.iter().zip(expected);
    let error: f64 = pairs.map(|(&a, &b)| f64::from(a - b).powi(2)).sum();
    let power: f64 = expected.iter().map(|&b| f64::from(b).powi(2)).sum();
    assert!(error / power < 1e-10, "{what}: NMSE {:.1e}", error / power);
}

fn memory(device: ggml_backend_dev_t) -> (usize, usize) {
    let (mut free, mut total) = (0, 0);
    // SAFETY: places to write to.
    unsafe { ggml_backend_dev_memory(device, &raw mut free, &raw mut total) };
    (free, total)
}

/// A number of the fake driver's report.
fn reported(path: &Path, what: &str) -> Option<usize> {
    let report = fs::read_to_string(path).ok()?;
    let line = report.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    line?.parse().ok()
}

#[test]
fn gpus_are_listed_before_the_processor() {
    let settings = [
        ("FAKE_CUDA_DEVICES", "2"),
        ("FAKE_CUDA_MEMORY", "1000000000"),
        ("FAKE_CUDA_CONTEXT", "70000"),
    ];
    // SAFETY: handles of the library.
    passes_with(&settings, || unsafe {
        assert_eq!((ggml_backend_dev_count(), ggml_backend_reg_count()), (3, 2));
        let devices = [0, 1, 2].map(|i| ggml_backend_dev_get(i));
        assert!(ggml_backend_dev_get(3).is_null());
        assert_eq!(devices.map(|d| text(ggml_backend_dev_name(d))), ["CUDA0", "CUDA1", "CPU"]);
        assert_eq!(devices.map(|d| ggml_backend_dev_type(d)), [1, 1, 0]);
        assert_eq!(text(ggml_backend_dev_description(devices[1])), "Fake CUDA device 1");
        assert_eq!(ggml_backend_dev_by_name(c"cuda1".as_ptr()), devices[1]);
        assert!(ggml_backend_dev_by_name(c"CUDA2".as_ptr()).is_null());
        assert_eq!([0, 1].map(|ty| ggml_backend_dev_by_type(ty)), [devices[2], devices[0]]);
        assert_eq!(memory(devices[0]), (999_930_000, 1_000_000_000));

        let mut props = std::mem::MaybeUninit::uninit();
        ggml_backend_dev_get_props(devices[1], props.as_mut_ptr());
        let props: ggml_backend_dev_props = props.assume_init();
        assert_eq!((text(props.name), text(props.device_id)), ("CUDA1", "0000:02:00.0"));
        assert_eq!((props.memory_total, props.r#type), (1_000_000_000, 1));
        assert_eq!((props.caps.host_buffer, props.caps.buffer_from_host_ptr), (1, 0));

        let families = [0, 1].map(|i| ggml_backend_reg_get(i));
        assert!(ggml_backend_reg_get(2).is_null());
        assert_eq!(families.map(|r| text(ggml_backend_reg_name(r))), ["CUDA", "CPU"]);
        assert_eq!(families.map(|r| ggml_backend_reg_dev_count(r)), [2, 1]);
        assert_eq!(ggml_backend_reg_dev_get(families[0], 1), devices[1]);
        assert!(ggml_backend_reg_dev_get(families[0], 2).is_null());
        assert_eq!(ggml_backend_reg_dev_get(families[1], 0), devices[2]);
        assert_eq!(
            devices.map(|d| ggml_backend_dev_backend_reg(d)),
            [families[0], families[0], families[1]]
        );
        assert_eq!(ggml_backend_reg_by_name(c"cuda".as_ptr()), families[0]);

        let types = devices.map(|d| ggml_backend_dev_buffer_type(d));
        assert_eq!(types.map(|t| text(ggml_backend_buft_name(t))), ["CUDA0", "CUDA1", "CPU"]);
        assert_eq!(types.map(|t| ggml_backend_buft_is_host(t)), [false, false, true]);
        assert_eq!(types.map(|t| ggml_backend_buft_get_device(t)), devices);
        assert!(ggml_backend_dev_supports_buft(devices[0], types[0]));
        assert!(!ggml_backend_dev_supports_buft(devices[0], types[1]));
        let ((), lines) =
            logged(|| assert!(ggml_backend_buft_alloc_buffer(types[0], 100).is_null()));
        assert!(matches!(&lines[..], [(4, line)] if line.contains("CUDA0")), "{lines:?}");

        let pinned = ggml_backend_dev_host_buffer_type(devices[0]);
        assert_eq!(text(ggml_backend_buft_name(pinned)), "CUDA_Host");
        assert!(ggml_backend_buft_is_host(pinned));
        let buffer = ggml_backend_buft_alloc_buffer(pinned, 100);
        assert_eq!(ggml_backend_buffer_get_type(buffer), pinned);
        ggml_backend_buffer_clear(buffer, 7);
        assert_eq!(*ggml_backend_buffer_get_base(buffer).cast::<u8>().add(99), 7);
        ggml_backend_buffer_free(buffer);
        assert!(ggml_backend_dev_host_buffer_type(devices[2]).is_null());

        let backend = ggml_backend_init_best();
        assert_eq!(ggml_backend_get_device(backend), devices[0]);
        assert_eq!(text(ggml_backend_name(backend)), "CUDA0");
        ggml_backend_free(backend);
        assert!(llama_supports_gpu_offload());
        let info = text(llama_print_system_info());
        assert!(info.starts_with("CUDA : ARCHS = 750,800 | CPU : "), "{info}");
    });
}

/// Who wants no layers on a GPU does not wait for the driver.
#[test]
fn nobody_asks_the_driver_for_a_model_on_the_cpu() {
    let path = temp("no-report");
    let report = path.to_str().unwrap();
    passes_with(&[("FAKE_CUDA_REPORT", report)], || {
        let (_, lines) = logged(|| {
            let model = Loaded::new(&model_file(), 0);
            assert_eq!((model.n_devices(), model.device()), (0, None));
            model.context(|_| {}).go(&tokens(3));
        });
        assert!(!lines.iter().any(|(_, line)| line.contains("CUDA") || line.contains("GPU")));
        // SAFETY: takes any number.
        assert!(!unsafe { ggml_backend_dev_by_type(0) }.is_null());
    });
    assert!(!path.exists(), "{}", fs::read_to_string(&path).unwrap());
}

/// The same numbers, and memory that is what was said, while it is used and before.
#[test]
fn layers_go_to_the_gpu_by_parameters() {
    cuda_support::once(|| {
        let (file, tokens) = (model_file(), tokens(BATCH + 3));
        let run = |session: &Session| {
            let mut rows = vec![session.go(&tokens[..BATCH])];
            rows.extend(tokens[BATCH..].iter().map(|token| session.go(&[*token])));
            rows.concat()
        };
        let expected = run(&Loaded::new(&file, 0).context(|_| {}));
        // SAFETY: a device.
        let gpu = unsafe { ggml_backend_dev_get(0) };
        let (before, _) = memory(gpu);
        for n_gpu_layers in [1, 2, 99, -1] {
            let planned = Loaded::try_new(&file, |p| {
                (p.n_gpu_layers, p.no_alloc, p.load_mode) = (n_gpu_layers, 1, 0);
            });
            let planned = planned.expect("a model");
            assert_eq!(memory(gpu).0, before, "nothing is allocated");
            let (model, lines) = logged(|| Loaded::new(&file, n_gpu_layers));
            let n = usize::try_from(n_gpu_layers).unwrap_or(4).min(4);
            let line = format!("{n} of 4 layers are on CUDA0 (");
            assert!(lines.iter().any(|(_, l)| l.starts_with(&line)), "{lines:?}, not {line}");
            assert_eq!((model.n_devices(), model.device()), (1, Some("CUDA0")));
            for offload_kqv in [1, 0] {
                let session = model.context(|p| p.offload_kqv = offload_kqv);
                let what = format!("{n_gpu_layers} layers, offload_kqv {offload_kqv}");
                same(&run(&session), &expected, &what);

                let [weights, kv, compute] = session.held("CUDA0").expect("a GPU");
                let (free, _) = memory(gpu);
                assert_eq!(before - free, weights + kv + compute, "{what}");
                // The output alone has neither keys nor values.
                assert_eq!(kv > 0, offload_kqv == 1 && n > 1, "{what}");
                let without = planned.context(|p| p.offload_kqv = offload_kqv);
                let [of_weights, of_kv, of_compute] = without.held("CUDA0").expect("a GPU");
                assert_eq!((of_weights, of_kv), (weights, kv), "{what}");
                assert!(of_compute >= compute, "{what}: {of_compute} for {compute}");
                let [on_host, host_kv, _] = session.held("CPU").expect("the processor");
                let told = session.gpu_memory();
                assert_eq!(told[1..], [weights, 0, kv, compute], "{what}");
                assert!(told[0] > weights + kv + compute, "{what}");
                let whole = model.context(|_| {});
                let all_kv = whole.held("CPU").unwrap()[1] + whole.held("CUDA0").unwrap()[1];
                assert_eq!(host_kv + kv, all_kv, "{what}");
                // SAFETY: a model.
                let size = unsafe { powerinfer::ffi::model::llama_model_size(model.0) } as usize;
                assert!(on_host < size && on_host > 0, "{what}: {on_host} of {size}");
            }
            drop((model, planned));
            assert_eq!(memory(gpu).0, before, "all is given back");
        }
    });
}

/// Activations of networks that skip neurons have the room that was said.
#[test]
fn sparse_models_take_no_more_than_was_said() {
    cuda_support::once(|| {
        let path = temp("sparse.gguf");
        for spec in tiny_sparse::SPECS {
            fs::write(&path, tiny_sparse::bytes(spec)).expect("target is writable");
            let file = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
            let planned = Loaded::try_new(&file, |p| p.no_alloc = 1).expect("a model");
            let model = Loaded::new(&file, -1);
            let session = model.context(|_| {});
            let tokens = tiny::tokens(38, spec.n_vocab);
            for part in [&tokens[..32], &tokens[32..35], &tokens[35..36]] {
                assert_eq!(session.decode(part), 0, "{}", spec.name);
            }
            let [_, _, compute] = session.held("CUDA0").expect("a GPU");
            let [_, _, said] = planned.context(|_| {}).held("CUDA0").expect("a GPU");
            assert!(compute > 0 && compute <= said, "{}: {compute} of {said}", spec.name);
        }
    });
}

/// A driver that fails once is asked again; one that is gone has no free memory.
#[test]
fn memory_is_asked_for_again_after_a_fault() {
    for (lost, free) in [("0", 1_000_000_000), ("1", 0)] {
        let settings = [
            ("FAKE_CUDA_MEMORY", "1000000000"),
            ("FAKE_CUDA_FAIL_NAME", "cuMemGetInfo"),
            ("FAKE_CUDA_FAIL_AT", "1"),
            ("FAKE_CUDA_LOST", lost),
            ("EXPECTED_FREE", if free == 0 { "0" } else { "1000000000" }),
        ];
        passes_with(&settings, || {
            // SAFETY: a device.
            let found = memory(unsafe { ggml_backend_dev_get(0) });
            let free = std::env::var("EXPECTED_FREE").unwrap().parse().unwrap();
            assert_eq!(found, (free, 1_000_000_000));
        });
    }
}

/// Contexts over one model, in threads of their own.
#[test]
fn threads_share_a_gpu() {
    cuda_support::once(|| {
        let (file, tokens) = (model_file(), tokens(BATCH + 6));
        let run = |session: &Session| {
            let mut rows = session.go(&tokens[..BATCH]);
            tokens[BATCH..].iter().for_each(|token| rows.extend(session.go(&[*token])));
            rows
        };
        let expected = run(&Loaded::new(&file, 0).context(|_| {}));
        let model = Loaded::new(&file, -1);
        let model = model.0 as usize;
        std::thread::scope(|scope| {
            let work = || {
                let model = std::mem::ManuallyDrop::new(Loaded(model as *mut llama_model));
                run(&model.context(|_| {}))
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                same(&thread.join().expect("no panic"), &expected, "in a thread");
            }
        });
    });
}

/// Each of these happens to a cache on the GPU as to one of the processor.
#[test]
fn caches_on_the_gpu_do_what_others_do() {
    cuda_support::once(|| {
        let (file, tokens) = (model_file(), tokens(40));
        let models = [0, -1, 2].map(|n| Loaded::new(&file, n));
        for unified in [0, 1] {
            let story = |from: &Loaded, to: &Loaded| {
                let two =
                    |model: &Loaded| model.context(|p| (p.n_seq_max, p.kv_unified) = (2, unified));
                let (first, second, other) = (two(from), two(to), two(from));
                first.go(&tokens[..BATCH]);
                other.go(&tokens[5..9]); // over the same weights
                // SAFETY: the memory of a context.
                unsafe {
                    let memory = first.memory();
                    llama_memory_seq_cp(memory, 0, 1, -1, -1);
                    assert!(llama_memory_seq_rm(memory, 0, 4, 9));
                    llama_memory_seq_add(memory, 0, 9, -1, -5);
                    first.go(&tokens[20..22]);
                    llama_memory_seq_div(memory, 0, 13, -1, 2);
                }
                first.go(&tokens[22..24]);
                second.set_state(&first.state());
                let mut rows = second.go(&tokens[24..30]);
                // What was copied is there too.
                // SAFETY: the memory of a context.
                unsafe {
                    llama_memory_seq_keep(second.memory(), 1);
                    llama_memory_seq_cp(second.memory(), 1, 0, -1, -1);
                }
                first.set_state(&second.state());
                rows.extend(first.go(&tokens[30..32]));
                rows.extend(other.go(&tokens[9..12]));
                // SAFETY: the memory of a context.
                unsafe { llama_memory_clear(first.memory(), 1) };
                rows.extend(first.go(&tokens[32..]));
                rows
            };
            let expected = story(&models[0], &models[0]);
            for (from, to) in [(1, 1), (1, 0), (0, 1), (2, 1)] {
                let what = format!("from {from} to {to}, unified {unified}");
                same(&story(&models[from], &models[to]), &expected, &what);
            }
        }
    });
}

/// One GPU of several, by the rules of `llama.h`.
#[test]
fn the_gpu_is_chosen_by_parameters() {
    passes_with(&[("FAKE_CUDA_DEVICES", "3")], || {
        let file = model_file();
        let load = |set: &dyn Fn(&mut llama_model_params)| {
            let mut device = None;
            let (loaded, lines) = logged(|| {
                let model = Loaded::try_new(&file, set)?;
                device = model.device();
                Some(())
            });
            (loaded.map(|()| device), lines)
        };
        let chosen = |set: &dyn Fn(&mut llama_model_params)| load(set).0.expect("a model");
        let split = |p: &mut llama_model_params, mode, main| {
            (p.split_mode, p.main_gpu) = (mode, main);
        };
        assert_eq!(chosen(&|_| {}), Some("CUDA0"));
        let (_, lines) = load(&|_| {});
        assert!(lines.iter().any(|(_, l)| l.contains("not divided between GPUs")), "{lines:?}");
        assert_eq!(chosen(&|p| split(p, 1, 2)), Some("CUDA2"));
        assert_eq!(chosen(&|p| split(p, 0, 1)), Some("CUDA1"));
        assert_eq!(chosen(&|p| split(p, 0, -1)), None);
        let (failed, lines) = load(&|p| split(p, 0, 3));
        assert!(failed.is_none());
        assert!(lines.iter().any(|(level, l)| *level == 4 && l.contains("main_gpu is 3")));

        let mut shares = [0.0f32; 16];
        shares[..3].copy_from_slice(&[1.0, 3.0, 2.0]);
        assert_eq!(chosen(&|p| p.tensor_split = shares.as_ptr()), Some("CUDA1"));
        let zeros = [0.0f32; 16];
        assert_eq!(chosen(&|p| p.tensor_split = zeros.as_ptr()), Some("CUDA0"));

        // SAFETY: handles of the library.
        let [first, _, third, cpu] = [0, 1, 2, 3].map(|i| unsafe { ggml_backend_dev_get(i) });
        let listed = |list: &[ggml_backend_dev_t]| {
            let mut list = list.to_vec();
            load(&|p| p.devices = list.as_ptr().cast_mut()).0.inspect(|_| list.clear())
        };
        let none = ptr::null_mut();
        assert_eq!(listed(&[none]), Some(None));
        assert_eq!(listed(&[cpu, none]), Some(None));
        assert_eq!(listed(&[third, none]), Some(Some("CUDA2")));
        assert_eq!(listed(&[third, first, none]), Some(Some("CUDA2")));
        assert_eq!(listed(&[ptr::without_provenance_mut(8), none]), None);
    });
}

/// Bytes of `gqa` with an ordinary context beside it, all on a GPU; a little more than that.
const EVERYTHING: usize = 4 * MIB;

/// Layers that there is room for, and never more than was allowed.
#[test]
fn what_does_not_fit_stays_with_the_processor() {
    let path = temp("memory-report");
    let body = || {
        let (file, tokens) = (model_file(), tokens(BATCH));
        let expected = Loaded::new(&file, 0).context(|_| {}).go(&tokens);
        let model = Loaded::new(&file, -1);
        // The first ones find room for keys and values, or for activations, the last ones do not.
        let sessions: Vec<_> = (0..5).map(|_| model.context(|p| p.n_ctx = 512)).collect();
        for session in &sessions {
            same(&session.go(&tokens), &expected, "with little memory");
        }
    };
    // Layers on the GPU, and the most bytes in use.
    let run = |settings: &[(&str, &str)]| {
        let report = ("FAKE_CUDA_REPORT", path.to_str().unwrap());
        let all: Vec<_> = settings.iter().copied().chain([report]).collect();
        let output = with_settings(&all, body)?;
        let text = said(&output);
        assert!(output.status.success(), "with {settings:?}:\n{text}");
        let layers = text.lines().find_map(|line| line.split_once(" of 4 layers are on CUDA0"))?.0;
        Some((layers.parse::<usize>().expect("a number"), reported(&path, "peak_bytes")?))
    };
    let mut counts = Vec::new();
    for eighths in 0..=8 {
        let allowed = EVERYTHING * eighths / 8;
        let total = (MARGIN + allowed).to_string();
        let Some((layers, used)) = run(&[("FAKE_CUDA_MEMORY", &total)]) else { return };
        assert!(used <= allowed, "{used} of {allowed} bytes");
        let gib = (allowed as f64 / (1u64 << 30) as f64).to_string();
        let by_budget = run(&[("POWERINFER_VRAM_BUDGET", &gib)]).expect("as above");
        assert!(by_budget.1 <= allowed + 256, "{by_budget:?} of {allowed} bytes");
        counts.push(layers);
    }
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!((counts[0], counts[8]), (0, 4));
    assert!(counts.iter().any(|n| (1..4).contains(n)), "{counts:?}");
}

/// Whatever call of the driver fails, and whether the GPU is lost with it: the right numbers from the
/// processor, or an error that leaves an empty context that works.
#[test]
fn any_call_of_the_driver_may_fail() {
    let body = || {
        let (file, tokens) = (model_file(), tokens(BATCH + 2));
        let expected = {
            let session = Loaded::new(&file, 0).context(|_| {});
            session.go(&tokens[..BATCH]);
            session.go(&tokens[BATCH..])
        };
        let model = Loaded::new(&file, -1);
        let session = model.context(|_| {});
        let go = || {
            let codes = [&tokens[..BATCH], &tokens[BATCH..]].map(|part| session.decode(part));
            codes.into_iter().find(|code| *code != 0).unwrap_or(0)
        };
        if go() < 0 {
            // SAFETY: the memory of a context.
            unsafe { llama_memory_clear(session.memory(), 1) };
            assert_eq!(go(), 0, "the processor takes over");
        }
        same(&session.last(), &expected, "after a fault");
        session.state();
    };
    let path = temp("calls-report");
    passes_with(&[("FAKE_CUDA_REPORT", path.to_str().unwrap())], body);
    let calls = reported(&path, "calls").expect("a report");
    // The first ones are all different; later ones are those of the steps.
    let mut places: Vec<usize> = (1..=16).collect();
    places.extend((1..=16).map(|i| 16 + (calls - 16) * i / 16));
    for place in places {
        for lost in ["0", "1"] {
            let place = place.to_string();
            let settings = [("FAKE_CUDA_FAIL_AT", place.as_str()), ("FAKE_CUDA_LOST", lost)];
            let Some(output) = with_settings(&settings, body) else { return };
            assert!(output.status.success(), "with {settings:?}:\n{}", said(&output));
        }
    }
}
