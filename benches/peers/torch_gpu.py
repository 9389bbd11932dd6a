"""The rows of `stockpot bench` on a GPU, in PyTorch: the same products (cuBLASLt), attention (cuDNN and
FlashAttention-2), steps, merges and scoring, and a memory copy to compare with the merges.

python3 torch_gpu.py [--device cuda] [--presets 30m,130m,1b] [gemm attention train merge eval]

bf16 by autocast, f32 weights, AdamW(fused=True), torch.compile, clip 1.0, OLMo 2 layers, vocabulary
50304. Prints one line of JSON per row, with stockpot's row names and the library that was timed. Seconds are the median of 7 samples
of at least 0.1 s each.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# C, L, H, T, windows of a micro-batch
PRESETS = {
    "tiny": (96, 3, 3, 64, 32),
    "30m": (384, 8, 6, 1024, 32),
    "130m": (768, 12, 12, 2048, 16),
    "1b": (2048, 24, 16, 2048, 4),
}
VOCABULARY = 50304
# Rows of logits that stockpot computes at a time: the rows of its output layer's products.
CHUNK = 4096


def feed_forward(c):
    return -(-(c * 8 // 3) // 64) * 64


class Block(torch.nn.Module):
    def __init__(self, c, h, f):
        super().__init__()
        self.h, self.c = h, c
        self.qkv = torch.nn.Linear(c, 3 * c, bias=False)
        self.out = torch.nn.Linear(c, c, bias=False)
        self.gate_up = torch.nn.Linear(c, 2 * f, bias=False)
        self.down = torch.nn.Linear(f, c, bias=False)
        self.norms = torch.nn.ParameterList(torch.ones(c) for _ in range(4))

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        q, k, v = self.qkv(x).split(c, -1)
        q, k = F.rms_norm(q, (c,), self.norms[0]), F.rms_norm(k, (c,), self.norms[1])
        q, k, v = (y.view(b, t, self.h, c // self.h).transpose(1, 2) for y in (q, k, v))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.rms_norm(self.out(y.transpose(1, 2).reshape(b, t, c)), (c,), self.norms[2])
        gate, up = self.gate_up(x).chunk(2, -1)
        return x + F.rms_norm(self.down(F.silu(gate) * up), (c,), self.norms[3])


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Olmo2(torch.nn.Module):
    def __init__(self, c, layers, h, t):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, c)
        self.blocks = torch.nn.ModuleList(Block(c, h, feed_forward(c)) for _ in range(layers))
        self.norm = torch.nn.Parameter(torch.ones(c))
        self.head = torch.nn.Linear(c, VOCABULARY, bias=False)
        d = c // h
        angles = torch.outer(torch.arange(t), 10000.0 ** (-torch.arange(0, d, 2) / d))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens, targets):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(F.rms_norm(x, (x.shape[-1],), self.norm))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Timer:
    def __init__(self, device):
        self.device = device
        self.blas = "PyTorch"
        if device == "cuda":
            # Otherwise PyTorch chooses between cuBLAS and cuBLASLt.
            torch.backends.cuda.preferred_blas_library("cublaslt")
            self.blas = "cuBLASLt"

    def sample(self, work, repetitions):
        self.wait()
        start = time.perf_counter()
        for _ in range(repetitions):
            work()
        self.wait()
        return (time.perf_counter() - start) / repetitions

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def row(self, subject, name, peer, work, flops=0.0, tokens=0.0, bytes_=0.0):
        for _ in range(3):
            self.sample(work, 1)
        repetitions = max(1, min(10000, round(0.1 / self.sample(work, 1))))
        samples = sorted(self.sample(work, repetitions) for _ in range(7))
        seconds = statistics.median(samples)
        row = {"subject": subject, "name": name, "peer": peer}
        row |= {"seconds": seconds, "fastest": samples[0], "slowest": samples[-1]}
        if flops:
            row["tflops"] = flops / seconds / 1e12
        if tokens:
            row["tokens_per_second"] = tokens / seconds
        if bytes_:
            row["gb_per_second"] = bytes_ / seconds / 1e9
        print(json.dumps(row), flush=True)


def gemm(timer, preset):
    c, _, _, t, windows = PRESETS[preset]
    f, rows = feed_forward(c), t * windows
    layers = [("qkv", rows, 3 * c, c), ("out", rows, c, c), ("gate_up", rows, 2 * f, c), ("down", rows, c, f)]
    for layer, m, n, k in layers + [("head", min(rows, CHUNK), VOCABULARY, c)]:
        x, w, y = (torch.randn(s, device=timer.device, dtype=torch.bfloat16) for s in ((m, k), (n, k), (m, n)))
        shape, flops = f"{m}x{n}x{k}", 2.0 * m * n * k
        timer.row("gemm", f"{preset} {layer} forward {shape}", timer.blas, lambda: x @ w.T, flops)
        timer.row("gemm", f"{preset} {layer} dx {shape}", timer.blas, lambda: y @ w, flops)
        # In bf16 and not added to a gradient: less work than stockpot's in-place f32 sums.
        timer.row("gemm", f"{preset} {layer} dweight {shape}", timer.blas, lambda: y.T @ x, flops)


def attention(timer, preset):
    c, _, h, t, windows = PRESETS[preset]
    shape = (windows, h, t, c // h)
    q, k, v, dout = (torch.randn(shape, device=timer.device, dtype=torch.bfloat16) for _ in range(4))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    macs = windows * h * (c // h) * t * (t + 1) / 2
    name = f"B{windows} T{t} H{h} D{c // h}"
    for peer, backend in backends(timer.device):
        try:
            with sdpa_kernel(backend):
                with torch.no_grad():
                    forward = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
                    timer.row("attention", f"{preset} forward {name}", peer, forward, 4 * macs)
                out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                backward = lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
                timer.row("attention", f"{preset} backward {name}", peer, backward, 10 * macs)
        except RuntimeError as error:  # this build or GPU has not this backend
            text = str(error).strip().splitlines()[0]
            print(json.dumps({"subject": "attention", "name": f"{preset} {name}", "peer": peer, "error": text}), flush=True)


def backends(device):
    """Names and PyTorch's constants of the implementations of attention; cuDNN's since PyTorch 2.5."""
    if device != "cuda":
        return [("PyTorch", SDPBackend.MATH)]
    cudnn = getattr(SDPBackend, "CUDNN_ATTENTION", None)
    return [("cuDNN", cudnn)] * (cudnn is not None) + [("FlashAttention-2", SDPBackend.FLASH_ATTENTION)]


def steps(timer, preset, subjects):
    c, layers, h, t, windows = PRESETS[preset]
    model = Olmo2(c, layers, h, t).to(timer.device)
    run = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens, targets = torch.randint(VOCABULARY, (2, windows, t), device=timer.device)

    def loss():
        with torch.autocast(timer.device, torch.bfloat16):
            return run(tokens, targets)

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    @torch.no_grad()
    def score():
        loss()

    if "train" in subjects:
        timer.row("train", f"{preset} step of {windows} x {t} tokens", "PyTorch", train, tokens=windows * t)
    if "eval" in subjects:
        timer.row("eval", f"{preset} {windows} x {t} tokens", "PyTorch", score, tokens=windows * t)


def merge(timer, preset):
    """Peers of a merge from the device's memory: a copy within it, and PyTorch's sum in f32."""
    c, layers, _, _, _ = PRESETS[preset]
    f = feed_forward(c)
    n = 2 * VOCABULARY * c + layers * (4 * c * c + 3 * c * f + 4 * c) + c
    source, target = (torch.randn(n, device=timer.device) for _ in range(2))
    timer.row("merge", f"{preset} copy of {n} f32", "PyTorch", lambda: target.copy_(source), bytes_=8.0 * n)
    pool = torch.randn((8, n), device=timer.device).bfloat16()

    def summed():
        target.zero_()
        for x in pool:
            target.add_(x, alpha=0.125)
        target.bfloat16()

    # Bytes as counted by bench: each checkpoint once, the sum and its copy once.
    timer.row("merge", f"{preset} 8 checkpoints of {n} weights", "PyTorch", summed, bytes_=22.0 * n)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--presets", default="30m,130m,1b")
    args = parser.parse_args()
    subjects = args.subjects or ["gemm", "attention", "train", "merge", "eval"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "device": args.device}))
    timer = Timer(args.device)
    for preset in args.presets.split(","):
        if "gemm" in subjects:
            gemm(timer, preset)
        if "attention" in subjects:
            attention(timer, preset)
        # Eight checkpoints of the largest preset exceed the memory of most devices.
        if "merge" in subjects and preset != "1b":
            merge(timer, preset)
        if {"train", "eval"} & set(subjects):
            steps(timer, preset, subjects)


main()
