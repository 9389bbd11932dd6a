import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from litgpt.data import DataModule
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    """All windows of the training in their order, each of `context` tokens and the next one.

    A partition gives its share by largest remainders. If it has fewer windows, it is repeated, each time in a new
    order.
    """

    def __init__(self, tokens, context, seed):
        self.context, self.tokens, order = context, [], []
        total = tokens // context
        exact = [total * weight for _, weight, _ in PARTITIONS]
        counts = [int(share) for share in exact]
        for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
            counts[i] += 1
        random = np.random.default_rng(seed)
        for (name, _, shard), count in zip(PARTITIONS, counts):
            dtype = {"u16": "<u2", "u32": "<u4"}[json.loads((Path(shard) / "shard.json").read_text())["dtype"]]
            self.tokens.append(np.memmap(Path(shard) / "tokens.bin", dtype=dtype, mode="r"))
            windows = (len(self.tokens[-1]) - 1) // context
            if windows < 1:
                raise ValueError(f"{name} has less than one window of {context} tokens")
            epochs = [random.permutation(windows) for _ in range(-(-count // windows))]
            places = np.concatenate(epochs)[:count] if epochs else np.zeros(0, dtype=np.int64)
            order.append(np.stack([np.full(count, len(self.tokens) - 1), places], axis=1))
        self.order = random.permutation(np.concatenate(order))

    def __len__(self):
        return len(self.order)

    def __getitem__(self, k):
        partition, window = self.order[k]
        start = window * self.context
        return torch.from_numpy(self.tokens[partition][start : start + self.context + 1].astype(np.int64))


@dataclass
class Mixture(DataModule):
    tokens: int | None = TOKENS
    seed: int = 0
    num_workers: int = 2

    batch_size: int = field(init=False, repr=False, default=1)
    context: int = field(init=False, repr=False, default=1)

    def __post_init__(self):
        super().__init__()
        if self.tokens is None:
            raise ValueError("the recipe has no tokens: give --data.tokens")

    def connect(self, tokenizer=None, batch_size=1, max_seq_length=None, **kwargs):
        self.batch_size, self.context = batch_size, max_seq_length

    def train_dataloader(self):
        windows = Windows(self.tokens, self.context, self.seed)
        return DataLoader(windows, batch_size=self.batch_size, num_workers=self.num_workers, drop_last=True)

    def val_dataloader(self):
        return self.train_dataloader()
