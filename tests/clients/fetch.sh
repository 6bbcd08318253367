#!/bin/sh
# fetch.sh FOLDER: gets what tests/clients.rs runs into FOLDER, each piece once. A piece that cannot be
# had is named in one line, and its test is skipped.
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

# koffi, for the example in examples-c/node.
get_node() {
    lock=$here/examples-c/node/package-lock.json
    cmp -s "$lock" "$folder/node/package-lock.json" && [ -d "$folder/node/node_modules/koffi" ] && return
    command -v node >/dev/null && command -v npm >/dev/null || { missing 'Node: no node with npm'; return; }
    [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 18')" = true ] ||
        { missing "Node: 18 or newer is needed, this is $(node --version)"; return; }
    echo 'fetching koffi for Node'
    rm -rf "$folder/node"
    mkdir -p "$folder/node"
    cp "$here/examples-c/node/package.json" "$lock" "$folder/node/"
    (cd "$folder/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        { rm -rf "$folder/node"; missing 'Node: npm could not install koffi'; }
}

# The Go example needs Go alone.
get_go() {
    command -v go >/dev/null || missing 'Go: no go'
}

get_python
get_node
get_go
