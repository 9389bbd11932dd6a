#!/usr/bin/env bash
# The GPU queue: every check that needs a GPU, with the programs built by benches/prepare_gpu.sh.
#   benches/gpu.sh BINARIES OUT [--device cuda] [--seconds N] [first | second | third | STEP...]
# Steps, by default all of them in this order:
#   facts conformance tests bench peers quickstart study steps memcheck racecheck ncu synccheck initcheck
# Each step writes its raw output to OUT and a line to OUT/summary.txt: passed, FAILED or skipped,
# its seconds and the reason. If it fails, the end of its output is also printed; the other steps
# still run and the exit status is 1. Steps are independent. The call ends with a table of at most
# 11,000 characters (benches/gpu_summary.py). --seconds limits all steps together: a step that cannot
# start in time is skipped; name it in the next call.
#
# A GPU is lent for about twelve minutes in all. Three groups, by priority, one a call; each writes to
# OUT/<group>. A step is cut when it would take time that later steps of the group need:
#   benches/gpu.sh BINARIES OUT first    # within 200 s: facts, conformance, tests, 130m, products and attention
#   benches/gpu.sh BINARIES OUT second   # within 240 s: peers, merges, studies that must have equal bits
#   benches/gpu.sh BINARIES OUT third    # within 280 s: compute-sanitizer and ncu
# Needs bash, coreutils and NVRTC (from pip is fine); compute-sanitizer, ncu and python3 with PyTorch
# for their steps. STOCKPOT_NVRTC, STOCKPOT_CACHE and LD_LIBRARY_PATH are used as they are set. With
# --device cpu, steps that need a GPU are skipped. With STOCKPOT_STAND_IN=1 the host executor replaces
# the GPU in the steps `conformance` and `tests`. Sizes for a trial of the script itself:
#   LIMIT (seconds of one step, 540), QUICKSTART (a study), STUDY_PRESET (30m), PRESETS ("130m 1b"), STEPS (50),
#   BENCH ("gemm attention train merge eval"), BENCH_PRESETS (all), PEERS (30m,130m,1b), PEER_SUBJECTS (all),
#   CASES (the sanitizers': Random), SCRATCH (OUT/scratch: large, need not be kept; so is the cache, OUT/cache)
# shellcheck disable=SC2329 # the functions are called by "step_$step"
set -uo pipefail

usage() {
  echo "usage: benches/gpu.sh BINARIES OUT [--device cuda] [--seconds N] [first | second | third | STEP...]" >&2
  exit 2
}
[ $# -ge 2 ] || usage
if ! { binaries=$(realpath "$1") && mkdir -p "$2" && out=$(realpath "$2"); }; then usage; fi
shift 2
device=cuda
deadline=
inside=
group=
steps=()
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=${2:?a device} && shift 2 ;;
    --seconds) deadline=$((SECONDS + ${2:?seconds})) && shift 2 ;;
    --inside) inside=${2:?a step} && shift 2 ;; # how this script calls itself for one step
    first | second | third) group=$1 && shift ;;
    facts | conformance | tests | bench | peers | quickstart | study | steps | memcheck | racecheck | ncu | synccheck | initcheck)
      steps+=("$1") && shift
      ;;
    *) usage ;;
  esac
done
if [ -n "$group" ] && [ ${#steps[@]} -gt 0 ]; then usage; fi
[ ${#steps[@]} -gt 0 ] ||
  steps=(facts conformance tests bench peers quickstart study steps memcheck racecheck ncu synccheck initcheck)
export STOCKPOT_CACHE=${STOCKPOT_CACHE:-$out/cache}

# The steps of each group, the seconds that belong to each, and their sizes.
declare -A reserved
case $group in
  first)
    reserved=([facts]=12 [conformance]=20 [tests]=60 [steps]=23 [bench]=35 [peers]=40)
    steps=(facts conformance tests steps bench peers)
    export PRESETS=${PRESETS-130m} STEPS=${STEPS-20}
    export BENCH=${BENCH-gemm attention train} BENCH_PRESETS=${BENCH_PRESETS-130m}
    export PEERS=${PEERS-130m} PEER_SUBJECTS=${PEER_SUBJECTS-gemm attention}
    ;;
  second)
    # `tune` comes here, before the studies.
    reserved=([bench]=35 [peers]=75 [study]=65 [quickstart]=55)
    steps=(bench peers study quickstart)
    export STEPS=${STEPS-20}
    export BENCH=${BENCH-train merge eval} BENCH_PRESETS=${BENCH_PRESETS-130m}
    export PEERS=${PEERS-130m} PEER_SUBJECTS=${PEER_SUBJECTS-train merge eval}
    ;;
  third)
    reserved=([memcheck]=80 [racecheck]=60 [ncu]=60 [synccheck]=35 [initcheck]=35)
    steps=(memcheck racecheck ncu synccheck initcheck)
    ;;
esac
if [ -n "$group" ]; then
  out=$out/$group
  mkdir -p "$out"
  total=0
  for step in "${steps[@]}"; do total=$((total + reserved[$step])); done
  deadline=${deadline:-$((SECONDS + total))}
fi

root=$(cd "$(dirname "$0")/.." && pwd)
stockpot=$binaries/stockpot
scratch=${SCRATCH:-$out/scratch}
quickstart=${QUICKSTART:-$root/examples/quickstart/study.toml}
study_preset=${STUDY_PRESET:-30m}
read -r -a presets <<<"${PRESETS:-130m 1b}"
train_steps=${STEPS:-50}
limit=${LIMIT:-540}
# Tests that find no GPU fail; elsewhere they are skipped.
if [[ $device == cuda* ]]; then export STOCKPOT_REQUIRE_CUDA=1; fi

# A step that cannot run prints the reason and returns 77.
skip() {
  echo "skipped: $*"
  return 77
}
needs() { # PROGRAM
  command -v "$1" >/dev/null || skip "no $1 on PATH"
}
# Without importing it, which takes seconds.
has_torch() { python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null; }
on_gpu() { [[ $device == cuda* ]] || skip "--device $device"; }

step_facts() {
  cat "$binaries/build.txt"
  # Facts that a machine does not provide are omitted.
  uname -srm
  grep -m1 'model name' /proc/cpuinfo || true
  echo "cores: $(nproc)"
  grep -E '^Mem(Total|Available)' /proc/meminfo || true
  df -h "$out" | tail -1 || true
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi || true
    nvidia-smi -q >"$out/nvidia-smi.txt" || true
  fi
  for program in compute-sanitizer ncu nsys python3; do command -v "$program" || echo "no $program"; done
  python3 -c 'from importlib.metadata import version; print("torch", version("torch"))' 2>/dev/null || echo "no PyTorch"
  "$stockpot" doctor
  "$stockpot" doctor --json >"$out/doctor.json"
}

# Each instruction against its model, in seconds; the first of the tests too.
step_conformance() { "$binaries/tests/kernels" cuda::a_device_does --test-threads 1 --nocapture; }

# --nocapture shows what the tests print: the maximum error of each output.
step_tests() { "$binaries/tests/kernels" cuda:: --test-threads 1 --nocapture; }

sanitize() { # TOOL TESTS [OPTIONS...]
  on_gpu && needs compute-sanitizer || return
  STOCKPOT_CASES=${CASES-Random} compute-sanitizer --tool "$1" --error-exitcode 1 "$binaries/tests/kernels" \
    --test-threads 1 --nocapture "${@:2}"
}
# Skips the one test that deliberately requests more memory than there is.
step_memcheck() { sanitize memcheck cuda:: --skip memory_that_the_gpu_has_not; }
# Races, barriers and uninitialized memory are properties of single kernels, so their cases suffice.
step_racecheck() { sanitize racecheck cuda::every_case; }
step_synccheck() { sanitize synccheck cuda::every_case; }
step_initcheck() { sanitize initcheck cuda::every_case; }

# Runs a study twice and compares every byte, except files with times, and the lock, which contains a
# process id.
twice() { # STUDY NAME [OPTIONS...]
  local run start
  for run in 1 2; do
    echo "== $2, run $run"
    start=$SECONDS
    rm -rf "$scratch/$2.$run"
    "$stockpot" run "$1" --out "$scratch/$2.$run" --device "$device" --json "${@:3}" \
      >"$out/$2.$run.json" || return
    echo "$((SECONDS - start)) s"
  done
  if diff -rq --exclude study.lock --exclude clock.jsonl --exclude cost.json --exclude report.html \
    "$scratch/$2.1" "$scratch/$2.2"; then
    echo "equal bits: $(find "$scratch/$2.1" -type f | wc -l) files"
  else
    return 1
  fi
}

step_quickstart() {
  twice "$quickstart" quickstart || return
  if command -v python3 >/dev/null; then python3 "$root/examples/quickstart/check.py" "$out/quickstart.1.json"; fi
}

# The quickstart's text with a larger model and tokenizer, in few steps and without a search: it
# compares bits, not perplexities.
step_study() {
  local data=$root/examples/quickstart/data
  mkdir -p "$scratch"
  sed -e "s/^preset = .*/preset = \"$study_preset\"/" -e 's/^vocabulary = [0-9]*/vocabulary = 8192/' \
    -e "s|\"data/|\"$data/|g" -e "s/^steps = .*/steps = $train_steps/" -e 's/^warmup_steps = .*/warmup_steps = 5/' \
    -e 's/^batch = .*/batch = 8/' -e 's/^pairs = .*/pairs = 3/' -e 's/^triples = .*/triples = 1/' \
    "$root/examples/quickstart/study.toml" >"$out/study-$study_preset.toml"
  twice "$out/study-$study_preset.toml" "study-$study_preset" --until scores
}

train_settings() { # PRESET STEPS
  cat <<TOML
files = ["$root/examples/quickstart/data/classic_novels.jsonl.zst"]
tokenizer = "$binaries/tokenizer.json"

[model]
architecture = "olmo2"
preset = "$1"

[training]
steps = $2
batch = 16
micro_batch = 4
learning_rate = 3e-4
warmup_steps = 10
TOML
}

step_steps() {
  local failed=0 preset start
  for preset in "${presets[@]}"; do
    echo "== $preset, $train_steps steps"
    start=$SECONDS
    train_settings "$preset" "$train_steps" >"$out/train-$preset.toml"
    rm -rf "$scratch/train-$preset" "$scratch/train-$preset.partial"
    if "$stockpot" train --config "$out/train-$preset.toml" --out "$scratch/train-$preset" --device "$device"; then
      cp "$scratch/train-$preset/metrics.jsonl" "$out/train-$preset.metrics.jsonl"
      tail -1 "$out/train-$preset.metrics.jsonl"
    else
      failed=1
    fi
    echo "$((SECONDS - start)) s"
  done
  return "$failed"
}

# One call for each preset and subject: a step cut short keeps those that it finished.
step_bench() {
  local failed=0 what preset name start
  for preset in ${BENCH_PRESETS:-all}; do
    for what in ${BENCH:-gemm attention train merge eval}; do
      name=$what
      [ "$preset" = all ] || name=$what-$preset
      echo "== bench $name"
      start=$SECONDS
      set -- bench "$what" --device "$device" --json
      [ "$preset" = all ] || set -- "$@" --preset "$preset"
      "$stockpot" "$@" >"$out/bench-$name.json" || failed=1
      echo "$((SECONDS - start)) s"
    done
  done
  return "$failed"
}

step_peers() {
  needs python3 || return
  has_torch || skip "no PyTorch" || return
  # One word per subject.
  # shellcheck disable=SC2086
  python3 "$root/benches/peers/torch_gpu.py" --device "${device%%:*}" --presets "${PEERS:-30m,130m,1b}" \
    ${PEER_SUBJECTS:-} | tee "$out/torch.jsonl"
}

# Profiles the slowest kernels of a step, after the first step has loaded them. The card's clocks stay
# as they are.
step_ncu() {
  on_gpu && needs ncu || return
  train_settings "${presets[0]}" 2 >"$out/ncu.toml"
  rm -rf "$scratch/ncu" "$scratch/ncu.partial"
  ncu --set full --clock-control none --graph-profiling node --kernel-name 'regex:gemm|attention|cross_entropy|adamw' --launch-skip 40 \
    --launch-count 60 --force-overwrite --export "$out/ncu" \
    "$stockpot" train --config "$out/ncu.toml" --out "$scratch/ncu" --device "$device" || return
  ncu --import "$out/ncu.ncu-rep" --page details >"$out/ncu-details.txt"
}

if [ -n "$inside" ]; then
  set -e
  "step_$inside"
  exit
fi

failed=0
for i in "${!steps[@]}"; do
  step=${steps[i]}
  echo "=== $step"
  start=$SECONDS
  seconds=$limit
  if [ -n "$deadline" ]; then
    left=$((deadline - SECONDS))
    # Seconds that earlier steps did not use are free for this one, those of later steps are not.
    for later in "${steps[@]:i+1}"; do left=$((left - ${reserved[$later]:-0})); done
    seconds=$((left < limit ? left : limit))
  fi
  if [ "$seconds" -lt 10 ]; then
    verdict="skipped: no time left"
  else
    # KILL reaches every process of the step, also one that ignores other signals.
    timeout --signal KILL "$seconds" "$BASH" "$0" "$binaries" "$out" --device "$device" --inside "$step" \
      >"$out/$step.txt" 2>&1
    case $? in
      0) verdict=passed ;;
      77) verdict=$(tail -1 "$out/$step.txt") ;;
      137) verdict="FAILED: timed out after $seconds s: $out/$step.txt" ;;
      *) verdict="FAILED: $out/$step.txt" ;;
    esac
  fi
  if [[ $verdict == FAILED* ]]; then
    failed=1
    tail -30 "$out/$step.txt"
  fi
  echo "$(date -u +%FT%TZ) $step $((SECONDS - start)) s $verdict" | tee -a "$out/summary.txt"
done
echo "$SECONDS s in total"
if command -v python3 >/dev/null; then python3 "$root/benches/gpu_summary.py" "$out"; fi
exit "$failed"
