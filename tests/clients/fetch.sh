#!/bin/sh
# fetch.sh FOLDER: gets what tests/clients.rs, tests/server_clients.rs and tests/server_page.rs run into
# FOLDER, each piece once. A piece that cannot be had is named in one line, and its test is skipped.
set -u
folder=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$folder"

missing() { echo "client left out: $1"; }

# llama-cpp-python without its llama.cpp, its server, and its own tests from the same archive.
get_python() {
    version=0.3.36
    wanted=$(cat "$here/tests/clients/python/requirements.txt"; echo "$version")
    [ "$(cat "$folder/python/is" 2>/dev/null)" = "$wanted" ] && return
    command -v python3 >/dev/null || { missing 'llama-cpp-python: no python3'; return; }
    echo "fetching llama-cpp-python $version, its Python part"
    rm -rf "$folder/python" "$folder/llama-cpp-python"
    archive=llama_cpp_python-$version
    pip="$folder/python/bin/python -m pip --disable-pip-version-check --quiet"
    if python3 -m venv "$folder/python" &&
        $pip download --no-deps --no-binary llama-cpp-python "llama-cpp-python==$version" \
            -d "$folder/archive" &&
        CMAKE_ARGS=-DLLAMA_BUILD=OFF $pip install "$folder/archive/$archive.tar.gz" &&
        $pip install -r "$here/tests/clients/python/requirements.txt" &&
        mkdir -p "$folder/llama-cpp-python" &&
        tar -C "$folder/llama-cpp-python" --strip-components=1 -xzf "$folder/archive/$archive.tar.gz" \
            "$archive/tests" "$archive/vendor/llama.cpp/models/ggml-vocab-llama-spm.gguf"; then
        echo "$wanted" >"$folder/python/is"
    else
        rm -rf "$folder/python" "$folder/llama-cpp-python"
        missing 'llama-cpp-python: pip could not install it'
    fi
    rm -rf "$folder/archive"
}

# Clients of the server: the official openai package, and huggingface_hub's own.
get_openai() {
    wanted=$(cat "$here/tests/server/requirements.txt")
    [ "$(cat "$folder/openai/is" 2>/dev/null)" = "$wanted" ] && return
    command -v python3 >/dev/null || { missing 'openai for Python: no python3'; return; }
    echo 'fetching openai and huggingface_hub for Python'
    rm -rf "$folder/openai"
    if python3 -m venv "$folder/openai" &&
        "$folder/openai/bin/python" -m pip --disable-pip-version-check --quiet install \
            -r "$here/tests/server/requirements.txt"; then
        echo "$wanted" >"$folder/openai/is"
    else
        rm -rf "$folder/openai"
        missing 'openai for Python: pip could not install it'
    fi
}

# get_npm NAME LOCKED PACKAGE OLDEST: what the lock file in LOCKED names, PACKAGE among it, for tests that
# need Node in version OLDEST.
get_npm() {
    name=$1 locked=$here/$2 package=$3 oldest=$4
    cmp -s "$locked/package-lock.json" "$folder/$name/package-lock.json" &&
        [ -d "$folder/$name/node_modules/$package" ] && return
    command -v node >/dev/null && command -v npm >/dev/null || { missing "$package: no node with npm"; return; }
    [ "$(node -p "Number(process.versions.node.split('.')[0]) >= $oldest")" = true ] ||
        { missing "$package: Node $oldest or newer is needed, this is $(node --version)"; return; }
    echo "fetching $package for Node"
    rm -rf "${folder:?}/$name"
    mkdir -p "$folder/$name"
    cp "$locked/package.json" "$locked/package-lock.json" "$folder/$name/"
    (cd "$folder/$name" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        { rm -rf "${folder:?}/$name"; missing "$package: npm could not install it"; }
}

# The Go example needs Go alone.
get_go() {
    command -v go >/dev/null || missing 'Go: no go'
}

get_python
get_openai
# For the example in examples-c/node.
get_npm node examples-c/node koffi 18
# For the tests of the server's page.
get_npm page tests/server_page playwright-core 20
# For the tests of the server with the official package.
get_npm openai-node tests/server/node openai 18
get_go
