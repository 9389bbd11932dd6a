"""Tables of docs/results.md and benches/notes.md from the searches here: python3 tables.py"""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def read(name):
    text = subprocess.run(["zstd", "-dc", HERE / f"{name}.json.zst"], capture_output=True, check=True).stdout
    return json.loads(text)


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    rank = [0] * len(values)
    for place, i in enumerate(order):
        rank[i] = place
    return rank


def pearson(x, y):
    n, mx, my = len(x), sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in zip(x, y))
    return xy / (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5


def forms(name):
    """The error of each form on held-out merges: of the target, and the largest of a domain."""
    outcome = read(name)["outcome"]
    print(f"\n{name}: {outcome['target']['name']}, {len(outcome['partitions'])} partitions, lambda {outcome['lambda']}")
    print("| form | merges | rms / deviation | largest / deviation | r | of the worst domain: rms, largest, r | asymmetry |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for e in outcome["expansions"]:
        t = e["target"]
        domains = [(d["rms"] / d["deviation"], d["largest"] / d["deviation"], d["pearson"]) for d in e["domains"]]
        worst = max(domains)
        asymmetry = f"{max(e['asymmetry']):.3f}" if e["asymmetry"] else "-"
        print(
            f"| {e['name']}{' (chosen)' if e['chosen'] else ''} | {t['n']} {e['merges']} | {t['rms'] / t['deviation']:.4f} "
            f"| {t['largest'] / t['deviation']:.4f} | {t['pearson']:.6f} "
            f"| {worst[0]:.4f}, {worst[1]:.4f}, {min(d[2] for d in domains):.6f} | {asymmetry} |"
        )


def every_subset(name):
    """All subsets by real merges, against their predicted order."""
    outcome = read(name)["outcome"]
    asked = [c for c in outcome["candidates"] if c["kind"] == "asked"]
    predicted, real = [c["predicted"] for c in asked], [c["merged"] for c in asked]
    by_real, by_predicted = sorted(asked, key=lambda c: c["merged"]), sorted(asked, key=lambda c: c["predicted"])
    errors = [abs(p - r) for p, r in zip(predicted, real)]
    print(f"\n{name}: {len(asked)} subsets, r {pearson(predicted, real):.6f}, Spearman {pearson(ranks(predicted), ranks(real)):.6f}")
    print(f"largest error {max(errors):.2e}, range of real scores {min(real):.5f} to {max(real):.5f}")
    first = by_real[0]
    print(f"best: {first['name']} {first['merged']:.6f}; predicted best: {by_predicted[0]['name']} {by_predicted[0]['merged']:.6f}")
    overlap = {c["name"] for c in by_real[:10]} & {c["name"] for c in by_predicted[:10]}
    print(f"{len(overlap)} of the ten best are among the ten predicted best")
    best = outcome["candidates"][outcome["best"]]
    print(f"best weights {best['merged']:.6f}: " + ", ".join(f"{w:.3f} {p}" for p, w in zip(outcome["partitions"], best["weights"]) if w > 0))


def budgets():
    """Lambda, r and the best mixture at each budget; SEQ of what was chosen before any SEQ run."""
    for budget in (1, 2, 4, 8):
        report = read(f"budget{budget}")
        c, outcome = report["calibration"], report["outcome"]
        best = outcome["candidates"][outcome["best"]]
        mix = ", ".join(f"{100 * w:.0f}% {p}" for p, w in zip(outcome["partitions"], best["weights"]) if w > 0.005)
        own = [v for v in report["verification"] if v["budget"] == budget]
        seq = {v["name"]: v["seq"] for v in own}
        others = sorted((v["seq"], v["name"]) for v in own if v["name"] != "best")
        print(f"\nbudget {budget}: n {c['n']}, lambda {c['lambda']}, r {c['pearson']:.3f} ({c['pearson_low']:.3f} to {c['pearson_high']:.3f})")
        print("mean r over domains by lambda: " + ", ".join(f"{l['lambda']}: {l['mean_pearson']:.3f}" for l in c["lambdas"]))
        print(f"best now: {mix}")
        print(f"SEQ of the mixture chosen first: {seq['best']:.5f}; natural {seq['natural']:.5f}, uniform {seq['uniform']:.5f}; ", end="")
        print("lowest of the others: " + "; ".join(f"{v:.5f} {n}" for v, n in others[:3]))


if __name__ == "__main__":
    forms("quick200")
    forms("fifteen200")
    every_subset("quick255")
    budgets()
