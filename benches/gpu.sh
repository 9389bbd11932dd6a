#!/usr/bin/env bash
# The GPU queue: all that only a GPU can tell, from binaries that benches/prepare_gpu.sh has built.
#   benches/gpu.sh BINARIES OUT [--device cuda] [STEP...]
# Steps, in this order unless named: facts tests sanitizer quickstart study steps bench peers ncu. Each writes its raw output
# below OUT, and a line of OUT/summary.txt: passed, FAILED or skipped, its seconds, why. One that fails stops none after it.
# Needs bash, coreutils and NVRTC (pip's will do); compute-sanitizer, ncu and python3 with PyTorch for the steps of these
# names. With --device cpu the steps that need no GPU run; sizes for a trial of the script itself:
#   STUDY_PRESET (30m), PRESETS ("130m 1b"), STEPS (50), PEERS (30m,130m,1b), LIMIT (seconds of one sanitizer, 1500)
# shellcheck disable=SC2329 # the functions are called by "step_$step"
set -uo pipefail

usage() {
  echo "usage: benches/gpu.sh BINARIES OUT [--device cuda] [STEP...]" >&2
  exit 2
}
[ $# -ge 2 ] || usage
if ! { binaries=$(realpath "$1") && mkdir -p "$2" && out=$(realpath "$2"); }; then usage; fi
shift 2
device=cuda
steps=()
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=${2:?a device} && shift 2 ;;
    facts | tests | sanitizer | quickstart | study | steps | bench | peers | ncu) steps+=("$1") && shift ;;
    *) usage ;;
  esac
done
[ ${#steps[@]} -gt 0 ] || steps=(facts tests sanitizer quickstart study steps bench peers ncu)
root=$(cd "$(dirname "$0")/.." && pwd)
stockpot=$binaries/stockpot
study_preset=${STUDY_PRESET:-30m}
read -r -a presets <<<"${PRESETS:-130m 1b}"
train_steps=${STEPS:-50}
limit=${LIMIT:-1500}
export STOCKPOT_CACHE=${STOCKPOT_CACHE:-$out/cache}
# A test that finds no GPU fails here, where it is skipped elsewhere.
if [[ $device == cuda* ]]; then export STOCKPOT_REQUIRE_CUDA=1; fi

# A step that cannot run says why and returns 77.
skip() {
  echo "skipped: $*"
  return 77
}
needs() { # PROGRAM
  command -v "$1" >/dev/null || skip "no $1 on PATH"
}
on_gpu() { [[ $device == cuda* ]] || skip "--device $device"; }

step_facts() {
  cat "$binaries/build.txt"
  uname -srm
  lscpu | grep -E '^(Model name|CPU\(s\)|L[123])'
  free -g | sed -n 1,2p
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi
    nvidia-smi -q >"$out/nvidia-smi.txt"
  fi
  python3 -c 'import torch; print("torch", torch.__version__, "cuda", torch.version.cuda)' 2>/dev/null || echo "no PyTorch"
  "$stockpot" doctor
  "$stockpot" doctor --json >"$out/doctor.json"
}

step_tests() { "$binaries/tests/cuda" --test-threads 1; }

step_sanitizer() {
  on_gpu && needs compute-sanitizer || return
  local failed=0 tool only
  for tool in memcheck racecheck synccheck initcheck; do
    echo "== $tool"
    # Races and barriers are a kernel's own: its cases show them.
    [[ $tool == memcheck ]] && only=() || only=(every_case)
    timeout "$limit" compute-sanitizer --tool "$tool" --error-exitcode 1 "$binaries/tests/cuda" --test-threads 1 \
      "${only[@]}" || failed=1
  done
  return "$failed"
}

# Runs a study twice and compares every byte, but for the lock, which holds a process id.
twice() { # STUDY NAME
  local run
  for run in 1 2; do
    echo "== $2, run $run"
    "$stockpot" run "$1" --out "$out/work/$2.$run" --device "$device" --json >"$out/$2.$run.json" || return
  done
  if diff -rq --exclude study.lock "$out/work/$2.1" "$out/work/$2.2"; then
    echo "equal bits: $(find "$out/work/$2.1" -type f | wc -l) files"
  else
    return 1
  fi
}

step_quickstart() {
  twice "$root/examples/quickstart/study.toml" quickstart || return
  if command -v python3 >/dev/null; then python3 "$root/examples/quickstart/check.py" "$out/quickstart.1.json"; fi
}

# The quickstart's text with a larger model and tokenizer, in few steps: what is compared is bits, not perplexities.
step_study() {
  local data=$root/examples/quickstart/data
  mkdir -p "$out/work"
  sed -e "s/^preset = .*/preset = \"$study_preset\"/" -e 's/^vocabulary = [0-9]*/vocabulary = 8192/' \
    -e "s|\"data/|\"$data/|g" -e "s/^steps = .*/steps = $train_steps/" -e 's/^warmup_steps = .*/warmup_steps = 5/' \
    -e 's/^batch = .*/batch = 8/' -e 's/^pairs = .*/pairs = 3/' -e 's/^triples = .*/triples = 1/' \
    "$root/examples/quickstart/study.toml" >"$out/study-$study_preset.toml"
  twice "$out/study-$study_preset.toml" "study-$study_preset"
}

# A tokenizer that a study has left in the work folder, the last one made.
tokenizer() {
  find "$out/work" -path '*/tokenizers/*.json' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-
}

train_settings() { # PRESET STEPS
  cat <<TOML
files = ["$root/examples/quickstart/data/classic_novels.jsonl.zst"]
tokenizer = "$(tokenizer)"

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
  [ -n "$(tokenizer)" ] || skip "no tokenizer: the step quickstart or study makes one" || return
  local failed=0 preset
  for preset in "${presets[@]}"; do
    echo "== $preset, $train_steps steps"
    train_settings "$preset" "$train_steps" >"$out/train-$preset.toml"
    rm -rf "$out/work/train-$preset" "$out/work/train-$preset.partial"
    if "$stockpot" train --config "$out/train-$preset.toml" --out "$out/work/train-$preset" --device "$device"; then
      cp "$out/work/train-$preset/metrics.jsonl" "$out/train-$preset.metrics.jsonl"
      tail -1 "$out/train-$preset.metrics.jsonl"
    else
      failed=1
    fi
  done
  return "$failed"
}

step_bench() {
  local failed=0 what
  for what in gemm attention train merge eval; do
    echo "== bench $what"
    "$stockpot" bench "$what" --device "$device" --json | tee "$out/bench-$what.json" || failed=1
  done
  return "$failed"
}

step_peers() {
  needs python3 || return
  python3 -c 'import torch' 2>/dev/null || skip "no PyTorch" || return
  python3 "$root/benches/peers/torch_gpu.py" --device "${device%%:*}" --presets "${PEERS:-30m,130m,1b}" |
    tee "$out/torch.jsonl"
}

# The kernels that take most of a step, after the first step's loading.
step_ncu() {
  on_gpu && needs ncu || return
  [ -n "$(tokenizer)" ] || skip "no tokenizer: the step quickstart or study makes one" || return
  train_settings "${presets[0]}" 2 >"$out/ncu.toml"
  rm -rf "$out/work/ncu" "$out/work/ncu.partial"
  ncu --set full --graph-profiling node --kernel-name 'regex:gemm|attention|cross_entropy|adamw' --launch-skip 40 \
    --launch-count 60 --force-overwrite --export "$out/ncu" \
    "$stockpot" train --config "$out/ncu.toml" --out "$out/work/ncu" --device "$device" || return
  ncu --import "$out/ncu.ncu-rep" --page details >"$out/ncu-details.txt"
}

failed=0
for step in "${steps[@]}"; do
  echo "=== $step"
  start=$SECONDS
  (set -e; "step_$step") >"$out/$step.txt" 2>&1
  case $? in
    0) verdict=passed ;;
    77) verdict="$(tail -1 "$out/$step.txt")" ;;
    *) verdict="FAILED: $out/$step.txt" && failed=1 ;;
  esac
  echo "$(date -u +%FT%TZ) $step $((SECONDS - start)) s $verdict" | tee -a "$out/summary.txt"
done
exit "$failed"
