"""Makes the study of the prospective test from the corpora of this project.

usage: make.py CORPORA OUT

OOD documents are cut to their first 600 bytes, so that 10,000 tokens are more than 30 documents.
The corpora are of nearly equal size, real partitions are not: the k-th partition, in the order of a
hash of its name, keeps the first k^-0.8 of its documents. Writes OUT/ood, OUT/partitions and
OUT/study.toml.
"""
import hashlib, json, os, subprocess, sys

corpora, out = sys.argv[1:3]
SEED = ["classic_novels", "quotations_humor", "computing_glossary", "python_source_code"]
PARTITIONS = [
    "scripture", "presidential_addresses", "legal_licenses", "chemistry_compounds", "molecular_biology",
    "formal_mathematics", "machine_learning", "music_notation", "image_editing", "linux_kernel",
    "sql_database", "text_editor", "rust_language_docs", "rust_source_code", "language_standard",
]
OOD = ["shakespeare", "disease_definitions", "debian_administration", "gis_geospatial", "python_documentation", "audio_synthesis"]
HEAD = '''# The prospective test: settings fixed and predictions committed before any of the compared SEQ runs was trained.
name = "prospective"
random_seed = 20261128

[model]
architecture = "olmo2"
preset = "tiny"

[tokenizer]
vocabulary = 1024

[data]
separator = "#"
test = 0.1
decontaminate = 13

[seed]
files = [{seed}]

[seed.training]
steps = 1500
batch = 32
learning_rate = 3e-3
schedule = "cosine"
warmup_steps = 100

[module.training]
steps = 40
batch = 32
learning_rate = 1e-4

[evaluation]
tokens = 10000

[search]
budget = 4
calibrate = 12
'''
os.makedirs(f"{out}/ood", exist_ok=True)
path = lambda name: f"{corpora}/{name}.jsonl.zst"
def lines(name):
    return subprocess.run(["zstd", "-dc", path(name)], check=True, capture_output=True).stdout.decode().splitlines()

os.makedirs(f"{out}/partitions", exist_ok=True)
for k, name in enumerate(sorted(PARTITIONS, key=lambda name: hashlib.sha256(name.encode()).digest()), 1):
    all = lines(name)
    with open(f"{out}/partitions/{name}.jsonl", "w") as f:
        f.write("".join(line + "\n" for line in all[: round(len(all) * k**-0.8)]))
for name in OOD:
    with open(f"{out}/ood/{name}.jsonl", "w") as f:
        for line in lines(name):
            doc = json.loads(line)
            doc["text"] = doc["text"].encode()[:600].decode(errors="ignore")
            f.write(json.dumps(doc, ensure_ascii=False) + "\n")
with open(f"{out}/study.toml", "w") as f:
    f.write(HEAD.replace("{seed}", ", ".join(f'"{path(name)}"' for name in SEED)))
    for name in PARTITIONS:
        f.write(f'\n[[partition]]\nname = "{name}"\nfiles = ["partitions/{name}.jsonl"]\n')
    for name in OOD:
        f.write(f'\n[[ood]]\nname = "{name}"\nfiles = ["ood/{name}.jsonl"]\n')
