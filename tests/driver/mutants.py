#!/usr/bin/env python3
"""Plants the bugs of mutants.toml in a copy of the source, one at a time, and runs the tests of
tests/driver until one fails.

    python3 tests/driver/mutants.py COPY [TEXT...]

COPY is a directory for the copy and its build, used again by the next call; with TEXT, only mutants
whose names contain one of them. Prints a table: what noticed each mutant, and after how many seconds.
Ends with status 1 if one was not noticed."""
import glob
import os
import subprocess
import sys
import time
import tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Tests of cuda.rs that take more than a few seconds without optimization.
SLOW = ["every_case", "every_tile", "training_matches", "merges_have"]
LIMIT = 240  # seconds of one program


def run(command, tree, **environment):
    """The end of a command's output if it fails, else None."""
    try:
        done = subprocess.run(command, cwd=tree, env={**os.environ, **environment}, text=True, timeout=LIMIT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return f"not done after {LIMIT} s"
    return None if done.returncode == 0 else done.stdout


def build(tree):
    """The program of the tests of kernels; cargo builds the shipped program too."""
    done = subprocess.run(["cargo", "test", "--test", "kernels", "--no-run"], cwd=tree, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"the mutant does not compile:\n{done.stdout[-3000:]}")
    return os.path.join(tree, done.stdout.rsplit("(", 1)[1].split(")")[0])


def stages(program, tree):
    """(name, command, environment), the quick ones first."""
    for order in ["reverse", "late"]:
        gpu = max(glob.glob(os.path.join(tree, "target/simt/gpu-*")), key=os.path.getmtime)
        environment = {"LD_LIBRARY_PATH": gpu, "STOCKPOT_NVRTC": f"{gpu}/libnvrtc.so", "STOCKPOT_CACHE": f"{gpu}/cache",
                       "SOFTWARE_GPU": f"order={order}", "STOCKPOT_REQUIRE_CUDA": "1"}
        skipped = [part for name in SLOW for part in ("--skip", name)]
        yield f"cuda, {order}", [program, "cuda::", *skipped, "--test-threads", "1"], environment
    yield "study", [program, "driver::study"], {}
    # Those that do not time the CPU, which takes long without optimization.
    yield "doctor", [program, *(f"driver::doctor::{name}" for name in ["the_", "a_usable", "a_gpu", "without", "kernels"])], {}
    yield "failures", [program, "driver::failures"], {}
    yield "runtime, late", [program, "driver::runtime::the_runtime_is_right_when_work"], {}


def reason(output):
    """One line of a failed program's output."""
    lines = output.splitlines()
    for mark in ["violation:", "panicked at", "error:"]:
        for i, line in enumerate(lines):
            if mark in line:
                return (lines[i + 1] if mark == "panicked at" and i + 1 < len(lines) else line).strip()[:110]
    return (lines or ["no output"])[-1].strip()[:110]


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    tree, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    os.makedirs(tree, exist_ok=True)
    with open(os.path.join(ROOT, "tests/driver/mutants.toml"), "rb") as file:
        mutants = tomllib.load(file)["mutant"]
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
    for name in files.split():
        to = os.path.join(tree, name)
        with open(os.path.join(ROOT, name), "rb") as file:
            text = file.read()
        if not os.path.exists(to) or open(to, "rb").read() != text:
            os.makedirs(os.path.dirname(to), exist_ok=True)
            with open(to, "wb") as file:
                file.write(text)
    failed = run([build(tree), "driver::study::a_study_opens"], tree)
    if failed:
        raise SystemExit(f"the tests fail without a mutant:\n{failed[-3000:]}")
    survivors = 0
    for mutant in mutants:
        if wanted and not any(text in mutant["name"] for text in wanted):
            continue
        path = os.path.join(tree, "src/engine", mutant["file"])
        with open(path) as file:
            source = file.read()
        assert source.count(mutant["from"]) == 1, mutant["name"]
        start = time.monotonic()
        with open(path, "w") as file:
            file.write(source.replace(mutant["from"], mutant["to"]))
        try:
            program = build(tree)
            for name, command, environment in stages(program, tree):
                output = run(command, tree, **environment)
                if output:
                    row = f"{name}: {reason(output)}"
                    break
            else:
                row, survivors = "NOT NOTICED", survivors + 1
        except SystemExit as failure:
            row = f"does not compile: {str(failure)[-200:]}"
            survivors += 1
        finally:
            with open(path, "w") as file:
                file.write(source)
        print(f"{mutant['name']} | {row} | {time.monotonic() - start:.0f} s", flush=True)
    print(f"{survivors} were not noticed")
    raise SystemExit(survivors > 0)


if __name__ == "__main__":
    main()
