#!/usr/bin/env python3
"""Makes kernels/ptx/*.ptx from kernels/*.cu, with NVRTC 12.0: no toolkit, no GPU, no C compiler.

    regen.py              writes the PTX
    regen.py --check      compares it, byte for byte, with what is there
    regen.py --cubins     also compiles for cards, and demands that no register spills to memory

Names of files behind the options restrict all this to them. NVRTC is looked for in the folder
NVRTC_DIR (where `pip install --target` has put nvidia-cuda-nvrtc-cu12==12.0.140), or among the
packages of this Python; `make kernels` fetches it. Of this version because its PTX is of ISA 8.0,
which drivers from 525 on can load, and which they compile for newer cards than it knows.
"""

import argparse
import ctypes
import importlib.util
import os
import re
import sys
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
VERSION = (12, 0)
# 8.0 has asynchronous copies and larger matrix instructions; 7.5 is the oldest card supported.
VIRTUAL = ["compute_75", "compute_80"]
CARDS = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"]


def nvrtc_folder():
    """Where libnvrtc.so.12 is."""
    folder = os.environ.get("NVRTC_DIR")
    if folder:
        return Path(folder) / "nvidia" / "cuda_nvrtc" / "lib"
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        spec = None
    if not spec:
        sys.exit("no NVRTC: `make kernels`, or install nvidia-cuda-nvrtc-cu12==12.0.140")
    return Path(spec.submodule_search_locations[0]) / "lib"


def load():
    """The library; what it loads itself is loaded first, so that no search path is needed."""
    folder = nvrtc_folder()
    for builtins in sorted(folder.glob("libnvrtc-builtins*")):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(str(folder / "libnvrtc.so.12"))
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    if (major.value, minor.value) != VERSION:
        sys.exit(f"NVRTC {major.value}.{minor.value}, but the PTX is made by 12.0")
    return nvrtc


def flat(path, seen=None):
    """The source with its includes in place, each once: NVRTC is given one text."""
    seen = set() if seen is None else seen

    def include(match):
        header = path.parent / match[1]
        if header in seen:
            return ""
        seen.add(header)
        return flat(header, seen)

    text = path.read_text().replace("#pragma once", "")
    return re.sub(r'^#include "([^"]+\.cuh)".*$', include, text, flags=re.M)


def compile_for(nvrtc, source, name, arch):
    """PTX for compute_*, a cubin for sm_*; and what the compiler says about it."""
    program = ctypes.c_void_p()
    # The name is hashed into symbols: without a folder, so that all machines make the same.
    created = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), name.encode(), 0, None, None
    )
    assert created == 0, f"nvrtcCreateProgram: {created}"
    options = [b"--std=c++17", b"--gpu-architecture=" + arch.encode()]
    if arch.startswith("sm_"):
        options.append(b"--ptxas-options=-v")
    failed = nvrtc.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )

    def get(what):
        size = ctypes.c_size_t()
        assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(nvrtc, f"nvrtcGet{what}")(program, buffer) == 0
        return buffer.raw

    log = get("ProgramLog").rstrip(b"\0").decode()
    if failed:
        sys.exit(f"{name} for {arch}:\n{log}")
    made = get("CUBIN") if arch.startswith("sm_") else get("PTX").rstrip(b"\0")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return made, log


def spills(name, arch, log, n_kernels):
    """Kernels whose registers spill, by what ptxas says of each."""
    said = re.findall(
        r"Function properties for (\w+)\s+(?:ptxas\s+\.)?\s*\d+ bytes stack frame, "
        r"(\d+) bytes spill stores, (\d+) bytes spill loads",
        log,
    )
    if len(said) < n_kernels:
        sys.exit(f"{name} for {arch}: ptxas speaks of {len(said)} kernels of {n_kernels}:\n{log}")
    return [kernel for kernel, stores, loads in said if int(stores) or int(loads)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--cubins", action="store_true", help="compile for cards too")
    parser.add_argument("files", nargs="*", help="names like norm.cu; all of them")
    options = parser.parse_args()

    nvrtc = load()
    sources = sorted(KERNELS.glob("*.cu"))
    if options.files:
        wanted = {Path(name).name for name in options.files}
        sources = [source for source in sources if source.name in wanted]
    bad = []
    (KERNELS / "ptx").mkdir(exist_ok=True)
    for source in sources:
        text = flat(source)
        for arch in VIRTUAL:
            ptx, _ = compile_for(nvrtc, text, source.name, arch)
            n_kernels = ptx.count(b".entry ")
            target = KERNELS / "ptx" / f"{source.stem}.{arch}.ptx"
            if not options.check:
                target.write_bytes(ptx)
            elif not target.exists() or target.read_bytes() != ptx:
                bad.append(f"{target.relative_to(KERNELS.parent)} is not what the source gives")
        for arch in CARDS if options.cubins else []:
            _, log = compile_for(nvrtc, text, source.name, arch)
            found = spills(source.name, arch, log, n_kernels)
            bad += [f"{source.name} for {arch}: {kernel} spills registers" for kernel in found]
        print(f"{source.name}: {n_kernels} kernels, {len(ptx)} bytes of PTX")
    if not options.files:
        expected = {f"{s.stem}.{arch}.ptx" for s in sources for arch in VIRTUAL}
        for old in sorted((KERNELS / "ptx").glob("*.ptx")):
            if old.name not in expected:
                bad.append(f"{old.relative_to(KERNELS.parent)} has no source")
    for line in bad:
        print(line, file=sys.stderr)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
