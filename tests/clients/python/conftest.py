"""llama-cpp-python 0.3.36, its Python part alone, on the library that LLAMA_CPP_LIB_PATH names.

`cargo test --test clients` runs these tests; `make clients` fetches what they need first. By hand:

    LLAMA_CPP_LIB_PATH=<folder with libllama.so> CLIENT_MODEL=<SmolLM2 Q4_1> CLIENT_FILES=<folder> \
        python -m pytest tests/clients/python

CLIENT_FILES holds what tests/clients.rs makes: adapter.gguf, a LoRA adapter of the model, and
bert.gguf, a tiny encoder. With RECORD_GOLDENS=1 and llama.cpp's own library the answers are written to
goldens.json instead of compared.
"""

import json
import os
import pathlib

import llama_cpp
import pytest

GOLDENS = pathlib.Path(__file__).with_name("goldens.json")
RECORD = os.environ.get("RECORD_GOLDENS") == "1"
# llama.cpp gives the same answer every time with one thread.
N_THREADS = 1 if RECORD else 2
_recorded = {}


def pytest_collection_modifyitems(items):
    if RECORD:
        items[:] = [item for item in items if "golden" in item.fixturenames]


def pytest_sessionfinish(session, exitstatus):
    if RECORD and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
    if RECORD and _recorded:
        old = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}"
                 for key, value in sorted({**old, **_recorded}.items())]
        GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@pytest.fixture
def golden(request):
    """`golden(value)` is what the reference library gave in this place of this test."""
    known = {} if RECORD else json.loads(GOLDENS.read_text())
    used = iter(range(1000))

    def look_up(value):
        key = f"{request.node.name}-{next(used)}"
        if not RECORD:
            return known[key]
        _recorded[key] = value
        return value

    return look_up


@pytest.fixture(scope="session")
def model_path():
    return os.environ["CLIENT_MODEL"]


@pytest.fixture(scope="session")
def files():
    return pathlib.Path(os.environ["CLIENT_FILES"])


@pytest.fixture(scope="session")
def load(model_path):
    """Makes a `Llama`; the same options give the same object."""
    made = {}

    def make(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in made:
            settings = {"model_path": model_path, "n_ctx": 256, "n_threads": N_THREADS,
                        "n_threads_batch": N_THREADS, "flash_attn": True, "verbose": False, **options}
            made[key] = llama_cpp.Llama(**settings)
        return made[key]

    yield make
    for llama in made.values():
        llama.close()


@pytest.fixture
def llama(load):
    """The model for text, without memory of other tests."""
    llama = load()
    llama.reset()
    llama.set_cache(None)
    return llama


@pytest.fixture
def llama_logits(load):
    """The model that keeps the logits of every token."""
    llama = load(logits_all=True)
    llama.reset()
    return llama
