"""The prospective test after the pool is trained: random SEQ runs for a regression, searches, predictions.

usage: prospective.py random    writes random.toml: study.toml and 23 more random mixtures of the budget
       prospective.py predict   reads search-ood.json, search-shakespeare.json and out-random/report.json;
                                writes predictions.json and verify.toml
       prospective.py results   reads predictions.json and out/report.json of verify.toml; prints tables

The regression has the budget of the search: what modules, calibration, gradients and merges cost in
FLOPs, spent on SEQ runs of random mixtures, of which 12 are the search's own calibration. It is
log-linear, loss = c + exp(b + t w), one per domain, with a ridge on t chosen by leave-one-out; its
pick minimizes the mean of the predicted losses over the simplex.
"""
import json, random, statistics, sys
import numpy as np

MORE, BUDGET, REPEATS = 23, 4, 3
study = open("study.toml").read()
names = [line.split('"')[1] for line in study.split("[[ood]]")[0].split("[[partition]]", 1)[1].splitlines() if line.startswith("name")]
ood = [line.split('"')[1] for line in study.split("[[ood]]", 1)[1].splitlines() if line.startswith("name")]
head, tables = study.split("\n[[partition]]", 1)
tables = "\n[[partition]]" + tables


def mixture(members):
    inside = ", ".join(f"{name} = {weight!r}" for name, weight in members.items() if weight > 0)
    return f"\n[[mixture]]\nmembers = {{ {inside} }}\nbudget = {BUDGET}\n"


def random_mixtures():
    draw = random.Random(20261128)
    for _ in range(MORE):
        chosen = draw.sample(names, draw.randint(2, len(names)))
        parts = [draw.expovariate(1) for _ in chosen]
        yield {name: part / sum(parts) for name, part in zip(chosen, parts)}


def fit(x, y, ridge):
    """Levenberg-Marquardt of c + exp(b + t w); parameters c, b, t."""
    p = np.concatenate([[y.min() - 0.5, np.log(y.mean() - y.min() + 0.5)], np.zeros(x.shape[1])])
    penalty = np.concatenate([[1e-6, 1e-6], np.full(x.shape[1], ridge)])
    cost = lambda p: ((p[0] + np.exp(p[1] + x @ p[2:]) - y) ** 2).sum() + (penalty * p * p).sum()
    damping, now = 1e-3, cost(p)
    for _ in range(200):
        e = np.exp(p[1] + x @ p[2:])
        jacobian = np.column_stack([np.ones(len(y)), e, e[:, None] * x])
        gradient = jacobian.T @ (p[0] + e - y) + penalty * p
        step = np.linalg.solve(jacobian.T @ jacobian + np.diag(penalty) + damping * np.eye(len(p)), -gradient)
        then = cost(p + step)
        if then < now:
            done = now - then < 1e-12 * now
            p, now, damping = p + step, then, damping / 3
            if done:
                break
        else:
            damping *= 4
    return p


value = lambda p, x: p[0] + np.exp(p[1] + x @ p[2:])


def law(x, y):
    def left_out(ridge):
        keep = lambda i: np.arange(len(y)) != i
        return sum((value(fit(x[keep(i)], y[keep(i)], ridge), x[i]) - y[i]) ** 2 for i in range(len(y)))

    ridge = min([1e-6, 1e-5, 1e-4, 1e-3, 1e-2], key=left_out)
    return fit(x, y, ridge), ridge, (left_out(ridge) / len(y)) ** 0.5


def project(w):
    order = np.sort(w)[::-1]
    excess = (np.cumsum(order) - 1) / np.arange(1, len(w) + 1)
    return np.maximum(w - excess[np.nonzero(order > excess)[0][-1]], 0)


def minimize(laws):
    mean = lambda w: np.mean([value(p, w) for p in laws])
    draw, best = np.random.default_rng(1), None
    for start in [np.full(len(names), 1 / len(names))] + [draw.dirichlet(np.full(len(names), 0.5)) for _ in range(30)]:
        w, rate = start, 1.0
        for _ in range(2000):
            slope = np.mean([np.exp(p[1] + w @ p[2:]) * p[2:] for p in laws], axis=0)
            step = project(w - rate * slope)
            if mean(step) < mean(w) - 1e-13:
                w, rate = step, rate * 1.5
            else:
                rate /= 2
                if rate < 1e-9:
                    break
        if best is None or mean(w) < mean(best):
            best = w
    return best, float(mean(best))


if sys.argv[1] == "random":
    open("random.toml", "w").write(head + "\n" + "".join(map(mixture, random_mixtures())) + tables)

if sys.argv[1] == "predict":
    report = json.load(open("out-random/report.json"))
    seq = [m for m in report["mixtures"] if m["group"] == f"budget {BUDGET}"]
    x = np.array([[m["members"].get(name, 0.0) for name in names] for m in seq])
    predictions, mixtures = [], {}
    for objective, domains in [("ood", ood), ("shakespeare", ["shakespeare"])]:
        search = json.load(open(f"search-{objective}.json"))
        outcome = search["outcome"]
        laws = [law(x, np.array([m["scores"]["seq"][d]["bits_per_byte"] for m in seq])) for d in domains]
        pick, expected = minimize([p for p, *_ in laws])
        rows = [("found", outcome["best"])]
        for label, prefix in [("natural", "natural"), ("uniform", "uniform"), ("UniMax, 4 epochs", "UniMax, 4"),
                              ("best partition alone", "best partition"), ("predicted worst", "worst")]:
            at = [i for i, c in enumerate(outcome["candidates"]) if c["kind"] == "baseline" and c["name"].startswith(prefix)]
            rows.append((label, at[0]))
        for label, at in rows:
            candidate, estimate = outcome["candidates"][at], outcome["confidence"]["estimates"][at]
            members = {name: w for name, w in zip(names, candidate["weights"]) if w > 0}
            key = json.dumps(members)
            predictions.append({"objective": objective, "name": label, "members": members, "merged": candidate["merged"],
                                **{k: estimate[k] for k in ["expected", "low", "high", "gain_low", "gain_high", "probability_best"]}})
            mixtures[key] = members
        # Weights below a thousandth are dropped, as a file of weights would.
        pick = np.where(pick < 1e-3, 0, pick)
        pick /= pick.sum()
        members = {name: float(w) for name, w in zip(names, pick) if w > 0}
        predictions.append({"objective": objective, "name": "regression", "members": members, "expected": expected,
                            "runs": len(seq), "ridge": [r for _, r, _ in laws], "left_out_error": [float(e) for *_, e in laws]})
        mixtures[json.dumps(members)] = members
    json.dump(predictions, open("predictions.json", "w"), indent=1)
    text = head.replace("calibrate = 12\n", "") + f'\n[mixtures]\nrepeats = {REPEATS}\nrepeated = "all"\n'
    open("verify.toml", "w").write(text + "".join(map(mixture, mixtures.values())) + tables)
    for p in predictions:
        print(p["objective"], p["name"], round(p["expected"], 5), {k: round(v, 3) for k, v in p["members"].items()})

if sys.argv[1] == "results":
    predictions = json.load(open("predictions.json"))
    report = json.load(open("out-verify/report.json"))
    inside = total = gain_inside = gains = 0
    for objective, domains in [("ood", ood), ("shakespeare", ["shakespeare"])]:
        mean = lambda scores: statistics.mean(scores["seq"][d]["bits_per_byte"] for d in domains)
        rows, variances = [], []
        for p in [p for p in predictions if p["objective"] == objective]:
            same = lambda m: all(abs(m["members"].get(n, 0) - p["members"].get(n, 0)) < 1e-9 for n in names)
            m = next(m for m in report["mixtures"] if same(m))
            runs = [mean(m["scores"])] + [mean(r) for r in m["repeats"]]
            variances.append(statistics.variance(runs))
            rows.append((p, runs))
        sd = statistics.mean(variances) ** 0.5
        natural = next(statistics.mean(runs) for p, runs in rows if p["name"] == "natural")
        print(f"\n{objective}: bits per byte; SD of repeats {sd:.5f} (pooled, {len(rows)} mixtures of {REPEATS} trainings)")
        print(f"| mixture | expected | 95% interval | SEQ, mean of {REPEATS} | each | inside | gain over natural | in SD of repeats |")
        print("|---|---|---|---|---|---|---|---|")
        for p, runs in sorted(rows, key=lambda row: statistics.mean(row[1])):
            now, interval, within = statistics.mean(runs), "", ""
            if "low" in p:
                hits = sum(p["low"] <= r <= p["high"] for r in runs)
                inside, total = inside + hits, total + len(runs)
                interval, within = f"{p['low']:.4f} to {p['high']:.4f}", f"{hits} of {len(runs)}"
                if p["name"] != "natural":
                    gains += 1
                    gain_inside += p["gain_low"] <= natural - now <= p["gain_high"]
            each = ", ".join(f"{r:.4f}" for r in runs)
            print(f"| {p['name']} | {p['expected']:.4f} | {interval} | {now:.4f} | {each} | {within} | {natural - now:+.4f} | {(natural - now) / sd:+.1f} |")
    print(f"\nintervals of a single training: {inside} of {total} runs inside; intervals of the gain over natural: {gain_inside} of {gains} means inside")
