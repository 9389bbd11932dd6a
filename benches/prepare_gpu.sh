#!/usr/bin/env bash
# Builds the stripped programs that benches/gpu.sh runs on a machine without cargo:
#   benches/prepare_gpu.sh FOLDER
# creates FOLDER/stockpot, FOLDER/tests/kernels, FOLDER/tokenizer.json and FOLDER/build.txt.
set -euo pipefail
[ $# = 1 ] || { echo "usage: benches/prepare_gpu.sh FOLDER" >&2; exit 2; }
mkdir -p "$1/tests"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

# Names of test programs contain hashes; cargo reports them.
executables() {
  python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if not message.get("executable") or message["target"]["kind"] not in (["test"], ["bin"]):
        continue
    if message["profile"]["test"] == (sys.argv[1] == "test"):
        print(message["target"]["name"], message["executable"])
' "$1"
}
collect() { # NAME PROGRAM TO
  strip -o "$3" "$2"
  echo "$1: $(stat -c %s "$3") bytes"
}

cargo build --release --bin stockpot --message-format=json | executables bin | while read -r name program; do
  collect "$name" "$program" "$folder/$name"
done
cargo test --release --no-run --test kernels --message-format=json | executables test | while read -r name program; do
  collect "$name" "$program" "$folder/tests/$name"
done
for program in stockpot tests/kernels; do
  [ -x "$folder/$program" ] || { echo "benches/prepare_gpu.sh: no $program was built" >&2; exit 1; }
done

# Check that the tests named in gpu.sh exist: a filter without matches would pass.
for tests in cuda:: cuda::a_device_does cuda::every_case cuda::memory_that_the_gpu_has_not; do
  [[ $("$folder/tests/kernels" "$tests" --list) == *": test"* ]] ||
    { echo "benches/prepare_gpu.sh: no test is named $tests" >&2; exit 1; }
done

# libtest runs tests by name: conformance must be the first.
tests=$("$folder/tests/kernels" cuda:: --list)
[[ ${tests%%$'\n'*} == cuda::a_device_does* ]] || { echo "benches/prepare_gpu.sh: conformance is not the first test" >&2; exit 1; }

# A tokenizer for the trainings, from the shortest possible run of the quickstart study.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sed -e 's/^vocabulary = [0-9]*/vocabulary = 8192/' -e "s|\"data/|\"$PWD/examples/quickstart/data/|g" \
  -e 's/^steps = .*/steps = 1/' -e 's/^warmup_steps = .*/warmup_steps = 0/' -e 's/^batch = .*/batch = 1/' \
  -e 's/^pairs = .*/pairs = 1/' -e 's/^triples = .*/triples = 0/' -e 's/^tokens = .*/tokens = 64/' \
  examples/quickstart/study.toml >"$scratch/study.toml"
"$folder/stockpot" run "$scratch/study.toml" --out "$scratch/study" --device cpu >/dev/null
cp "$scratch"/study/tokenizers/*.json "$folder/tokenizer.json"

{
  echo "commit: $(git rev-parse HEAD)$(git diff --quiet HEAD || echo ' and changes')"
  rustc --version
  ldd --version | sed -n '1s/^/needs: /p'
} >"$folder/build.txt"
cat "$folder/build.txt"
