//! `make install`: what lands where, and that programs outside this tree build against it.

#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use c_programs::{Run, command, example, has, library, model, repository, run, scratch, succeed};

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
    let programs = fs::read_dir(prefix.join("bin")).unwrap().map(|entry| entry.unwrap().path());
    let programs: Vec<PathBuf> = programs.collect();
    let listed = fs::read_to_string(sources.join("README.md")).unwrap();
    // The first table is of programs; the server is left out where its libraries are not there.
    let listed = listed.split("\n## ").next().unwrap().matches("\n| `").count();
    let left_out = usize::from(!prefix.join("bin/powerinfer-server").exists());
    assert_eq!(programs.len() + left_out, listed, "{programs:?}");
    for program in programs {
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        assert!(run(&program, &["-h"]).text().starts_with(&format!("{name}: ")), "{name}");
    }

    // The bindings to copy, as they are here but for what their package managers fetch.
    for binding in ["go", "node"] {
        let here = repository().join("examples-c").join(binding);
        let fetched = here.join("node_modules");
        let bindings = files(&here).into_iter().filter(|file| !file.starts_with(&fetched));
        let bindings: Vec<PathBuf> = bindings.collect();
        assert!(bindings.len() > 4, "{bindings:?}");
        let there = sources.join(binding);
        assert_eq!(files(&there).len(), bindings.len(), "{binding}");
        for file in bindings {
            let copy = there.join(file.strip_prefix(&here).unwrap());
            assert!(fs::read(&copy).unwrap() == fs::read(&file).unwrap(), "{}", copy.display());
        }
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
}

fn cmake_build(source: &Path, build: &Path, prefix: &Path) {
    let mut configure = Command::new("cmake");
    configure
        .args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", "-S"])
        .arg(source)
        .arg("-B")
        .arg(build);
    succeed(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    succeed(Command::new("cmake").arg("--build").arg(build));
}

fn answers(program: &Path) {
    let run = run(program, &[] as &[&str]);
    let (version, extra_bufts) = run.text().trim().split_once(' ').unwrap();
    assert!(version.contains('.'), "{version}");
    assert_eq!(extra_bufts, "1", "the structure's layout differs");
}

/// Installs the library; the folder of its compatibility names.
fn compat_folder(name: &str) -> PathBuf {
    let prefix = fresh(name);
    let place = format!("PREFIX={}", prefix.display());
    make(&format!("{name}-work"), &["install-library".into(), place]);
    prefix.join("lib/powerinfer/compat")
}

/// Libraries of ours or llama.cpp's in a text of `/proc/self/maps`: inodes and paths.
fn mapped(maps: &str) -> BTreeSet<(u64, String)> {
    let fields = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let files = fields.filter_map(|f| Some((f.get(4)?.parse().ok()?, (*f.get(5)?).to_owned())));
    let is_one = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        ["libllama", "libggml", "libpowerinfer"].iter().any(|prefix| name.starts_with(prefix))
    };
    files.filter(|(_, path)| is_one(path)).collect()
}

/// Whether ours, once, is all that there is of these libraries; the error lists what is there.
fn ours_alone(maps: &str, compat: &Path) -> Result<(), String> {
    let ours = fs::metadata(compat.join("libllama.so.0")).unwrap().ino();
    let mapped = mapped(maps);
    let alone = mapped.len() == 1 && mapped.iter().all(|(inode, _)| *inode == ours);
    if alone { Ok(()) } else { Err(format!("{mapped:?}")) }
}

#[test]
fn the_compat_names_are_one_library() {
    let compat = compat_folder("compat-names");
    let names: String = COMPAT.map(|name| format!("\"{name}\", ")).concat();
    let source = format!(
        "#include <dlfcn.h>\n#include <stdio.h>\nint main(void) {{\n\
         static const char *const names[] = {{{names}}};\n\
         void *first = NULL;\n\
         for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {{\n\
         void *library = dlopen(names[i], RTLD_NOW);\n\
         if (!library) {{ puts(dlerror()); return 1; }}\n\
         void *function = dlsym(library, \"llama_backend_init\");\n\
         if (!function || (first && function != first)) {{ puts(names[i]); return 1; }}\n\
         first = function;\n}}\nreturn 0;\n}}\n"
    );
    let work = scratch("compat-names-program");
    fs::write(work.join("names.c"), source).unwrap();
    let (program, maps) = (work.join("names"), work.join("maps"));
    let mut cc = Command::new("cc");
    cc.arg(work.join("names.c")).arg(repository().join("tests/c_programs/maps.c"));
    succeed(cc.arg("-o").arg(&program).arg("-ldl"));
    let mut names = Command::new(program);
    succeed(names.env("LD_LIBRARY_PATH", &compat).env("MAPS", &maps));
    ours_alone(&fs::read_to_string(maps).unwrap(), &compat).unwrap();
}

/// What a finished program asks the loader for.
const SONAMES: [&str; 4] =
    ["libllama.so.0", "libggml.so.0", "libggml-base.so.0", "libggml-cpu.so.0"];

/// The example `simple` as somebody built it elsewhere: linked to the libraries in `theirs`.
fn finished_program(work: &Path, theirs: impl FnOnce(&[PathBuf]) -> PathBuf) -> (PathBuf, PathBuf) {
    let sources = ["examples-c/simple.c", "examples-c/common.c", "tests/c_programs/maps.c"];
    let objects = sources.map(|source| {
        let source = repository().join(source);
        let object = work.join(source.file_name().unwrap()).with_extension("o");
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-O1", "-c", "-I"]).arg(repository().join("include"));
        succeed(cc.arg(source).arg("-o").arg(&object));
        object
    });
    let theirs = theirs(&objects);
    let program = work.join("finished");
    let mut cc = Command::new("cc");
    cc.args(&objects).arg("-o").arg(&program).arg("-Wl,--no-as-needed");
    cc.args(SONAMES.map(|name| theirs.join(name)));
    succeed(cc.arg(format!("-Wl,-rpath-link,{}", theirs.display())));
    (program, theirs)
}

/// Stand-ins for llama.cpp's libraries: what the objects ask for, and each call of it ends the
/// program with code 99.
fn stand_ins(work: &Path, objects: &[PathBuf]) -> PathBuf {
    let folder = work.join("theirs");
    fs::create_dir_all(&folder).unwrap();
    let wanted = succeed(Command::new("nm").arg("-u").args(objects));
    let wanted = wanted.lines().filter_map(|line| line.trim().strip_prefix("U "));
    let wanted: BTreeSet<&str> = wanted.filter(|name| !name.starts_with("powerinfer")).collect();
    for name in SONAMES {
        let prefix = match name {
            "libllama.so.0" => "llama_",
            "libggml-base.so.0" => "ggml_",
            _ => "none",
        };
        let own = wanted.iter().filter(|name| name.starts_with(prefix));
        let stubs = own.map(|name| format!("void {name}(void) {{ exit(99); }}\n"));
        let source = folder.join(name).with_extension("c");
        let text = "#include <stdlib.h>\n".to_owned() + &stubs.collect::<String>();
        fs::write(&source, text).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-w"]).arg(format!("-Wl,-soname,{name}"));
        succeed(cc.arg(source).arg("-o").arg(folder.join(name)));
    }
    folder
}

/// Runs a finished program with the libraries of these folders; its end, and what was mapped.
fn run_with(program: &Path, model: &Path, folders: [&Path; 2]) -> (Run, String) {
    let maps = program.with_extension("maps");
    let _ = fs::remove_file(&maps);
    let mut run = command(program);
    run.arg("-m").arg(model).args(["-n", "8", "The capital of France is"]);
    run.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap()).env("MAPS", &maps);
    let run = run.output().unwrap().into();
    (run, fs::read_to_string(maps).unwrap())
}

#[test]
fn a_finished_program_runs_on_ours_alone() {
    let compat = compat_folder("compat-finished");
    let work = fresh("compat-finished-program");
    let (program, theirs) = finished_program(&work, |objects| stand_ins(&work, objects));

    // Without a model it says so; its libraries are loaded all the same.
    let file = model().unwrap_or_else(|| work.join("no-model.gguf"));
    let (ours, maps) = run_with(&program, &file, [&compat, &theirs]);
    ours_alone(&maps, &compat).unwrap();
    if file.exists() {
        let same = command(&example("simple"));
        assert_eq!(ours.text(), text_of(same, &file));
    } else {
        ours.refusal();
    }

    // The other way round the others are seen.
    let (others, maps) = run_with(&program, &file, [&theirs, &compat]);
    assert_eq!(others.code, Some(99), "{others:?}");
    let found = ours_alone(&maps, &compat).unwrap_err();
    assert!(SONAMES.iter().all(|name| found.contains(name)), "{found}");
}

fn text_of(mut program: Command, model: &Path) -> String {
    program.arg("-m").arg(model).args(["-n", "8", "The capital of France is"]);
    Run::from(program.output().unwrap()).text().to_owned()
}

/// The same with llama.cpp's own libraries, where POWERINFER_TEST_REFERENCE says where they are.
#[test]
fn a_program_of_llama_cpp_runs_on_ours_alone() {
    let (Some(theirs), Some(file)) = (std::env::var_os("POWERINFER_TEST_REFERENCE"), model())
    else {
        eprintln!("skipped: POWERINFER_TEST_REFERENCE names no folder with libllama.so.0");
        return;
    };
    let compat = compat_folder("compat-reference");
    let work = fresh("compat-reference-program");
    let (program, theirs) = finished_program(&work, |_| PathBuf::from(theirs));
    let (ours, maps) = run_with(&program, &file, [&compat, &theirs]);
    ours_alone(&maps, &compat).unwrap();
    assert_eq!(ours.text(), text_of(command(&example("simple")), &file));

    let (others, maps) = run_with(&program, &file, [&theirs, &compat]);
    assert!(others.text().contains("Paris"), "{others:?}");
    assert!(ours_alone(&maps, &compat).unwrap_err().contains("libllama.so.0"));
}
