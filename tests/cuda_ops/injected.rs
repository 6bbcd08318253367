//! Kernels with bugs put into them: the suite must notice. Each case edits one source, builds a
//! fake driver of it, and runs the kernel's own test, which has to fail in some order of threads.
//! And kernels as older cards have them, which the same tests must pass.

use std::fs;
use std::path::{Path, PathBuf};

use super::cuda_support::{ORDERS, build_modules, child_with, fake_driver, is_child};

/// `find` stands once in the source from `after` on.
struct Bug {
    /// That the test takes.
    modules: &'static [&'static str],
    /// Of a module: its own, or a header.
    file: &'static str,
    after: &'static str,
    find: &'static str,
    becomes: &'static str,
    /// The test that must fail.
    test: &'static str,
}

const BARRIER: &str = "__syncthreads();";

const BUGS: &[Bug] = &[
    Bug {
        modules: &["norm"],
        file: "norm.cu",
        after: "warps[threadIdx.x / PI_WARP] = v;",
        find: BARRIER,
        becomes: "",
        test: "norm::rows_with_and_without_everything",
    },
    Bug {
        modules: &["norm"],
        file: "norm.cu",
        after: "float total = 0.0f;",
        find: "for (int i = threadIdx.x;",
        becomes: "if (threadIdx.x % 32 == 31) return; for (int i = threadIdx.x;",
        test: "norm::rows_with_and_without_everything",
    },
    Bug {
        modules: &["select"],
        file: "select.cu",
        after: "warps[warp] = __popc(votes);",
        find: BARRIER,
        becomes: "",
        test: "lists::neurons_in_order",
    },
    Bug {
        modules: &["select"],
        file: "select.cu",
        after: "if (chosen) ids[",
        find: BARRIER,
        becomes: "",
        test: "lists::neurons_in_order",
    },
    Bug {
        modules: &["sample"],
        file: "sample.cu",
        after: "warps[threadIdx.x / PI_WARP] = key;",
        find: BARRIER,
        becomes: "",
        test: "lists::largest_of_rows",
    },
    Bug {
        modules: &["attend"],
        file: "attend.cu",
        after: "for (int h = 0; h < MAX_HEADS; h++) sums[h] = 0.0f;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        modules: &["attend"],
        file: "attend.cu",
        after: "if (lane == 0) scores[h][j] = score;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        modules: &["attend"],
        file: "attend.cu",
        after: "total[warp] = total[warp] * less + sum;",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        modules: &["attend"],
        file: "attend.cu",
        after: "default: add_values<CacheQ8_0>(",
        find: BARRIER,
        becomes: "",
        test: "attend::caps_slopes_and_sinks",
    },
    Bug {
        modules: &["mat_mul"],
        file: "pi_mat_mul.cuh",
        after: "weights.lay(raw, start);",
        find: "pi_copies_done();",
        becomes: "",
        test: "matrices::blocks_in_many_steps",
    },
    Bug {
        modules: &["mat_mul"],
        file: "pi_mat_mul.cuh",
        after: "weights.lay(raw, start);",
        find: BARRIER,
        becomes: "",
        test: "matrices::blocks_in_many_steps",
    },
    Bug {
        modules: &["mat_mul"],
        file: "pi_mat_mul.cuh",
        after: "sums[m][n][i] = sum;",
        find: BARRIER,
        becomes: "",
        test: "matrices::blocks_in_many_steps",
    },
    Bug {
        modules: &["mat_mul"],
        file: "pi_mat_mul.cuh",
        after: "if (start + STEP < k) {",
        find: "tokens[place ^ 1].copy",
        becomes: "tokens[place].copy",
        test: "matrices::blocks_in_many_steps",
    },
    Bug {
        modules: &["mat_mul"],
        file: "pi_tile.cuh",
        after: "pi_mma_32(int (&d)[4]",
        find: "pi_mma_m16n8k32(d, a, b, c);",
        becomes: "pi_mma_m16n8k32(d, a, b, 0);",
        test: "matrices::blocks_in_many_steps",
    },
    Bug {
        modules: &["mat_mul_plain"],
        file: "mat_mul_plain.cu",
        after: "const bool grown = more && next.lay(x, factors);",
        find: "pi_copies_done();",
        becomes: "",
        test: "matrices::plain_numbers_of_all_sizes",
    },
    Bug {
        modules: &["mat_mul_plain"],
        file: "mat_mul_plain.cu",
        after: "const bool grown = more && next.lay(x, factors);",
        find: "__syncthreads_or(grown)",
        becomes: "grown",
        test: "matrices::plain_numbers_of_all_sizes",
    },
    Bug {
        modules: &["mat_mul_plain"],
        file: "mat_mul_plain.cu",
        after: "// the next step is there for all",
        find: "sums[m][n][i] *= shrink;",
        becomes: ";",
        test: "matrices::plain_numbers_of_all_sizes",
    },
    Bug {
        modules: &["mat_mul_plain"],
        file: "pi_tile.cuh",
        after: "if (exponent <= top + ROOM) return 1.0f;",
        find: "top = exponent;",
        becomes: "",
        test: "matrices::plain_numbers_of_all_sizes",
    },
    Bug {
        modules: &["attend_many", "attend"],
        file: "attend_many.cu",
        after: "if (!HALVES) lay(0, first);",
        find: "pi_copies_done();",
        becomes: "",
        test: "attend::many_tokens",
    },
    Bug {
        modules: &["attend_many", "attend"],
        file: "attend_many.cu",
        after: "if (!HALVES) lay(0, first);",
        find: BARRIER,
        becomes: "",
        test: "attend::many_tokens",
    },
    Bug {
        modules: &["attend_many", "attend"],
        file: "attend_many.cu",
        after: "pi_mma_f16(sums[n + 1], weights[0], two + 2);",
        find: BARRIER,
        becomes: ";",
        test: "attend::many_tokens",
    },
    Bug {
        modules: &["attend_many", "attend"],
        file: "attend_many.cu",
        after: "total[r] *= shrink[r];",
        find: "sums[i][2] *= shrink[1]",
        becomes: "sums[i][2] *= 1.0f",
        test: "attend::many_tokens",
    },
];

/// Headers that say how old cards do it, and nothing else, are changed.
#[test]
fn kernels_of_old_cards() {
    if is_child() || fake_driver().is_none() {
        return;
    }
    let modules = ["mat_mul", "mat_mul_k", "mat_mul_plain", "attend", "attend_many"];
    let driver = driver_of("cuda_75", &modules, |file, text| {
        let (new, old) = ("#define PI_ARCH 800", "#define PI_ARCH 750");
        assert_eq!(text.contains(new), file == "pi_cuda.cuh", "{file}");
        text.replace(new, old)
    });
    for test in [
        "matrices::many_tokens",
        "matrices::blocks_in_many_steps",
        "matrices::plain_numbers_of_all_sizes",
        "attend::many_tokens",
    ] {
        assert!(passes(&driver, "3", test), "{test}");
    }
}

/// A fake driver of these modules alone, of sources that `edit` has seen: the file's name and text.
fn driver_of(name: &str, modules: &[&str], edit: impl Fn(&str, String) -> String) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let kernels = folder.join("kernels");
    fs::create_dir_all(&kernels).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy();
        let wanted =
            path.extension().is_some_and(|e| e == "cuh" || e == "cu" && modules.contains(&&*stem));
        if wanted {
            let file = path.file_name().unwrap().to_string_lossy();
            let text = edit(&file, fs::read_to_string(&path).unwrap());
            // What is the same keeps its time, and is not built again.
            let to = kernels.join(&*file);
            if fs::read_to_string(&to).ok().as_ref() != Some(&text) {
                fs::write(to, text).unwrap();
            }
        }
    }
    let driver = folder.join("driver");
    build_modules(&kernels, &driver).unwrap_or_else(|error| panic!("{error}"));
    driver
}

/// Whether a test passes with this driver and order of threads.
fn passes(driver: &Path, order: &str, test: &str) -> bool {
    let output = child_with(driver, test).env("FAKE_CUDA_ORDER", order).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("running 1 test"), "{test} is a test");
    output.status.success()
}

fn is_noticed(number: usize, bug: &Bug) {
    let driver = driver_of(&format!("cuda_bug_{number}"), bug.modules, |file, text| {
        if file != bug.file {
            return text;
        }
        let Some((before, after)) = text.split_once(bug.after) else {
            panic!("{file} has no '{}'", bug.after);
        };
        assert!(!after.contains(bug.after), "{file} has '{}' twice", bug.after);
        let edited = after.replacen(bug.find, bug.becomes, 1);
        assert_ne!(edited, after, "{file}: nothing to break behind '{}'", bug.after);
        format!("{before}{}{edited}", bug.after)
    });
    let failed = ORDERS.iter().any(|order| !passes(&driver, order, bug.test));
    assert!(failed, "{} without '{}' behind '{}' passes", bug.file, bug.find, bug.after);
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
