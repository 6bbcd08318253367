#!/bin/sh
# Makes sure that cmake (3.16 or newer) and ninja can be called; run by make.
#   tools.sh FOLDER    what is missing is installed by pip into a virtual environment in FOLDER
set -eu
folder=$1

cmake_is_new_enough() {
    version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    [ -n "$version" ] || return 1
    # shellcheck disable=SC2086 # two words on purpose
    set -- $version
    [ "$1" -gt 3 ] || { [ "$1" -eq 3 ] && [ "$2" -ge 16 ]; }
}

if cmake_is_new_enough && command -v ninja >/dev/null; then exit 0; fi

command -v python3 >/dev/null || {
    echo "cmake 3.16 and ninja are missing, and python3, which could install them, is missing too" >&2
    exit 1
}
echo "installing cmake and ninja into $folder"
python3 -m venv "$folder" || {
    echo "python3 cannot make a virtual environment (Debian: the package python3-venv);" \
         "install that, or cmake 3.16 and ninja" >&2
    exit 1
}
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check cmake ninja || {
    echo "pip could not install cmake and ninja: is there a network?" >&2
    exit 1
}
