"""Checks what the README says of the search: python3 check_search.py search.json

The best mixture's merge is better than the baselines and every listed subset; the form's error is below 5% of the deviation
between held-out merges; lambda is calibrated on the 20 pairs with r of at least 0.9; no further step gains 0.1% of the
distance to the natural mixture.
"""

import json
import sys

report = json.load(open(sys.argv[1]))
outcome, calibration = report["outcome"], report["calibration"]
best = outcome["candidates"][outcome["best"]]
mix = ", ".join(f"{w:.3f} {p}" for p, w in zip(outcome["partitions"], best["weights"]) if w > 0)
print(f"best: {mix}: {best['merged']:.5f}")
faults = []
for candidate in outcome["candidates"]:
    if candidate["kind"] in ["baseline", "subset"] and candidate["merged"] < best["merged"]:
        faults.append(f"{candidate['name']} has {candidate['merged']}, which is better than the best weights")
natural = next(c for c in outcome["candidates"] if c["name"] == "natural")
if not outcome["gap"] < 1e-3 * (natural["merged"] - best["merged"]):
    faults.append(f"a further step could gain {outcome['gap']}")
error = next(e["target"] for e in outcome["expansions"] if e["chosen"])
print(f"error of the form {error['rms'] / error['deviation']:.4f} of the deviation, r {error['pearson']:.6f}")
if not error["rms"] < 0.05 * error["deviation"]:
    faults.append("the form predicts held-out merges badly")
print(f"lambda {calibration['lambda']} from {calibration['n']} SEQ runs, r {calibration['pearson']:.4f}")
if calibration["n"] != 20 or not calibration["pearson"] >= 0.9:
    faults.append("lambda is not calibrated on 20 pairs with r of at least 0.9")
sys.exit("\n".join(faults) or 0)
