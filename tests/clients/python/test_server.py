"""The OpenAI-style server of llama-cpp-python, asked over HTTP."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette_context")


@pytest.fixture(scope="module")
def server(model_path, files, tmp_path_factory):
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    model = {"model": model_path, "n_ctx": 512, "n_threads": 2, "n_threads_batch": 2, "verbose": False}
    config = tmp_path_factory.mktemp("server") / "config.json"
    config.write_text(json.dumps({"host": "127.0.0.1", "port": port, "models": [
        {**model, "model_alias": "text", "logits_all": True},
        {**model, "model_alias": "embedder", "embedding": True,
         "model": str(files / "bert.gguf"), "n_ctx": 64},
    ]}))
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "llama_cpp.server", "--config_file", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ)
    base = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/models", timeout=5):
                break
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
        yield base
    finally:
        process.terminate()
        process.wait(20)


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


def events(url, body):
    lines = [line[6:] for line in ask(url, body).splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_models(server):
    assert {model["id"] for model in json.loads(ask(f"{server}/models"))["data"]} == {"text", "embedder"}


BODY = {"model": "text", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}


def test_completions(server):
    answer = json.loads(ask(f"{server}/completions", {**BODY, "logprobs": 2}))
    text = answer["choices"][0]["text"]
    assert text.startswith(" Paris") and answer["usage"] == {
        "prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == 8
    streamed = events(f"{server}/completions", {**BODY, "stream": True})
    assert "".join(event["choices"][0]["text"] for event in streamed) == text


def test_chat(server):
    body = {"model": "text", "max_tokens": 16, "temperature": 0,
            "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    answer = json.loads(ask(f"{server}/chat/completions", body))["choices"][0]["message"]
    assert answer["role"] == "assistant" and answer["content"]
    streamed = events(f"{server}/chat/completions", {**body, "stream": True})
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in streamed)
    assert text == answer["content"]
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
              "required": ["n"]}
    told = json.loads(ask(f"{server}/chat/completions", {
        **body, "max_tokens": 40, "response_format": {"type": "json_object", "schema": schema}}))
    assert isinstance(json.loads(told["choices"][0]["message"]["content"])["n"], int)


def test_embeddings(server):
    answer = json.loads(ask(f"{server}/embeddings", {"model": "embedder", "input": ["one", "two words"]}))
    assert [len(row["embedding"]) for row in answer["data"]] == [64, 64]
    assert answer["usage"]["total_tokens"] > 2


def test_tokens(server):
    base = server.removesuffix("/v1")
    told = json.loads(ask(f"{base}/extras/tokenize", {"model": "text", "input": "Hello world\n"}))
    assert told["tokens"] == [19556, 905, 198]


def test_a_request_that_is_wrong(server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"{server}/completions", {**BODY, "prompt": "a " * 1000})
    assert refused.value.code == 400
    assert json.loads(ask(f"{server}/completions", BODY))["choices"][0]["text"].startswith(" Paris")
