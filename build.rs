//! Gives the shared library its SONAME, which plain cargo does not, and packs the kernels' PTX: it is
//! text, of which a fifth is left.
//!
//! The PTX is that of `kernels/ptx`, whatever is installed. `POWERINFER_NVCC=nvcc cargo build` has
//! a CUDA compiler make it from the sources instead, for work on kernels.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if os == "linux" || os == "android" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libpowerinfer.so.0");
    }
    pack_kernels();
}

fn pack_kernels() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=POWERINFER_NVCC");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let nvcc = env::var_os("POWERINFER_NVCC").filter(|nvcc| !nvcc.is_empty());
    let entries = fs::read_dir("kernels/ptx").expect("kernels/ptx is in the repository");
    for entry in entries {
        let committed = entry.expect("a directory entry").path();
        let name = committed.file_name().expect("a file").to_string_lossy().into_owned();
        let ptx = match &nvcc {
            None => committed,
            Some(nvcc) => compiled(nvcc.as_ref(), &name, &out),
        };
        let text = fs::read(&ptx).unwrap_or_else(|e| panic!("{}: {e}", ptx.display()));
        let packed = miniz_oxide::deflate::compress_to_vec(&text, 6);
        fs::write(out.join(format!("{name}.z")), packed).expect("OUT_DIR is writable");
    }
}

/// Kernels whose names nvcc's own headers have, which it includes unasked. NVRTC has none.
const TAKEN: [&str; 1] = ["norm"];

/// Makes `norm.compute_80.ptx` from `kernels/norm.cu`.
fn compiled(nvcc: &Path, name: &str, out: &Path) -> PathBuf {
    let mut parts = name.split('.');
    let (Some(module), Some(arch)) = (parts.next(), parts.next()) else {
        panic!("kernels/ptx/{name}: expected NAME.ARCH.ptx");
    };
    let kernels = fs::canonicalize("kernels").expect("kernels is in the repository");
    let source = out.join(format!("{module}.cu"));
    let mut text = String::new();
    for taken in TAKEN {
        text += &format!("#define {taken} pi_{taken}\n");
    }
    text += &format!("#include \"{}/{module}.cu\"\n", kernels.display());
    fs::write(&source, text).expect("OUT_DIR is writable");

    let target = out.join(name);
    let mut command = Command::new(nvcc);
    command.args(["-ptx", "-O3", "-arch", arch, "-o"]).arg(&target).arg(&source);
    let status = command.status();
    let status = status.unwrap_or_else(|e| panic!("POWERINFER_NVCC={}: {e}", nvcc.display()));
    assert!(status.success(), "{} cannot compile kernels/{module}.cu", nvcc.display());
    let mut ptx = fs::read_to_string(&target).expect("nvcc wrote it");
    for taken in TAKEN {
        ptx = ptx.replace(&format!(".entry pi_{taken}("), &format!(".entry {taken}("));
    }
    fs::write(&target, ptx).expect("OUT_DIR is writable");
    target
}
