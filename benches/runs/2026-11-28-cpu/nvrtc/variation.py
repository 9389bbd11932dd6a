"""How NVRTC's output varies: compiles one kernel for sm_120 many times in one process.

    pip install nvidia-cuda-nvrtc==13.2.86
    python3 variation.py path/to/libnvrtc.so.13 > variation.txt

For each variant: how often, registers, a hash of the PTX, and the PTX's floating-point instructions.
"""

import ctypes
import hashlib
import pathlib
import re
import sys
from collections import Counter

nvrtc = ctypes.CDLL(sys.argv[1])
kernels = pathlib.Path(__file__).resolve().parents[4] / "kernels"
headers = sorted(kernels.glob("*.cuh"))
options = ["--std=c++17", "-default-device", "-lineinfo", "--ptxas-options=-v", "--gpu-architecture=sm_120"]
options += ["-DKERNEL_attention_forward", "-DTYPE=bf16", "-DVECTOR=8", "-DHEAD_WIDTH=64", "-DWARPS=4"]
options += ["-DFORWARD_QUERIES=128", "-DFORWARD_KEYS=64", "-DBACKWARD_KV_KEYS=128", "-DBACKWARD_KV_QUERIES=32"]
options += ["-DBACKWARD_Q_QUERIES=128", "-DBACKWARD_Q_KEYS=32"]
FLOAT = r"\b(?:fma|mul|add|sub|neg|max|ex2|lg2|rcp|div|mma|cvt)\.[\w.:]*f32[\w.:]*|\bmma\.[\w.:]+"


def strings(values):
    return (ctypes.c_char_p * len(values))(*values)


def compile_once(options):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def done(status):
        assert status == 0, status

    def text(kind):
        done(getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        done(getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer))
        return buffer.value.decode()

    source = (kernels / "attention.cu").read_bytes()
    bodies, names = strings([h.read_bytes() for h in headers]), strings([h.name.encode() for h in headers])
    done(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"attention.cu", len(headers), bodies, names))
    done(nvrtc.nvrtcCompileProgram(program, len(options), strings([o.encode() for o in options])))
    log, ptx = text("ProgramLog"), text("PTX")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return int(re.search(r"Used (\d+) registers", log).group(1)), ptx


for extra in [[], ["--fmad=false"]]:
    variants, times = {}, Counter()
    for _ in range(250):
        registers, ptx = compile_once(options + extra)
        variants[ptx] = registers
        times[ptx] += 1
    print(f"250 compilations, {' '.join(extra) or 'default options'}: {len(variants)} variants")
    for ptx, count in times.most_common():
        digest = hashlib.sha256(ptx.encode()).hexdigest()[:8]
        print(f"  {count} times: {variants[ptx]} registers, PTX {digest}")
        print("   ", dict(sorted(Counter(re.findall(FLOAT, ptx)).items())))
