"""`stockpot merge` compared with its peers: averages 8 checkpoints of a 134.5M-parameter Llama (bf16,
tied), warm page cache, one whole process after another, several rounds. Measures wall seconds, CPU
seconds and peak anonymous memory (memory not shared with the page cache).

python3 merging.py STOCKPOT SCRATCH [--rounds 5] [--counts 8]

Needs torch, safetensors and gcc; mergekit-yaml is skipped with a message if it is not on the PATH.
Prints one line of JSON per run.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))

TORCH = """
import sys, torch
from safetensors.torch import load_file, save_file
out, *paths = sys.argv[1:]
sums = {}
for path in paths:
    for name, x in load_file(path + "/model.safetensors").items():
        x = x.float() / len(paths)
        sums[name] = sums[name].add_(x) if name in sums else x
save_file({name: x.bfloat16() for name, x in sums.items()}, out, metadata={"format": "pt"})
"""


def make(scratch, count):
    import torch
    from safetensors.torch import save_file

    c, layers, kv, f, v = 576, 30, 192, 1536, 49152
    shapes = {"model.embed_tokens": (v, c), "model.norm": (c,)}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm": (c,), p + "post_attention_layernorm": (c,)}
        shapes |= {p + "self_attn.q_proj": (c, c), p + "self_attn.o_proj": (c, c)}
        shapes |= {p + "self_attn.k_proj": (kv, c), p + "self_attn.v_proj": (kv, c)}
        shapes |= {p + "mlp.gate_proj": (f, c), p + "mlp.up_proj": (f, c), p + "mlp.down_proj": (c, f)}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": v, "hidden_size": c,
        "intermediate_size": f, "num_hidden_layers": layers, "num_attention_heads": 9, "num_key_value_heads": 3,
        "head_dim": 64, "max_position_embeddings": 2048, "tie_word_embeddings": True, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16",
    }  # fmt: skip
    paths = [os.path.join(scratch, f"m{k}") for k in range(count)]
    # The first eight files are distinct; the rest are links to them, which every tool reads as
    # separate files.
    for k, path in enumerate(paths):
        os.makedirs(path, exist_ok=True)
        if k < 8:
            g = torch.Generator().manual_seed(k)
            tensors = {n + ".weight": (torch.randn(*s, generator=g) * 0.02).bfloat16() for n, s in shapes.items()}
            save_file(tensors, path + "/model.safetensors", metadata={"format": "pt"})
        elif not os.path.exists(path + "/model.safetensors"):
            os.link(paths[k % 8] + "/model.safetensors", path + "/model.safetensors")
        json.dump(config, open(path + "/config.json", "w"))
    return paths


def anonymous(pid):
    """Bytes of anonymous memory of a process and its children."""
    total = 0
    try:
        for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
            total += anonymous(child)
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) * 1024
    except OSError:
        pass
    return total


def run(name, command, count, round_):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous(process.pid))
            done.wait(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    error = process.communicate()[1].decode()
    wall = time.perf_counter() - start
    done.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode != 0:
        sys.exit(f"{name}: {error}")
    row = {"tool": name, "checkpoints": count, "round": round_, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)}
    print(json.dumps(row | {"peak_anonymous_mib": round(peak / 2**20, 1)}), flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("stockpot")
    arguments.add_argument("scratch")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--counts", default="8")
    arguments.add_argument("--only", default="stockpot,c,torch,mergekit")
    a = arguments.parse_args()
    only = a.only.split(",")
    os.makedirs(a.scratch, exist_ok=True)
    loop = os.path.join(a.scratch, "merge")
    subprocess.run(["cc", "-O3", "-march=native", "-pthread", HERE + "/merge.c", "-o", loop], check=True)
    if "mergekit" in only and not shutil.which("mergekit-yaml"):
        print("mergekit-yaml is not on the PATH: skipped", file=sys.stderr)
        only.remove("mergekit")
    for count in map(int, a.counts.split(",")):
        paths = make(a.scratch, count)
        out = os.path.join(a.scratch, "out")
        recipe = os.path.join(a.scratch, "recipe.yaml")
        with open(recipe, "w") as f:
            models = "".join(f"  - model: {p}\n    parameters: {{weight: {1 / count}}}\n" for p in paths)
            f.write(f"merge_method: linear\nmodels:\n{models}parameters: {{normalize: false}}\ndtype: bfloat16\n")
        commands = {
            "stockpot": [a.stockpot, "merge", "--out", out, *paths],
            "c": [loop, out, *(p + "/model.safetensors" for p in paths)],
            "torch": [sys.executable, "-c", TORCH, out, *paths],
            "mergekit": ["mergekit-yaml", recipe, out, "--trust-remote-code"],
        }
        for round_ in range(a.rounds + 1):
            for tool in only:
                if os.path.isdir(out):
                    shutil.rmtree(out)
                elif os.path.exists(out):
                    os.remove(out)
                # The first round warms the page cache and is not counted.
                run(tool if round_ else tool + " (warm-up)", commands[tool], count, round_)


main()
