//! `make install`: what lands where, and that programs outside this tree build against it.

#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use c_programs::{library, repository, run, scratch};

const COMPAT: [&str; 8] = [
    "libllama.so",
    "libllama.so.0",
    "libggml.so",
    "libggml.so.0",
    "libggml-base.so",
    "libggml-base.so.0",
    "libggml-cpu.so",
    "libggml-cpu.so.0",
];

/// The target folder of this build: where make keeps the tools that it fetched.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// PATH as make sees it.
fn path() -> String {
    format!("{}:{}", std::env::var("PATH").unwrap(), target().join("tools/bin").display())
}

fn has(tool: &str) -> bool {
    let there = std::env::split_paths(&path()).any(|folder| folder.join(tool).is_file());
    if !there {
        eprintln!("skipped: no {tool}");
    }
    there
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let done = command.env("PATH", path()).output().unwrap();
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(done.status.success(), "{command:?}\n{}\n{}", said[0], said[1]);
    said[0].clone()
}

/// `make` as a user calls it, also when make runs these tests; it installs the library under test.
fn make(work: &str, arguments: &[String]) {
    let mut make = Command::new("make");
    make.current_dir(repository()).args(arguments);
    make.arg(format!("LIBRARY={}", library().display()));
    make.arg(format!("WORK={}", fresh(work).display()));
    for inherited in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DESTDIR", "PREFIX"] {
        make.env_remove(inherited);
    }
    succeed(&mut make);
}

fn fresh(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::remove_dir_all(&folder).unwrap();
    scratch(name)
}

/// Files and links below a folder, without the folders themselves.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn the_library_lands_where_it_was_told_and_goes_away_again() {
    let root = fresh("install-destdir");
    let place =
        ["PREFIX=/opt/pi".into(), format!("DESTDIR={}", root.display()), "LIB=lib64".into()];
    make("install-work", &[&["install-library".into()][..], &place].concat());

    let lib = root.join("opt/pi/lib64");
    let real = lib.join(format!("libpowerinfer.so.{}", env!("CARGO_PKG_VERSION")));
    assert!(fs::symlink_metadata(&real).unwrap().is_file());
    for name in ["libpowerinfer.so", "libpowerinfer.so.0"] {
        assert_eq!(fs::canonicalize(lib.join(name)).unwrap(), real);
    }
    // Links to the one file, and relative ones: the tree can be moved.
    for name in COMPAT {
        let link = lib.join("powerinfer/compat").join(name);
        assert!(fs::read_link(&link).unwrap().is_relative(), "{name}");
        assert_eq!(fs::canonicalize(&link).unwrap(), real, "{name}");
    }
    let package = fs::read_to_string(lib.join("pkgconfig/powerinfer.pc")).unwrap();
    assert!(package.contains("prefix=/opt/pi\nlibdir=${prefix}/lib64\n"), "{package}");
    for file in files(&root) {
        let text = fs::read(&file).unwrap();
        let left = text.windows(9).any(|w| w == b"@version@") && file != real;
        assert!(!left, "{} has a place that was not filled in", file.display());
    }
    let headers = fs::read_dir(root.join("opt/pi/include/powerinfer")).unwrap().count();
    assert!(headers >= 9, "{headers} headers");

    make("install-work", &[&["uninstall".into()][..], &place].concat());
    assert_eq!(files(&root), [] as [PathBuf; 0]);
}

const PROGRAM: &str = r#"
#include "llama.h"
#include <stdio.h>
int main(void) {
    struct llama_model_params params = llama_model_default_params();
    printf("%s %d\n", llama_version(), params.use_extra_bufts);
    return 0;
}
"#;

#[test]
fn programs_outside_the_tree_build_against_an_installation() {
    if !(has("cmake") && has("ninja")) {
        return;
    }
    let prefix = fresh("install-prefix");
    make("install-work-all", &["install".into(), format!("PREFIX={}", prefix.display())]);
    let work = fresh("install-consumers");
    fs::write(work.join("program.c"), PROGRAM).unwrap();
    let compat = prefix.join("lib/powerinfer/compat");

    // find_package by our name, and by the name that existing projects use.
    for (package, target, root) in
        [("powerinfer 0.1", "powerinfer::powerinfer", &prefix), ("Llama", "llama", &compat)]
    {
        let source = work.join(target.replace(':', ""));
        fs::create_dir_all(&source).unwrap();
        let lists = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(consumer C)\n\
             find_package({package} REQUIRED)\nadd_executable(program ../program.c)\n\
             target_link_libraries(program PRIVATE {target})\n"
        );
        fs::write(source.join("CMakeLists.txt"), lists).unwrap();
        cmake_build(&source, &source.join("build"), root);
        answers(&source.join("build/program"));
    }

    // The installed examples' sources, and the installed programs themselves.
    let sources = prefix.join("share/powerinfer/examples-c");
    cmake_build(&sources, &work.join("examples"), &prefix);
    let help = run(&work.join("examples/main"), &["-h"]);
    assert!(help.text().starts_with("main: "));
    for name in ["main", "simple", "batched", "tokenize", "quantize"] {
        let help = run(&prefix.join(format!("bin/powerinfer-{name}")), &["-h"]);
        assert!(help.text().starts_with(&format!("powerinfer-{name}: ")));
    }

    // pkg-config, by both names.
    if has("pkg-config") {
        let search = [prefix.join("lib/pkgconfig"), compat.join("pkgconfig")];
        let search = std::env::join_paths(search).unwrap();
        for package in ["powerinfer", "llama"] {
            let mut query = Command::new("pkg-config");
            let query = query.args(["--cflags", "--libs", package]).env("PKG_CONFIG_PATH", &search);
            let flags = succeed(query);
            let program = work.join(format!("with-pkg-config-{package}"));
            let mut cc = Command::new("cc");
            cc.arg(work.join("program.c")).arg("-o").arg(&program).args(flags.split_whitespace());
            succeed(cc.arg(format!("-Wl,-rpath,{}", prefix.join("lib").display())));
            answers(&program);
        }
    }
    the_compat_names_are_one_library(&work, &compat);
}

fn cmake_build(source: &Path, build: &Path, prefix: &Path) {
    let mut configure = Command::new("cmake");
    configure.args(["-G", "Ninja", "-S"]).arg(source).arg("-B").arg(build);
    succeed(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    succeed(Command::new("cmake").arg("--build").arg(build));
}

fn answers(program: &Path) {
    let run = run(program, &[] as &[&str]);
    let (version, extra_bufts) = run.text().trim().split_once(' ').unwrap();
    assert!(version.contains('.'), "{version}");
    assert_eq!(extra_bufts, "1", "the structure's layout differs");
}

/// A process that asks for all the names has one library, with one state, in memory.
fn the_compat_names_are_one_library(work: &Path, compat: &Path) {
    let names: String = COMPAT.map(|name| format!("\"{name}\", ")).concat();
    let source = format!(
        "#include <dlfcn.h>\n#include <stdio.h>\nint main(void) {{\n\
         static const char *const names[] = {{{names}}};\n\
         void *first = dlopen(names[0], RTLD_NOW);\n\
         if (!first) {{ puts(dlerror()); return 1; }}\n\
         for (unsigned i = 0; i < sizeof names / sizeof *names; i++)\n\
         if (dlopen(names[i], RTLD_NOW) != first) {{ puts(names[i]); return 1; }}\n\
         return dlsym(first, \"llama_version\") ? 0 : 1;\n}}\n"
    );
    fs::write(work.join("names.c"), source).unwrap();
    let program = work.join("names");
    let mut cc = Command::new("cc");
    succeed(cc.arg(work.join("names.c")).arg("-o").arg(&program).arg("-ldl"));
    succeed(Command::new(program).env("LD_LIBRARY_PATH", compat));
}
