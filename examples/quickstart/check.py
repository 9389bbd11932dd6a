"""Checks what the README says of the quickstart: python3 check.py report.json

Over the pairs, Pearson r of MERGED with SEQ is at least 0.95 on the ID average and at least 0.9 on every OOD domain, and
above IND's on the ID average; at least 20 mixtures are verified.
"""

import json
import sys

report = json.load(open(sys.argv[1]))
# A correlation of too few pairs is null, and here a number that is never enough.
r = {
    (c["domain"], c["proxy"]): float("nan") if c["pearson"] is None else c["pearson"]
    for c in report["correlations"]
    if c["group"] == "pairs"
}
ood = [d["name"] for d in report["domains"] if d["kind"] == "ood"]
faults = []
for domain, least in [("id", 0.95)] + [(name, 0.9) for name in ood]:
    print(f"{domain:24} merged {r[domain, 'merged']:.4f}  ind {r[domain, 'ind']:.4f}  (at least {least})")
    if not r[domain, "merged"] >= least:
        faults.append(f"{domain}: r of MERGED is {r[domain, 'merged']}, expected at least {least}")
if not r["id", "merged"] > r["id", "ind"]:
    faults.append("IND predicts the ID average better than MERGED")
verified = sum("seq" in m["scores"] for m in report["mixtures"])
print(f"{verified} mixtures verified by SEQ")
if verified < 20:
    faults.append("fewer than 20 mixtures are verified")
sys.exit("\n".join(faults) or 0)
