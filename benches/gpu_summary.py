"""The table that ends a call of benches/gpu.sh, at most 11,000 characters: steps, failures, conformance,
errors, and speeds beside those of PyTorch's libraries.

python3 gpu_summary.py OUT

Reads what the steps wrote to OUT. A file that is missing or was cut short leaves out its lines only.
"""

import json
import re
import sys
from pathlib import Path

LIMIT = 11_000


def text(out, name):
    path = out / name
    return path.read_text(errors="replace") if path.exists() else ""


def short(line, width):
    line = line.rstrip()
    return line if len(line) <= width else line[: width - 3] + "..."


def steps(out):
    """(step, seconds, verdict) of the last run of each step, in order."""
    last = {}
    for line in text(out, "summary.txt").splitlines():
        if found := re.match(r"\S+ (\S+) (\d+) s (.*)", line):
            last.pop(found[1], None)
            last[found[1]] = (int(found[2]), found[3])
    return [(step, *rest) for step, rest in last.items()]


def failure(output):
    """The lines around each panic, or else the last ones."""
    lines = [line for line in output.splitlines() if line.strip()]
    panics = [i for i, line in enumerate(lines) if "panicked at" in line]
    shown = [line for i in panics[:4] for line in lines[i : i + 5]] if panics else lines[-8:]
    return ["  " + short(line, 160) for line in shown[:16]]


def errors(output):
    """The worst error of each output, without its case, three a line."""
    found = re.findall(r"^(?:test \S+ \.\.\. )?(.*) is off by up to (\S+) \(", output, re.MULTILINE)
    cells = [f"{short(name, 26):26} {error:>8}" for name, error in found]
    return ["  ".join(cells[i : i + 3]) for i in range(0, len(cells), 3)]


def rows(out):
    """The rows of `stockpot bench`."""
    found = []
    for path in sorted(out.glob("bench-*.json")):
        try:
            found += json.loads(path.read_text())["rows"]
        except (ValueError, KeyError):  # cut short: its step is in the table of steps
            continue
    return found


def peers(out):
    """Peers' rows by name, and the lines of those that failed."""
    known, failed = {}, []
    for line in text(out, "torch.jsonl").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "error" in row:
            failed.append(short(f"{row['peer']}: {row['name']}: {row['error']}", 120))
        elif "seconds" in row:
            known.setdefault((row["subject"], row["name"]), []).append(row)
    return known, failed


def rate(row):
    if row["subject"] in ("train", "eval"):
        return row["tokens"] / row["seconds"] / 1e3, "k tok/s"
    if row["subject"] == "merge":
        return row["bytes"] / row["seconds"] / 1e9, "GB/s"
    return row["flops"] / row["seconds"] / 1e12, "TFLOP/s"


def speeds(out):
    """A line for each row: ours, and each peer's on the same work with our speed as a fraction of it."""
    known, failed = peers(out)
    lines = []
    for row in rows(out):
        speed, unit = rate(row)
        line = f"{row['name']:42} {speed:8.1f} {unit:7}"
        for peer in known.pop((row["subject"], row["name"]), []):
            ratio = peer["seconds"] / row["seconds"]
            line += f"  {peer['peer']} {speed / ratio:.1f} = {ratio:.2f}"
        lines.append(line)
    for (_, name), others in known.items():
        lines += [f"{name:42} {'-':>8}          {peer['peer']} {peer['seconds'] * 1e6:.1f} us" for peer in others]
    return lines + failed


def profile(details):
    """The first launch of each kernel in ncu's details: its duration, and the use of units and memory."""
    wanted = {"Duration": "", "Compute (SM) Throughput": "SM ", "Memory Throughput": "memory "}
    lines, seen = [], set()
    for part in re.split(r"\n(?=  \S+ \(\d+, \d+, \d+\)x)", "\n" + details):
        name = re.match(r"\n?  (\S+) \(", part)
        if not name or name[1] in seen:
            continue
        seen.add(name[1])
        values = []
        for metric, label in wanted.items():
            if found := re.search(rf"^\s+{re.escape(metric)}\s+(us|ms|ns|%|[KMGT]byte/s)\s+([\d.,]+)", part, re.MULTILINE):
                values.append(f"{label}{found[2]} {found[1]}")
        lines.append(f"{name[1]:28} " + ", ".join(values))
    return lines


def matching(out, pattern, *names):
    return [f"{name.removesuffix('.txt')}: {short(line, 120)}" for name in names
            for line in text(out, name).splitlines() if re.search(pattern, line)]


def main(out):
    done = steps(out)
    failures = []
    for step, _, verdict in done:
        if verdict.startswith("FAILED"):
            failures += [f"{step}:"] + failure(text(out, f"{step}.txt"))
    conforms = [short(line.split("conforms: ")[1], 190) for line in text(out, "conformance.txt").splitlines()
                if "conforms: " in line]
    sanitizers = ["memcheck.txt", "racecheck.txt", "synccheck.txt", "initcheck.txt"]
    # Most important first, with the most lines of each.
    sections = [
        ("steps", [f"{step:12} {seconds:4} s  {short(verdict, 90)}" for step, seconds, verdict in done], 20),
        ("failures", failures, 40),
        ("conforms to the models", conforms, 20),
        ("speed, and ours as a fraction of a peer's", speeds(out), 40),
        ("equal bits", matching(out, r"^equal bits|^Files .* differ|^Only in", "study.txt", "quickstart.txt"), 8),
        ("sanitizers", matching(out, r"ERROR SUMMARY|RACECHECK SUMMARY", *sanitizers), 8),
        ("ncu", profile(text(out, "ncu-details.txt")), 16),
        ("worst errors of the tests", errors(text(out, "tests.txt")), 20),
    ]
    table = []
    for title, lines, most in sections:
        if not lines:
            continue
        table.append(f"== {title}")
        table += lines[:most]
        if len(lines) > most:
            table.append(f"... {len(lines) - most} more in {out}")
    table = "\n".join(table)
    end = f"\n... cut; all of it is in {out}"
    print(table if len(table) <= LIMIT else table[: LIMIT - len(end)] + end)


main(Path(sys.argv[1]))
