"""What `stockpot bench` times on a GPU, in PyTorch on the same shapes: matrix products (cuBLASLt), causal attention (flash
SDPA) and training steps (OLMo-2 block, bf16 autocast over f32 weights, AdamW(fused=True), clip 1.0).

python3 torch_gpu.py [--device cuda] [--compile] [--seconds 2] [gemm attention train] [--presets 30m 130m 1b]

Prints microseconds (median of samples of at least 100 ms each), TFLOP/s or tokens/s. --device cpu is for trying the script.
Tried with torch 2.15.0.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

VOCABULARY = 50304
# C, L, H, T, and B, the windows of a micro-batch: those of src/bench.rs.
PRESETS = {
    "tiny": (96, 3, 3, 64, 32),
    "30m": (384, 8, 6, 1024, 32),
    "130m": (768, 12, 12, 2048, 16),
    "1b": (2048, 24, 16, 2048, 4),
}


def feed_forward(c):
    return (c * 8 // 3 + 63) // 64 * 64


class Timer:
    def __init__(self, device, seconds):
        self.device, self.seconds = device, seconds

    def wait(self):
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def time(self, work):
        for _ in range(3):
            work()
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        count = max(1, round(0.1 / max(time.perf_counter() - start, 1e-9)))
        samples, start = [], time.perf_counter()
        while time.perf_counter() - start < self.seconds or len(samples) < 5:
            before = time.perf_counter()
            for _ in range(count):
                work()
            self.wait()
            samples.append((time.perf_counter() - before) / count)
        return statistics.median(samples), (max(samples) - min(samples)) / statistics.median(samples)

    def row(self, name, work, flops=0.0, tokens=0):
        seconds, spread = self.time(work)
        text = f"{name:44} {seconds * 1e6:10.1f} us  spread {100 * spread:4.1f}%"
        if flops:
            text += f"  {flops / seconds / 1e12:8.3f} TFLOP/s"
        if tokens:
            text += f"  {tokens / seconds / 1e3:9.1f}k tok/s"
        print(text, flush=True)


def gemm(timer, preset, device):
    c, _, _, t, b = PRESETS[preset]
    f, rows = feed_forward(c), b * t
    chunk = min(rows, 4096)
    layers = [("qkv", rows, 3 * c, c), ("out", rows, c, c), ("gate_up", rows, 2 * f, c), ("down", rows, c, f)]
    for layer, r, out, inner in layers + [("head", chunk, VOCABULARY, c)]:
        x = torch.randn(r, inner, device=device, dtype=torch.bfloat16)
        weight = torch.randn(out, inner, device=device, dtype=torch.bfloat16)
        y = torch.randn(r, out, device=device, dtype=torch.bfloat16)
        flops = 2.0 * r * out * inner
        shape = f"{r}x{out}x{inner}"
        timer.row(f"{preset} {layer} forward {shape}", lambda: x @ weight.t(), flops)
        timer.row(f"{preset} {layer} dx {shape}", lambda: y @ weight, flops)
        # cuBLAS writes bf16 here, where Stockpot adds to f32.
        timer.row(f"{preset} {layer} dweight {shape}", lambda: y.t() @ x, flops)


def attention(timer, preset, device):
    c, _, h, t, b = PRESETS[preset]
    d = c // h
    q, k, v = (torch.randn(b, h, t, d, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    dout = torch.randn(b, h, t, d, device=device, dtype=torch.bfloat16)
    macs = b * h * d * t * (t + 1) / 2
    shape = f"B{b} T{t} H{h} D{d}"
    timer.row(f"{preset} forward {shape}", lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 4 * macs)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    timer.row(
        f"{preset} backward {shape}",
        lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True),
        10 * macs,
    )


class Block(torch.nn.Module):
    def __init__(self, c, h, f):
        super().__init__()
        self.h = h
        self.qkv = torch.nn.Linear(c, 3 * c, bias=False)
        self.out = torch.nn.Linear(c, c, bias=False)
        self.gate_up = torch.nn.Linear(c, 2 * f, bias=False)
        self.down = torch.nn.Linear(f, c, bias=False)
        self.norms = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(c)) for _ in range(4))

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        q, k, v = self.qkv(x).split(c, -1)
        q, k = F.rms_norm(q, (c,), self.norms[0]), F.rms_norm(k, (c,), self.norms[1])
        q, k, v = (y.view(b, t, self.h, c // self.h).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v.to(q.dtype), is_causal=True)
        x = x + F.rms_norm(self.out(y.transpose(1, 2).reshape(b, t, c)), (c,), self.norms[2])
        gate, up = self.gate_up(x).chunk(2, -1)
        return x + F.rms_norm(self.down(F.silu(gate) * up), (c,), self.norms[3])


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


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


def train(timer, preset, device, compiled):
    c, layers, h, t, b = PRESETS[preset]
    model = Olmo2(c, layers, h, t).to(device)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens, targets = torch.randint(VOCABULARY, (2, b, t), device=device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
            loss = run(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    block = c * (4 * c + 3 * feed_forward(c))
    flops = 3 * b * t * (2.0 * (layers * block + VOCABULARY * c) + 2.0 * layers * t * c)
    mode = "compile" if compiled else "eager"
    timer.row(f"{preset} step of {b} x {t} tokens, {mode}", step, flops, b * t)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*", default=["gemm", "attention", "train"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--presets", nargs="*", default=["30m", "130m", "1b"])
    args = parser.parse_args()
    torch.manual_seed(0)
    timer = Timer(args.device, args.seconds)
    print("torch", torch.__version__, args.device)
    for preset in args.presets:
        for subject in args.subjects or ["gemm", "attention", "train"]:
            if subject == "gemm":
                gemm(timer, preset, args.device)
            elif subject == "attention":
                attention(timer, preset, args.device)
            elif subject == "train":
                train(timer, preset, args.device, args.compile)
            else:
                parser.error(f"{subject} is not gemm, attention or train")


main()
