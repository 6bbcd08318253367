#!/usr/bin/env python3
"""Writes src/vocab/unicode/table.rs: the general category of every code point, Unicode 15.1.

15.1 is the version that llama.cpp's tokenizers use; a newer one would split some texts
differently from the models' authors. Python 3.13 carries 15.1:

    python3.13 tests/tools/gen_unicode_classes.py > src/vocab/unicode/table.rs
"""
import sys
import unicodedata

assert unicodedata.unidata_version == "15.1.0", unicodedata.unidata_version

# Code of each major category, as in `Class` (src/vocab/unicode/mod.rs).
CODE = {"N": 2, "L": 3, "Z": 4, "M": 5, "P": 6, "S": 7, "C": 8}


def code(cp):
    category = unicodedata.category(chr(cp))
    return 1 if category == "Cn" else CODE[category[0]]


ranges = []
for cp in range(0x110000):
    if not ranges or ranges[-1] & 0xFF != code(cp):
        ranges.append(cp << 8 | code(cp))

out = sys.stdout
out.write("//! Major category of every code point, Unicode 15.1.\n")
out.write("//! Written by tests/tools/gen_unicode_classes.py; do not edit.\n\n")
out.write("/// Runs of equal category in code point order: `first << 8 | category`.\n")
out.write("#[rustfmt::skip]\n")
out.write(f"pub(super) static RUNS: [u32; {len(ranges)}] = [\n")
for i in range(0, len(ranges), 9):
    out.write("    " + " ".join(f"0x{r:x}," for r in ranges[i : i + 9]) + "\n")
out.write("];\n")
