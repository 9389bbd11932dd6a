"""The models of benches/training.rs in PyTorch: a minimal Llama with fused projections, f32,
AdamW(fused=True), clip 1.0.

python3 torch_training.py [--compile] [--threads 2] [--seconds 8] [tiny small 130m]

Prints tokens/s of a training step and of a forward pass with loss: the median over the steps that
fit into --seconds, and the best step. Measured with torch 2.15.0.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

# (C, L, H, F, V), tied, (B, T)
MODELS = {
    "quickstart": ((96, 3, 3, 256, 1024), False, (32, 64)),
    "tiny": ((256, 4, 4, 688, 4096), False, (16, 256)),
    "small": ((512, 8, 8, 1376, 16384), False, (4, 512)),
    "130m": ((768, 12, 12, 2048, 50304), True, (1, 1024)),
}


class Block(torch.nn.Module):
    def __init__(self, c, h, f):
        super().__init__()
        self.h = h
        self.qkv = torch.nn.Linear(c, 3 * c, bias=False)
        self.out = torch.nn.Linear(c, c, bias=False)
        self.gate_up = torch.nn.Linear(c, 2 * f, bias=False)
        self.down = torch.nn.Linear(f, c, bias=False)
        self.norm1 = torch.nn.Parameter(torch.ones(c))
        self.norm2 = torch.nn.Parameter(torch.ones(c))

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        q, k, v = self.qkv(F.rms_norm(x, (c,), self.norm1)).view(b, t, 3, self.h, c // self.h).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(F.rms_norm(x, (c,), self.norm2)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Llama(torch.nn.Module):
    def __init__(self, sizes, tied, t):
        super().__init__()
        c, layers, h, f, v = sizes
        self.embed = torch.nn.Embedding(v, c)
        self.blocks = torch.nn.ModuleList(Block(c, h, f) for _ in range(layers))
        self.norm = torch.nn.Parameter(torch.ones(c))
        self.head = torch.nn.Linear(c, v, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        d = c // h
        angles = torch.outer(torch.arange(t), 10000.0 ** (-torch.arange(0, d, 2) / d))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens, targets):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(F.rms_norm(x, (x.shape[-1],), self.norm))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def timed(step, tokens, seconds):
    step()
    step()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 4:
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    return f"{tokens / statistics.median(times):9.0f} tok/s median, {tokens / min(times):9.0f} best, n {len(times)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for name in args.models or MODELS:
        sizes, tied, (b, t) = MODELS[name]
        model = Llama(sizes, tied, t)
        parameters = sum(p.numel() for p in model.parameters())
        run = torch.compile(model) if args.compile else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        tokens, targets = torch.randint(sizes[4], (2, b, t))

        def train():
            optimizer.zero_grad(set_to_none=True)
            run(tokens, targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        def score():
            with torch.inference_mode():
                run(tokens, targets)

        mode = "compile" if args.compile else "eager"
        print(f"{name} {parameters / 1e6:.1f}M {mode} threads {args.threads}")
        print("  train", timed(train, b * t, args.seconds))
        print("  score", timed(score, b * t, args.seconds), flush=True)


main()
