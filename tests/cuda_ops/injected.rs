//! Kernels with bugs put into them: the suite must notice. Each case edits one source, builds a
//! fake driver of it, and runs the kernel's own test, which has to fail in some order of threads.

use std::fs;
use std::path::Path;

use super::cuda_support::{ORDERS, build_modules, child_with, fake_driver, is_child};

/// `find` stands once in the source from `after` on.
struct Bug {
    module: &'static str,
    after: &'static str,
    find: &'static str,
    becomes: &'static str,
    /// The test that must fail.
    test: &'static str,
}

const BARRIER: &str = "__syncthreads();";

const BUGS: &[Bug] = &[
    Bug {
        module: "norm",
        after: "warps[threadIdx.x / PI_WARP] = v;",
        find: BARRIER,
        becomes: "",
        test: "norm::rows_with_and_without_everything",
    },
    Bug {
        module: "norm",
        after: "float total = 0.0f;",
        find: "for (int i = threadIdx.x;",
        becomes: "if (threadIdx.x % 32 == 31) return; for (int i = threadIdx.x;",
        test: "norm::rows_with_and_without_everything",
    },
    Bug {
        module: "select",
        after: "warps[warp] = __popc(votes);",
        find: BARRIER,
        becomes: "",
        test: "lists::neurons_in_order",
    },
    Bug {
        module: "select",
        after: "if (chosen) ids[",
        find: BARRIER,
        becomes: "",
        test: "lists::neurons_in_order",
    },
    Bug {
        module: "sample",
        after: "warps[threadIdx.x / PI_WARP] = key;",
        find: BARRIER,
        becomes: "",
        test: "lists::largest_of_rows",
    },
    Bug {
        module: "attend",
        after: "for (int h = 0; h < MAX_HEADS; h++) sums[h] = 0.0f;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        module: "attend",
        after: "if (lane == 0) scores[h][j] = score;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        module: "attend",
        after: "total[warp] = total[warp] * less + sum;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        module: "attend",
        after: "sums[h] += scores[h][j] * value;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
];

fn is_noticed(number: usize, bug: &Bug) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cuda_bug_{number}"));
    let kernels = folder.join("kernels");
    fs::create_dir_all(&kernels).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "cuh") {
            fs::copy(&path, kernels.join(path.file_name().unwrap())).unwrap();
        }
    }
    let file = format!("{}.cu", bug.module);
    let text = fs::read_to_string(root.join(&file)).unwrap();
    let Some((before, after)) = text.split_once(bug.after) else {
        panic!("{file} has no '{}'", bug.after);
    };
    assert!(!after.contains(bug.after), "{file} has '{}' twice", bug.after);
    let edited = after.replacen(bug.find, bug.becomes, 1);
    assert_ne!(edited, after, "{file}: nothing to break behind '{}'", bug.after);
    fs::write(kernels.join(&file), format!("{before}{}{edited}", bug.after)).unwrap();
    build_modules(&kernels, &folder.join("driver")).unwrap_or_else(|error| panic!("{error}"));
    let failed = ORDERS.iter().any(|order| {
        let mut child = child_with(&folder.join("driver"), bug.test);
        let output = child.env("FAKE_CUDA_ORDER", order).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("running 1 test"), "{} is a test", bug.test);
        !output.status.success()
    });
    assert!(failed, "{file} without '{}' behind '{}' passes", bug.find, bug.after);
}

#[test]
fn bugs_are_noticed() {
    if is_child() || fake_driver().is_none() {
        return;
    }
    // Each builds a driver of its own: two of them say that the way works.
    let all = std::env::var_os("POWERINFER_TEST_LONG").is_some();
    let n = if all { BUGS.len() } else { 2 };
    for (number, bug) in BUGS.iter().enumerate().take(n) {
        is_noticed(number, bug);
    }
}
