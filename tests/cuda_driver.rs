//! The fake CUDA driver proves itself: it says what devices and memory there are, fails where it
//! is told to, runs work only when something waits for it, and its emulator catches what would go
//! wrong on a card.
#![allow(unsafe_code, reason = "calls the driver as the backend does, without the backend")]
#![allow(clippy::print_stdout, reason = "a child says how far it came")]

mod cuda_support;

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cuda_support::{ORDERS, every_order, passes_with, said, with_settings};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, ValidAsZeroBits, result,
};

fn context() -> Arc<CudaContext> {
    // SAFETY: only looks whether the library can be loaded.
    assert!(unsafe { sys::is_culib_present() }, "the fake library is found");
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the tests order their work by hand.
    unsafe { context.disable_event_tracking() };
    context
}

/// What a kernel takes.
enum Arg {
    Pointer(u64),
    Int(i32),
    Float(f32),
}

fn at<T>(values: &CudaSlice<T>, stream: &CudaStream) -> Arg {
    Arg::Pointer(values.device_ptr(stream).0)
}

/// Launches a kernel of probe.cu.
fn launch(
    stream: &CudaStream,
    kernel: &str,
    (blocks, threads): (u32, u32),
    args: &[Arg],
) -> Result<(), DriverError> {
    let mut pointers: Vec<*mut c_void> = args
        .iter()
        .map(|arg| match arg {
            Arg::Pointer(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Arg::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Arg::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
        })
        .collect();
    let name = CString::new(kernel).unwrap();
    // SAFETY: the image is a terminated text; the arguments are those of the kernels in probe.cu,
    // and the buffers of as many values as the tests say.
    unsafe {
        let module = result::module::load_data(c"probe".as_ptr().cast())?;
        let function = result::module::get_function(module, name)?;
        let (grid, block) = ((blocks, 1, 1), (threads, 1, 1));
        result::launch_kernel(function, grid, block, 0, stream.cu_stream(), &mut pointers)
    }
}

#[test]
fn one_device_is_there() {
    passes_with(&[("FAKE_CUDA_MEMORY", "1000000"), ("FAKE_CUDA_CONTEXT", "1000")], || {
        let context = context();
        assert_eq!(CudaContext::device_count().unwrap(), 1);
        assert_eq!(context.compute_capability().unwrap(), (8, 0));
        assert_eq!(result::mem_get_info().unwrap(), (999_000, 1_000_000));
        let stream = context.new_stream().unwrap();
        let held = stream.alloc_zeros::<u8>(900_000).unwrap();
        assert_eq!(result::mem_get_info().unwrap(), (99_000, 1_000_000));
        let error = stream.alloc_zeros::<u8>(100_000).unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        drop(held);
        stream.synchronize().unwrap();
        assert_eq!(result::mem_get_info().unwrap(), (999_000, 1_000_000));
    });
}

#[test]
fn no_device_is_there() {
    passes_with(&[("FAKE_CUDA_DEVICES", "0")], || {
        // SAFETY: as above.
        assert!(unsafe { sys::is_culib_present() });
        assert_eq!(result::init().unwrap_err().0, CUresult::CUDA_ERROR_NO_DEVICE);
    });
}

/// The call that is named fails, once; with "lost" so does everything behind it.
#[test]
fn calls_fail_where_they_are_told_to() {
    let failing = [("FAKE_CUDA_FAIL_AT", "2"), ("FAKE_CUDA_FAIL_NAME", "cuMemAlloc")];
    passes_with(&failing, || {
        let stream = context().new_stream().unwrap();
        let _first = stream.alloc_zeros::<u8>(10).unwrap();
        let error = stream.alloc_zeros::<u8>(10).unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        stream.alloc_zeros::<u8>(10).unwrap();
    });
}

#[test]
fn a_lost_device_stays_lost() {
    let lost = [
        ("FAKE_CUDA_FAIL_AT", "1"),
        ("FAKE_CUDA_FAIL_NAME", "cuStreamCreate"),
        ("FAKE_CUDA_LOST", "1"),
    ];
    passes_with(&lost, || {
        let context = context();
        assert!(context.new_stream().is_err());
        assert!(context.synchronize().is_err());
    });
}

#[test]
fn kernels_compute_in_every_order() {
    every_order(|| {
        let context = context();
        let stream = context.new_stream().unwrap();
        let x = stream.clone_htod(&vec![3.0_f32; 1000]).unwrap();
        let y = stream.clone_htod(&vec![1.0_f32; 1000]).unwrap();
        launch(
            &stream,
            "probe_axpy",
            (4, 256),
            &[Arg::Float(2.0), at(&x, &stream), at(&y, &stream), Arg::Int(1000)],
        )
        .unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![7.0; 1000]);

        let from: Vec<i32> = (0..256).collect();
        let (input, output) =
            (stream.clone_htod(&from).unwrap(), stream.alloc_zeros::<i32>(256).unwrap());
        launch(
            &stream,
            "probe_reverse",
            (4, 64),
            &[at(&input, &stream), at(&output, &stream), Arg::Int(1)],
        )
        .unwrap();
        let reversed = stream.clone_dtoh(&output).unwrap();
        assert!(reversed.chunks(64).zip(from.chunks(64)).all(|(a, b)| a.iter().rev().eq(b)));
    });
}

/// Without the barrier, two of the orders at least give something else.
#[test]
fn a_missing_barrier_is_seen() {
    let wrong = ORDERS.iter().filter(|order| {
        let output = with_settings(&[("FAKE_CUDA_ORDER", order)], || {
            let context = context();
            let stream = context.new_stream().unwrap();
            let from: Vec<i32> = (0..64).collect();
            let (input, output) =
                (stream.clone_htod(&from).unwrap(), stream.alloc_zeros::<i32>(64).unwrap());
            launch(
                &stream,
                "probe_reverse",
                (1, 64),
                &[at(&input, &stream), at(&output, &stream), Arg::Int(0)],
            )
            .unwrap();
            assert!(stream.clone_dtoh(&output).unwrap().iter().rev().eq(&from), "not reversed");
        });
        output.is_none_or(|output| said(&output).contains("not reversed"))
    });
    assert!(wrong.count() >= 2);
}

/// What would hang or trap on a card ends the process, with a line that says where.
fn ends_with(output: Option<std::process::Output>, line: &str) {
    let Some(output) = output else { return };
    assert!(!output.status.success() && said(&output).contains(line), "{}", said(&output));
}

#[test]
fn a_lane_that_leaves_early_is_caught() {
    let output = with_settings(&[], || {
        let context = context();
        let stream = context.new_stream().unwrap();
        let input = stream.clone_htod(&[1_i32; 64]).unwrap();
        let output = stream.alloc_zeros::<i32>(64).unwrap();
        for early in [0_i32, 1] {
            launch(
                &stream,
                "probe_warp_sum",
                (1, 64),
                &[at(&input, &stream), at(&output, &stream), Arg::Int(early)],
            )
            .unwrap();
            assert_eq!(stream.clone_dtoh(&output).unwrap(), [32; 64], "early {early}");
        }
    });
    ends_with(output, "a lane has returned before a meeting that names it");
}

#[test]
fn a_divergent_barrier_is_caught() {
    let output = with_settings(&[("FAKE_CUDA_ORDER", "1")], || {
        let context = context();
        let stream = context.new_stream().unwrap();
        let output = stream.alloc_zeros::<i32>(64).unwrap();
        launch(&stream, "probe_divergent", (1, 64), &[at(&output, &stream)]).unwrap();
        let _ = stream.synchronize();
    });
    ends_with(output, "__syncthreads after a thread of the block has returned");
}

#[test]
fn a_misaligned_load_is_caught() {
    let output = with_settings(&[], || {
        let context = context();
        let stream = context.new_stream().unwrap();
        let input = stream.clone_htod(&[1_u8; 1024]).unwrap();
        let output = stream.alloc_zeros::<u8>(512).unwrap();
        for by in [16_i32, 8] {
            launch(
                &stream,
                "probe_misaligned",
                (1, 32),
                &[at(&input, &stream), at(&output, &stream), Arg::Int(by)],
            )
            .unwrap();
            stream.synchronize().unwrap();
            println!("by {by} passed");
        }
    });
    if let Some(output) = output {
        let said = said(&output);
        assert!(said.contains("by 16 passed") && !output.status.success(), "{said}");
    }
}

/// Shared memory starts as poison in every block, also behind a block that wrote there.
#[test]
fn shared_memory_starts_poisoned() {
    every_order(|| {
        let context = context();
        let stream = context.new_stream().unwrap();
        let output = stream.alloc_zeros::<u32>(96).unwrap();
        launch(&stream, "probe_unwritten", (3, 32), &[at(&output, &stream)]).unwrap();
        assert_eq!(stream.clone_dtoh(&output).unwrap(), [0xCDCD_CDCD; 96]);
    });
}

/// A block beyond the kernel's launch bounds is refused, as on a card.
#[test]
fn launch_bounds_are_kept() {
    passes_with(&[], || {
        let context = context();
        let stream = context.new_stream().unwrap();
        let output = stream.alloc_zeros::<i32>(128).unwrap();
        let error =
            launch(&stream, "probe_divergent", (1, 128), &[at(&output, &stream)]).unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    });
}

/// The matrix instructions against plain sums.
#[test]
fn matrix_instructions_multiply() {
    passes_with(&[], || {
        let context = context();
        let stream = context.new_stream().unwrap();
        let a: Vec<i8> = (0..16 * 32).map(|i| (i * 37 % 251) as i8).collect();
        let b: Vec<i8> = (0..32 * 8).map(|i| (i * 53 % 241) as i8).collect();
        let at = |row: usize, column: usize| -> i32 {
            (0..32).map(|k| i32::from(a[row * 32 + k]) * i32::from(b[k * 8 + column])).sum()
        };
        let expected: Vec<i32> = (0..128).map(|i| at(i / 8, i % 8)).collect();
        let got = multiply::<i8, i32>(&stream, "probe_mma_s8", &a, &b);
        assert_eq!(got, expected);

        let half = |i: usize| half::f16::from_f32((i * 29 % 61) as f32 / 8.0 - 3.5);
        let a: Vec<half::f16> = (0..16 * 16).map(half).collect();
        let b: Vec<half::f16> = (100..100 + 16 * 8).map(half).collect();
        let at = |row: usize, column: usize| -> f32 {
            (0..16).map(|k| a[row * 16 + k].to_f32() * b[k * 8 + column].to_f32()).sum()
        };
        let expected: Vec<f32> = (0..128).map(|i| at(i / 8, i % 8)).collect();
        let bits = |values: &[half::f16]| values.iter().map(|v| v.to_bits()).collect::<Vec<u16>>();
        let got = multiply::<u16, f32>(&stream, "probe_mma_f16", &bits(&a), &bits(&b));
        assert_eq!(got, expected, "sums of few binary digits are exact");
    });
}

fn multiply<T, R>(stream: &Arc<CudaStream>, kernel: &str, a: &[T], b: &[T]) -> Vec<R>
where
    T: DeviceRepr,
    R: DeviceRepr + ValidAsZeroBits + Clone + Default,
{
    let (a, b) = (stream.clone_htod(a).unwrap(), stream.clone_htod(b).unwrap());
    let d = stream.alloc_zeros::<R>(128).unwrap();
    launch(stream, kernel, (1, 32), &[at(&a, stream), at(&b, stream), at(&d, stream)]).unwrap();
    stream.clone_dtoh(&d).unwrap()
}

/// Two streams: with the event the second sees what the first wrote, without it it does not.
#[test]
fn streams_are_lazy() {
    every_order(|| {
        for waits in [false, true] {
            let context = context();
            let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
            let x = first.clone_htod(&[1.0_f32; 64]).unwrap();
            let y = first.clone_htod(&[0.0_f32; 64]).unwrap();
            first.synchronize().unwrap();
            launch(
                &first,
                "probe_axpy",
                (1, 64),
                &[Arg::Float(5.0), at(&x, &first), at(&y, &first), Arg::Int(64)],
            )
            .unwrap();
            if waits {
                second.wait(&first.record_event(None).unwrap()).unwrap();
            }
            let seen = second.clone_dtoh(&y).unwrap();
            assert_eq!(seen[7], if waits { 5.0 } else { 0.0 });
            first.synchronize().unwrap();
        }
    });
}

/// Captured once, run twice, on two streams that fork and join.
#[test]
fn graphs_replay() {
    every_order(|| {
        let context = context();
        let (stream, side) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let x = stream.clone_htod(&[1.0_f32; 64]).unwrap();
        let y = stream.clone_htod(&[0.0_f32; 64]).unwrap();
        let z = stream.clone_htod(&[0.0_f32; 64]).unwrap();
        stream.synchronize().unwrap();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).unwrap();
        side.wait(&stream.record_event(None).unwrap()).unwrap();
        for (on, values, times) in [(&stream, &y, 2.0_f32), (&side, &z, 3.0_f32)] {
            launch(
                on,
                "probe_axpy",
                (1, 64),
                &[Arg::Float(times), at(&x, on), at(values, on), Arg::Int(64)],
            )
            .unwrap();
        }
        stream.wait(&side.record_event(None).unwrap()).unwrap();
        launch(
            &stream,
            "probe_axpy",
            (1, 64),
            &[Arg::Float(1.0), at(&z, &stream), at(&y, &stream), Arg::Int(64)],
        )
        .unwrap();
        let flags = sys::CUgraphInstantiate_flags(0);
        let graph = stream.end_capture(flags).unwrap().unwrap();
        graph.launch().unwrap();
        graph.launch().unwrap();
        // y = 2 + 3, then 5 + 2 + 6; z = 3, then 6.
        assert_eq!(stream.clone_dtoh(&y).unwrap()[5], 13.0);
    });
}
