#!/usr/bin/env python3
"""Cuts the documents of the example `time` out of a directory of larger corpora.

    python3 make_corpus.py CORPORA [OUT]

CORPORA holds `presidential_addresses.jsonl.zst`, one document per line in a fixed random order, whose ids begin with
`presidential_addresses/<year>_`; OUT is `data/` beside this script unless given. Documents are taken in order until those
of each period hold at least the bytes below; `id`, `text` and `source` are kept, and `metadata.year` is set from the id.

Made with Python 3.11.7 and the zstd command line 1.5.4. Origin and licence: ../quickstart/NOTICE.
"""

import json
import pathlib
import subprocess
import sys

# First years of the periods of study.toml, and text bytes (UTF-8) of each.
PERIODS = (1790, 1830, 1860, 1890, 1920, 1960)
BYTES = 330_000


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent / "data"
    out.mkdir(parents=True, exist_ok=True)
    name = "presidential_addresses.jsonl.zst"
    raw = subprocess.run(
        ["zstd", "-q", "-d", "-c", pathlib.Path(sys.argv[1]) / name], stdout=subprocess.PIPE, check=True
    ).stdout
    taken, kept = dict.fromkeys(PERIODS, 0), []
    for line in raw.splitlines():
        document = json.loads(line)
        year = int(document["id"].split("/")[1].split("_")[0])
        period = max(first for first in PERIODS if first <= year)
        if taken[period] >= BYTES:
            continue
        taken[period] += len(document["text"].encode())
        short = {key: document[key] for key in ("id", "text", "source")} | {"metadata": {"year": year}}
        kept.append(json.dumps(short, ensure_ascii=False) + "\n")
    packed = subprocess.run(
        ["zstd", "-q", "-19", "-T1", "-c"], input="".join(kept).encode(), stdout=subprocess.PIPE, check=True
    ).stdout
    (out / name).write_bytes(packed)
    print(f"{len(kept)} documents, {taken} bytes of text, {len(packed):,} in the file")


if __name__ == "__main__":
    main()
