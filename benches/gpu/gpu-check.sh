#!/bin/sh
# Checks libpowerinfer on this machine's NVIDIA card and prints a report in Markdown: about eight
# minutes. Needs the driver and nothing else. --help lists what can be asked for.
here=$(cd "$(dirname "$0")" && pwd) || exit 2
LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/bin/gpu_check" "$@"
