#!/usr/bin/env python3
"""Makes tests/data/activation: files as PowerInfer's tools save them, by PyTorch itself.

Needs PyTorch (2.15.0 made those that are here):

    python tests/tools/activation_goldens.py tests/data/activation

Neuron i of layer l of 40 fired (7 i + 3 l) mod 101 times: as whole numbers, and as the sums of
floats that counting by masks gives.
"""

import pathlib
import sys

import torch


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for layer, dtype in enumerate([torch.int64, torch.float32]):
        counts = (7 * torch.arange(40) + 3 * layer) % 101
        torch.save(counts.to(dtype), folder / f"activation_{layer}.pt")


if __name__ == "__main__":
    main()
