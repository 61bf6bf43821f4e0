"""The rows of all ranks of a process group, so that a loss of a batch is that of the whole batch.

A mean over the rows of one rank, averaged over ranks as DistributedDataParallel does it, is not the mean over all rows
where ranks have different numbers of ID and OOD rows, and what an objective keeps drifts apart. Inputs of an objective are
small beside those of a network: every rank gathers them, computes the same loss and the same state from the same numbers
in the same order, and takes the gradient of its own rows.
"""
import contextlib
from typing import List, Optional

import torch
import torch.distributed as dist


class Ranks:
    """The ranks of a group as one batch. Gradients come out as DistributedDataParallel wants them, which averages."""

    @staticmethod
    def of(group) -> Optional["Ranks"]:
        """None where there is no group, or one of a single rank."""
        return None if group is None or dist.get_world_size(group) == 1 else Ranks(group)

    def __init__(self, group):
        self.group, self.size, self.rank = group, dist.get_world_size(group), dist.get_rank(group)
        if self.rank < 0:
            raise ValueError("process_group: expected a group that this rank is part of")

    def rows(self, tensors: List[torch.Tensor]) -> List[torch.Tensor]:
        """[N_rank, ...] of each -> [sum of N_rank, ...], rank after rank; ranks may have different numbers of rows."""
        counts = self._counts(tensors)
        return [_Rows.apply(t, self, counts) for t in tensors]

    def _counts(self, tensors: List[torch.Tensor]) -> List[int]:
        about = [len(tensors[0])]
        for t in tensors:
            about += [len(t), t.dim(), t[:1].numel() if len(t) else -1, t.element_size()]
        mine = torch.tensor(about, device=tensors[0].device)
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyone, mine, group=self.group)
        tables = [e.tolist() for e in everyone]
        for t in tables:
            # The width of a rank without rows is not known, and of no account.
            same = all(a == b or -1 in (a, b) for i, (a, b) in enumerate(zip(t[1:], tables[0][1:])) if i % 4)
            if not same or len({*t[:1], *t[1::4]}) > 1:
                raise ValueError("process_group: expected inputs of one type and width on all ranks, and as many rows in "
                                 "each input of a rank")
        return [t[0] for t in tables]

    def sum(self, values: List[float], device: torch.device) -> List[float]:
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total, group=self.group)
        return total.tolist()

    def take_from_first(self, tensors: List[torch.Tensor]) -> None:
        """Sets tensors to those of the first rank."""
        for t in tensors:
            dist.broadcast(t.detach(), dist.get_global_rank(self.group, 0), group=self.group)

    @contextlib.contextmanager
    def random_numbers_of_first(self):
        """What is drawn inside is the same on all ranks, and what the first would have drawn alone."""
        own = torch.get_rng_state()
        state = own.clone()
        self.take_from_first([state])
        torch.set_rng_state(state)
        try:
            yield
        finally:
            if self.rank != 0:
                torch.set_rng_state(own)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: torch.Tensor, ranks: Ranks, counts: List[int]) -> torch.Tensor:
        ctx.ranks, ctx.counts = ranks, counts
        if max(counts) == 0:
            return rows.clone()
        # As bytes: a backend need not know the type, and nothing is rounded.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[:len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        as_bytes = [p.view(-1).view(torch.uint8) for p in parts]
        dist.all_gather(as_bytes, padded.view(-1).view(torch.uint8), group=ranks.group)
        return torch.cat([p[:n] for p, n in zip(parts, counts)])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        rank, counts = ctx.ranks.rank, ctx.counts
        first = sum(counts[:rank])
        return gradient[first:first + counts[rank]] * ctx.ranks.size, None, None
