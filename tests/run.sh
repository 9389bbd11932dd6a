#!/usr/bin/env bash
# All tests. Needs cargo, a C compiler (zstd is C) and g++, which the host executor compiles the kernels with; installs both
# where apt-get can.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cc >/dev/null || ! command -v g++ >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq gcc g++ libc6-dev >/dev/null
  else
    echo "tests/run.sh: cc and g++ are needed: install gcc and g++" >&2
    exit 1
  fi
fi
command -v cargo >/dev/null || { echo "tests/run.sh: no cargo found: install Rust 1.89 or newer" >&2; exit 1; }
# Tests train models, so they are built as users run them.
cargo test --release "$@"
