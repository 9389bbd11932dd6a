"""Every row of scores.csv.gz must be a row of the fifteen's scores.csv of 2026-11-26, character for character."""
import csv, gzip, pathlib

here = pathlib.Path(__file__).parent
key = ("mixture", "group", "model", "domain", "repeat")


def rows(file):
    return {tuple(row[k] for k in key): row for row in csv.DictReader(file)}


before = rows(open(here.parent / "2026-11-26-cpu/fifteen/scores.csv"))
now = rows(gzip.open(here / "scores.csv.gz", "rt"))
different = [k for k, row in now.items() if before.get(k) != row]
print(f"{len(now)} rows, {len(different)} different")
raise SystemExit(bool(different) or not now)
