#!/usr/bin/env python3
"""Cuts the quickstart's documents out of a directory of larger corpora.

    python3 make_corpus.py CORPORA [OUT]

CORPORA holds `<domain>.jsonl.zst`, one document per line in a fixed random order; OUT is `data/` beside this
script unless given. From each domain the first documents are taken, in order, until their texts have at least
the bytes below; `id`, `text` and `source` are kept. The same corpora and the same zstd give the same bytes.

Made with Python 3.11.7 and the zstd command line 1.5.4 (another zstd may compress to other bytes; the documents
inside stay the same). Origins and licences: NOTICE.
"""

import json
import pathlib
import subprocess
import sys

# Text bytes (UTF-8) per domain, by role in the quickstart study.
PARTITION, OOD, SEED = 700_000, 250_000, 1_300_000
DOMAINS = {
    # the eight partitions among which the study chooses
    "scripture": PARTITION,
    "presidential_addresses": PARTITION,
    "molecular_biology": PARTITION,
    "formal_mathematics": PARTITION,
    "machine_learning": PARTITION,
    "sql_database": PARTITION,
    "rust_language_docs": PARTITION,
    "chemistry_compounds": PARTITION,
    # evaluated, never trained on
    "shakespeare": OOD,
    "disease_definitions": OOD,
    # the seed model's text
    "classic_novels": SEED,
    "python_documentation": SEED,
    "python_source_code": SEED,
}


def zstd(*options, data):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def first_documents(lines: list[bytes], size: int):
    """The lines to keep and the bytes of their texts."""
    kept, taken = [], 0
    for line in lines:
        if taken >= size:
            return kept, taken
        document = json.loads(line)
        taken += len(document["text"].encode())
        short = {key: document[key] for key in ("id", "text", "source")}
        kept.append(json.dumps(short, ensure_ascii=False) + "\n")
    raise SystemExit(f"only {taken} bytes of text where {size} are needed")


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    corpora = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent / "data"
    out.mkdir(parents=True, exist_ok=True)
    total = 0
    for domain, size in DOMAINS.items():
        raw = zstd("-d", data=(corpora / f"{domain}.jsonl.zst").read_bytes())
        kept, taken = first_documents(raw.splitlines(), size)
        packed = zstd("-19", "-T1", data="".join(kept).encode())
        (out / f"{domain}.jsonl.zst").write_bytes(packed)
        total += len(packed)
        print(f"{domain:24} {len(kept):5} documents {taken:9,} bytes of text {len(packed):8,} in the file")
    print(f"{len(DOMAINS)} files, {total:,} bytes")


if __name__ == "__main__":
    main()
