"""Writes tests/data/gpuidx: what PowerInfer's solver leaves beside a model of 3 layers with 96 neurons.

Tensors and keys in the order of its powerinfer-py/powerinfer/export_split.py, by gguf 0.19.0 of PyPI
(`pip install gguf numpy`), and the magic written over as it does. `buckets` has the tensors that its
loader wants; in `plain` they are missing, as one version of the exporter leaves them out.
"""

import struct
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).parent.parent / "data" / "gpuidx"
N_FF = 96
# Layer 0 has every third neuron, layer 1 none, layer 2 the upper half.
HOT = [np.arange(0, N_FF, 3), np.arange(0), np.arange(N_FF // 2, N_FF)]


def write(name: str, buckets: bool) -> None:
    path = HERE / name
    out = gguf.GGUFWriter(path, "generic.gpu_index")
    for il, hot in enumerate(HOT):
        on_gpu = np.zeros(N_FF, dtype=np.int32)
        on_gpu[hot] = 1
        out.add_tensor(f"blk.{il}.gpu_idx", on_gpu)
        if buckets:
            out.add_tensor(f"blk.{il}.gpu_bucket", hot.astype(np.int32))
    out.add_block_count(len(HOT))
    out.add_uint64("split.vram_capacity", 80 * 100)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    with open(path, "r+b") as file:
        file.write(b"PWRI" + struct.pack("<I", 3))


write("plain.gpuidx", False)
write("buckets.gpuidx", True)
