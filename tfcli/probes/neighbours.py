"""Nearest neighbours by cosine: an exact streaming top-k search.

The similarity is the cosine rounded to float32; among equal similarities the lower index is nearer. A first pass in low
precision keeps all rows that can be among the k best: rows whose product is within twice the bound on rounding errors
of the k-th best product so far. A second pass compares these rows in float64. So the result is exact for any precision
of the first pass. Only a few more than k rows are kept for each query: memory does not grow with the bank.

A rounding error is proportional to the length of the rounded vector. The features of a network have similar
directions, so the bank's mean direction is subtracted first and added back exactly: the remainders are short.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from tfcli.errors import ConfigError
from tfcli.probes.precision import full_float32, has_bfloat16, matmul
from tfcli.shapes import Float, Int

Bank = Tensor | np.ndarray | Callable[[], Iterable[Tensor | np.ndarray]]
"""Features (N, D) in memory or memory-mapped, or a function that starts an iteration over chunks (n, D) of them."""

FOLD = 32
"""Number of products of which the first pass checks only the largest, at first."""


def neighbours(
    query: Float[Tensor, "M D"],
    bank: Bank,
    *,
    k: int,
    chunk: int = 4096,
    low_precision: bool | None = None,
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """Return the k most similar rows of the bank for each query: (cosine, index), nearest first.

    Args:
        query: float32.
        bank: read twice in chunks, of which one at a time is in memory.
        k: number of neighbours.
        chunk: number of rows of the bank that are compared at a time, with an eighth of this number of queries.
        low_precision: whether the first pass multiplies in bfloat16; None: where the CPU has instructions for it. The
            result does not depend on it.

    Raises:
        ConfigError: k is less than 1 or greater than the bank's size.
    """
    if k < 1:
        raise ConfigError(f"K must be at least 1, but is {k}.")
    if low_precision is None:
        low_precision = has_bfloat16(query.device)
    chunk = max(chunk, 8 * k)
    parts: list[Part] = []
    lengths: list[Tensor] = []
    count = 0
    with full_float32():
        for rows in _chunks(bank, chunk, query.device):
            lengths.append(_length(rows))
            unit = rows / lengths[-1][:, None].float()
            if not parts:
                centre = unit.mean(0)
                parts = [Part(some, centre, k, low_precision) for some in query.split(max(chunk // 8, 1))]
            block = Block(unit, centre, count, low_precision)
            for part in parts:
                part.scan(block)
            count += len(rows)
    if count < k:
        raise ConfigError(f"K = {k} neighbours of {count} training samples: K must not exceed their number.")
    for part in parts:
        part.settle(count)
    start = 0
    for rows, length in zip(_chunks(bank, chunk, query.device), lengths, strict=True):
        for part in parts:
            part.compare(rows, length, start)
        start += len(rows)
    found = [part.result() for part in parts]
    if not found:
        return query.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=query.device)
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


class Block:
    """A chunk of the bank for the first pass: `q . b` has the order of `(q - centre) . (b - centre) + centre . b`.

    Args:
        unit: (n, D) unit vectors.
        centre: (D).
        start: index of the first vector in the bank.
        low_precision: round to bfloat16; `centre . b` is a sum of three such numbers.
    """

    def __init__(self, unit: Tensor, centre: Tensor, start: int, low_precision: bool):
        self.start, self.count = start, len(unit)
        short = unit - centre
        added = short @ centre
        self.length = float(short.norm(dim=1).max())
        self.added = float(added.abs().max())
        self.rows = _padded(short, _split_bfloat16(added) if low_precision else [added], low_precision)
        width = short.shape[1]
        self.lost = float((short - self.rows[: len(short), :width]).norm(dim=1).max()) if low_precision else 0.0


class Part:
    """Some of the queries, with the candidates for their neighbours."""

    def __init__(self, query: Tensor, centre: Tensor, k: int, low_precision: bool):
        self.k = k
        self.query, self.length = query, _length(query)
        short = query / self.length[:, None].float() - centre
        self.rows = _padded(short, [short.new_ones(len(short))] * (3 if low_precision else 1), low_precision)
        self.rows = self.rows[: len(short)]
        self.short = short.norm(dim=1)
        lost = short - self.rows[:, : short.shape[1]]
        self.lost = lost.norm(dim=1)
        self.step = 2.0**-9 if low_precision else 2.0**-24  # of rounding a product
        self.carry = (short.shape[1] + 8) * 2.0**-23  # of adding up in float32
        self.best = short.new_full((len(short), k), -math.inf)  # products of k different rows of the bank
        self.error = short.new_zeros(len(short))
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []  # row of the query, index in the bank, product
        self.count = torch.zeros(len(short), dtype=torch.int64, device=short.device)
        self.crowded = torch.zeros_like(self.count, dtype=torch.bool)

    def scan(self, block: Block) -> None:
        """Keep the rows of the block that can be among the k best."""
        error = self.lost * block.length + (self.short + self.lost) * block.lost
        error += self.carry * (self.short * block.length + block.added) + 2.0**-21  # the last term: unit vectors
        self.error = torch.maximum(self.error, error)
        product = matmul(self.rows, block.rows.T)  # (m, n)
        product[:, block.count :] = -math.inf
        fold = max(1, min(FOLD, block.count // (8 * self.k)))
        while product.shape[1] % fold:
            fold -= 1
        folded = product.view(len(product), fold, -1)
        tops = folded.amax(1).float()  # products of different rows
        least = self._least(self.best.amin(1))
        if bool((least == -math.inf).any()):  # there are no k rows yet
            least = torch.maximum(least, self._least(torch.cat([self.best, tops], 1).topk(self.k, 1).values[:, -1]))
        row, column = (tops >= least[:, None]).nonzero(as_tuple=True)
        value = folded[row, :, column].float()  # (candidates, fold)
        which, place = ((value >= least[row][:, None]) & (value > -math.inf)).nonzero(as_tuple=True)
        row, column, value = row[which], column[which] + place * folded.shape[2], value[which, place]
        self._raise(row, value)
        left = value >= self._least(self.best.amin(1))[row]
        row = row[left]
        self.kept.append((row, block.start + column[left], value[left]))
        self.count += row.bincount(minlength=len(self.count))
        if int(self.count.max()) > 16 * self.k + 512:
            self._prune()

    def _raise(self, row: Tensor, value: Tensor) -> None:
        """Put products of new rows, sorted by row, among the k best."""
        left = value > self.best.amin(1)[row]
        row, value = row[left], value[left]
        count = row.bincount(minlength=len(self.best))
        table = value.new_full((len(self.best), int(count.max())), -math.inf)
        table[row, _place(row, count)] = value
        self.best = torch.cat([self.best, table], 1).topk(self.k, 1, sorted=False).values

    def _prune(self) -> None:
        """Drop rows that cannot be among the k best any more; mark queries with too many candidates as crowded."""
        row, index, value = (torch.cat(column) for column in zip(*self.kept, strict=True))
        left = value >= self._least(self.best.amin(1))[row]
        self.count = row[left].bincount(minlength=len(self.count))
        self.crowded |= self.count > 8 * self.k + 256
        self.best[self.crowded] = math.inf  # no product reaches it
        self.count[self.crowded] = 0
        left &= ~self.crowded[row]
        self.kept = [(row[left], index[left], value[left])]

    def _least(self, kth: Tensor) -> Tensor:
        """Return the product below which no row can be among the k best, given the k-th best product."""
        return kth - 2 * self.error - 2.1 * self.step * (kth.abs() + 0.05)

    def settle(self, size: int) -> None:
        """End the first pass: sort the candidates by query and index; `size` is the bank's."""
        self._prune()
        row, index, _ = self.kept.pop()
        order = (row * size + index).argsort()
        self.row, self.index = row[order], index[order]
        self.cosine = torch.empty(len(order), device=row.device)
        self.place = self.crowded.cumsum(0) - 1
        crowd = int(self.crowded.sum())
        self.keys = torch.full((crowd, self.k), torch.iinfo(torch.int64).min, device=row.device)

    def compare(self, rows: Tensor, length: Tensor, start: int) -> None:
        """Compute the exact cosines of the candidates in a chunk of the bank, (n, D) with lengths."""
        here = ((self.index >= start) & (self.index < start + len(rows))).nonzero().flatten()
        for some in here.split(128):  # they fit into the CPU's cache
            row, index = self.row[some], self.index[some] - start
            product = self.query[row].double().mul_(rows[index]).sum(1)
            self.cosine[some] = (product / (self.length[row] * length[index])).float()
        if not len(self.keys):
            return
        for some in self.crowded.nonzero().flatten().split(64):
            product = self.query[some].double() @ rows.double().T
            keys = _key((product / (self.length[some, None] * length)).float(), start)
            self.keys[self.place[some]] = torch.cat([self.keys[self.place[some]], keys], 1).topk(self.k, 1).values

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the k nearest rows of each query."""
        place = _place(self.row, self.count)
        most = max(self.k, int(self.count.max()))
        cosine = self.cosine.new_full((len(self.count), most), -math.inf)
        index = torch.zeros_like(cosine, dtype=torch.int64)
        cosine[self.row, place], index[self.row, place] = self.cosine, self.index
        order = cosine.argsort(dim=1, descending=True, stable=True)[:, : self.k]  # lower index first among equals
        cosine, index = cosine.gather(1, order), index.gather(1, order)
        if len(self.keys):
            cosine[self.crowded], index[self.crowded] = _from_key(self.keys)
        return cosine, index


def _place(row: Tensor, count: Int[Tensor, "M"]) -> Tensor:
    """Return the place of each entry among its row's, which are `count`; entries are sorted by row."""
    return torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]


def _key(cosine: Float[Tensor, "M N"], start: int) -> Int[Tensor, "M N"]:
    """Return whole numbers that sort by cosine, then by lower index, for float32 cosines of bank rows from `start`."""
    bits = (cosine + 0.0).view(torch.int32).long()  # + 0.0: no negative zero
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    index = torch.arange(start, start + cosine.shape[1], device=cosine.device)
    return ordered * 2**32 + (2**32 - 1 - index)


def _from_key(key: Int[Tensor, "M k"]) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    ordered = key.div(2**32, rounding_mode="floor")
    index = 2**32 - 1 - (key - ordered * 2**32)
    bits = torch.where(ordered < 0, -ordered - 2**31, ordered)
    return bits.int().view(torch.float32), index


def _padded(x: Tensor, columns: list[Tensor], low_precision: bool) -> Tensor:
    """Append columns to `x`, and pad with zeros to a multiple of 32 rows, and of 8 columns (32 in low precision), for
    fast matrix products.
    """
    count, width = x.shape
    unit = 32 if low_precision else 8
    out = x.new_zeros(
        count + -count % 32,
        width + len(columns) + -(width + len(columns)) % unit,
        dtype=torch.bfloat16 if low_precision else x.dtype,
    )
    out[:count, :width] = x
    for place, column in enumerate(columns):
        out[:count, width + place] = column
    return out


def _split_bfloat16(x: Tensor) -> list[Tensor]:
    """Return three bfloat16 numbers whose sum is `x` to float32's last bit."""
    parts = []
    for _ in range(3):
        parts.append(x.bfloat16().float())
        x = x - parts[-1]
    return parts


def _length(x: Tensor) -> Tensor:
    """Return the lengths of rows, float64; 1 for a row of zeros, so that its cosines are 0."""
    length = torch.cat([some.double().norm(dim=1) for some in x.split(256)])
    return torch.where(length > 0, length, 1.0)


def _chunks(bank: Bank, size: int, device: torch.device) -> Iterator[Tensor]:
    if callable(bank):
        pieces: Iterable[Tensor | np.ndarray] = bank()
    else:
        pieces = (bank[i : i + size] for i in range(0, len(bank), size))
    for piece in pieces:
        tensor = piece if isinstance(piece, Tensor) else torch.from_numpy(np.array(piece))
        for rows in tensor.split(size):
            if len(rows):
                yield rows.to(device, torch.float32)
