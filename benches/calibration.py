"""Compares ways to calibrate lambda on a study's scores: python3 benches/calibration.py scores.csv

For each group of mixtures and each criterion, prints the lambdas chosen, each mixture's without its
own scores, and Pearson's r of the scaled merges with SEQ on the averages OOD, ID and own members.
src/analysis/scaled.rs uses the criterion `r`.
"""

import collections
import csv
import math
import statistics
import sys

scores, groups, domains, lambdas = collections.defaultdict(dict), {}, set(), set()
for row in csv.DictReader(open(sys.argv[1])):
    if row["repeat"] != "0" or not row["perplexity"]:
        continue
    scores[row["mixture"], row["model"]][row["domain"]] = float(row["perplexity"])
    groups[row["mixture"]] = row["group"]
    if row["kind"] != "average":
        domains.add(row["domain"])
    if row["model"].startswith("scaled@"):
        lambdas.add(float(row["model"].removeprefix("scaled@")))


def scaled(mixture, lam, domain):
    return scores[mixture, f"scaled@{lam:g}"][domain]


def seq(mixture, domain):
    return scores[mixture, "seq"][domain]


def r(mixtures, lam, domain):
    """Pearson's r of scaled merges with SEQ; `lam` maps a mixture to its lambda."""
    x, y = [scaled(m, lam(m), domain) for m in mixtures], [seq(m, domain) for m in mixtures]
    return statistics.correlation(x, y)


def errors(mixtures, lam, domain):
    return [math.log(scaled(m, lam, domain) / seq(m, domain)) for m in mixtures]


def all_errors(mixtures, lam):
    return [e for d in sorted(domains) for e in errors(mixtures, lam, d)]


def around_the_mean(mixtures, lam):
    by_domain = [errors(mixtures, lam, d) for d in sorted(domains)]
    return sum((e - statistics.mean(es)) ** 2 for es in by_domain for e in es)


def mean_r(mixtures, lam, of=lambda r: r):
    return -statistics.mean(of(r(mixtures, lambda _: lam, d)) for d in sorted(domains))


# The lambda with the lowest value is chosen.
criteria = {
    "squared": lambda ms, lam: sum(e * e for e in all_errors(ms, lam)),
    "absolute": lambda ms, lam: sum(abs(e) for e in all_errors(ms, lam)),
    "median": lambda ms, lam: statistics.median(abs(e) for e in all_errors(ms, lam)),
    "around the mean": around_the_mean,
    "r": mean_r,
    "Fisher's z": lambda ms, lam: mean_r(ms, lam, lambda r: math.atanh(min(r, 0.9999))),
}
for group in dict.fromkeys(groups.values()):
    mixtures = [m for m in groups if groups[m] == group]
    plain = [round(r(mixtures, lambda _: 1.0, d), 3) for d in ("ood", "id", "members")]
    print(f"{group}, n = {len(mixtures)}: lambda 1 {plain}")
    for name, criterion in criteria.items():
        chosen = {
            m: min(sorted(lambdas), key=lambda lam: criterion([o for o in mixtures if o != m], lam)) for m in mixtures
        }
        found = [round(r(mixtures, chosen.get, d), 3) for d in ("ood", "id", "members")]
        print(f"  {name:16} {found} {dict(collections.Counter(chosen.values()))}")
