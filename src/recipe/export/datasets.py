import json
from pathlib import Path

import numpy as np
from datasets import IterableDataset, interleave_datasets


def windows(shard, context, seed):
    """The windows of one partition, without end: each epoch is a new order of all of them."""
    dtype = {"u16": "<u2", "u32": "<u4"}[json.loads((Path(shard) / "shard.json").read_text())["dtype"]]
    tokens = np.memmap(Path(shard) / "tokens.bin", dtype=dtype, mode="r")
    if len(tokens) < context:
        raise ValueError(f"{shard} has less than one window of {context} tokens")
    random = np.random.default_rng(seed)
    while True:
        for i in random.permutation(len(tokens) // context):
            yield {"input_ids": tokens[i * context : (i + 1) * context].astype(np.int64)}


def mixture(context, seed=0):
    """Windows of `context` tokens of all partitions, as many as the training has."""
    parts = [
        IterableDataset.from_generator(windows, gen_kwargs={"shard": shard, "context": context, "seed": seed + i})
        for i, (_, _, shard) in enumerate(PARTITIONS)
    ]
    weights = [weight for _, weight, _ in PARTITIONS]
    mixed = interleave_datasets(parts, probabilities=weights, seed=seed, stopping_strategy="first_exhausted")
    return mixed if TOKENS is None else mixed.take(TOKENS // context)
