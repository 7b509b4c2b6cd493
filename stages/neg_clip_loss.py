"""How much better picture and text fit each other than they fit the rest of their batch.

    columns:
      - neg_clip_loss: {image: l14_image, text: l14_text}
    filters:
      - top_fraction: {column: neg_clip_loss, fraction: 0.3, over: pool, on_missing: drop}

negCLIPLoss (s-CLIPLoss), Wang et al., NeurIPS 2024, followed as in baselines/vas2.py of the authors:

    score_i = S_ii - tau/2 * (logsumexp_j(S_ij/tau) + logsumexp_j(S_ji/tau)),    S = I T^T over one batch

averaged over `repeats` random batchings. tau .01 goes with OpenAI's B/32 and L/14, .07 with DFN-P. Nothing is [M].

What differs, on purpose: the code draws batches within one metadata file, so that scores hang on the sharding, and the
last batch of a file is short and gets a smaller penalty. Here groups of some `4 * batch` samples or more are made by a
hash of the uid, batches are seeded permutations of a group, all of one size: the last one is filled up with the first
rows of the permutation, which get no second score by it. A group smaller than a batch is one batch. The code takes
exponentials without subtracting the maximum, which overflows float32 above a cosine of .887; here it is subtracted.

Cosines are float32 products, which BLAS and GPUs sum in their own orders: scores differ by some 1e-6 before they are
rounded to 1e-4, so that about one in a hundred may differ by 1e-4 between kinds of machines, as those of models do.
On one kind of machine the bytes are the same. Footers of the phase `scores` say what computed them.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import Barrier, Column, Inputs, Need, Output, Phase, PhaseFile, Shape, ShardColumns, Source
from stages.draws import hash64_halves
from stages.shuffle import Arrays, Layout, bucket, buckets_of, by_span, gather, halves, places, rows_of
from stages.vectors import ROWS, Device, as_column, gpu_torch, joined, rounded, split_table, stored, unit

NAME = "^[a-z][a-z0-9_]{0,31}$"
BLOCK = 1024  # pictures at a time, against all texts of the batch


class NegClipLoss(Barrier):
    """`<name>`: float32, at most 0 for vectors of length one, rounded to 1e-4; null where a vector is.

    Args:
        image, text: columns of vectors of one model.
        tau: temperature of the model's loss.
        batch: samples in a batch.
        repeats: batchings that the score is the mean of; 5 do nearly as well (the paper).
        seed: of the batchings.
        name: of the column.
        device: cuda computes on a GPU, with torch; the scores are the same ones but for a last digit here and there.

    Raises:
        ValueError: no GPU, the columns have no vectors, or have vectors of two lengths.
    """

    image: Source
    text: Source
    tau: float = Field(default=0.01, gt=0)
    batch: int = Field(default=32_768, ge=1, le=1 << 18)
    repeats: int = Field(default=10, ge=1, le=1000)
    seed: int = 0
    name: str = Field(default="neg_clip_loss", pattern=NAME)
    # No part of the identity, though float32 sums differ in last bits between a GPU and CPUs, and between kinds of CPU:
    # stages that compute in floats promise bytes on one kind of machine only, wherever they run. Footers name it.
    device: Device = Field(default="cpu", exclude=True)

    def reads(self) -> tuple[Column, ...]:
        return (self.image, self.text)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, max(ROWS, 8 * self.batch))
        memory = 2 + layout.rows * 2 * 1024 * 6 / 1e9  # two columns of 1024 dimensions, as stored and in float32
        need = Need(1, 1 if self.device == "cuda" else 0, memory, 86_400)
        pairs, scores = layout.from_shards("pairs"), layout.by_bucket("scores", ("pairs", layout.spans))
        return (
            replace(pairs, need=replace(need, gpus=0)),
            replace(scores, need=need),
            layout.gathered("gather", "scores"),
            layout.to_shards("answers", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "pairs":
                return self._pairs(part, inputs)
            case "scores":
                return self._scores(inputs)
            case "gather":
                return gather(part, inputs)
            case "answers":
                return self._answers(inputs)
        raise ValueError(f"NegClipLoss has no phase {phase!r}")

    def _pairs(self, part: str, inputs: Inputs) -> Output:
        """(high, low, place, image, text) of rows that have both vectors, in groups by uid."""
        found: list[pa.Table] = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            (image, there), (text, also) = (stored(table, c.field) for c in self.reads())
            both = there & also
            if both.any() and image.shape[1] != text.shape[1]:
                raise ValueError(
                    f"neg_clip_loss: {self.image.field} has {image.shape[1]} dimensions and {self.text.field} has "
                    f"{text.shape[1]}; take two columns of one model"
                )
            high, low = halves(table.column("uid"))
            place = places(shard.shard, table.num_rows)
            rows: dict[str, object] = {"high": high[both], "low": low[both], "place": place[both]}
            rows |= {"image": as_column(image[both]), "text": as_column(text[both])}
            found.append(pa.table(rows))
        table = joined(found)
        count = buckets_of(part)
        into = bucket(table.column("high").to_numpy(), table.column("low").to_numpy(), count)
        return Output(split_table(table, into, count), {"pairs": table.num_rows})

    def _scores(self, inputs: Inputs) -> Output:
        """(place, score) of a group, back to the spans."""
        table = joined(inputs)
        high, low, place = (table.column(n).to_numpy() for n in ("high", "low", "place"))
        image, text = (unit(table.column(n), "neg_clip_loss")[0] for n in ("image", "text"))
        total = np.zeros(len(high))
        for repeat in range(self.repeats):
            drawn = hash64_halves(self.seed, f"neg_clip_loss:{repeat}", high, low)
            for batch, fresh in batches(np.lexsort((low, high, drawn)), self.batch):
                total[batch[:fresh]] += self._batch(image[batch], text[batch])[:fresh]
        rows: Arrays = {"place": place, "score": total / self.repeats}
        return Output(by_span(rows, inputs, "pairs"), {"pairs": len(high), "computed_by": self._machine()})

    def _machine(self) -> str:
        """What the scores of a group were computed by, for its footer."""
        if self.device == "cuda":
            return f"cuda: {gpu_torch('neg_clip_loss').cuda.get_device_name()}"
        return f"cpu: {platform.machine()}, numpy {np.__version__}"

    def _batch(self, image: np.ndarray, text: np.ndarray) -> np.ndarray:
        if self.device == "cuda":
            return _neg_clip_loss_on_gpu(image, text, self.tau)
        return neg_clip_loss(image, text, self.tau)

    def _answers(self, inputs: Inputs) -> Output:
        rows = inputs.select(ShardColumns).only().num_rows
        found = inputs.select(PhaseFile).only()
        at = rows_of(found.column("place").to_numpy())
        score, there = np.zeros(rows), np.zeros(rows, bool)
        score[at], there[at] = found.column("score").to_numpy(), True
        return Output(pa.table([rounded(score, there)], schema=self.writes()), {"scored": len(at)})


def batches(order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """(rows of a batch, how many of them are scored by it): all of one size, the last filled up from the first."""
    size = min(size, len(order))
    for start in range(0, len(order), size or 1):
        batch = order[start : start + size]
        yield np.concatenate([batch, order[: size - len(batch)]]), len(batch)


def neg_clip_loss(image: np.ndarray, text: np.ndarray, tau: float) -> np.ndarray:
    """float64 (n,): the score of each pair within the batch.

    Args:
        image, text: float32 (n, dim), rows of length one.

    Never more than two blocks of BLOCK rows of S are held.
    """
    n = len(image)
    own = np.einsum("nd,nd->n", image.astype(np.float64), text.astype(np.float64))
    by_image, highest, summed = np.zeros(n), np.full(n, -np.inf), np.zeros(n)
    for start in range(0, n, BLOCK):
        s = (image[start : start + BLOCK] @ text.T) / np.float32(tau)
        top = s.max(axis=1)
        by_image[start : start + BLOCK] = top + np.log(np.exp(s - top[:, None]).sum(axis=1, dtype=np.float64))
        higher = np.maximum(highest, s.max(axis=0))
        more = np.exp(s - higher.astype(np.float32)).sum(axis=0, dtype=np.float64)
        summed = summed * np.exp(highest - higher) + more
        highest = higher
    return np.asarray(own - tau / 2 * (by_image + highest + np.log(summed)))


def _neg_clip_loss_on_gpu(image: np.ndarray, text: np.ndarray, tau: float) -> np.ndarray:
    """The same with torch: the columns' sums are of blocks, too, so that S need not fit."""
    torch = gpu_torch("neg_clip_loss")
    images, texts = (torch.from_numpy(x).cuda() for x in (image, text))
    own = (images.double() * texts.double()).sum(dim=1)
    both = []
    for rows, others in ((images, texts), (texts, images)):
        parts = [torch.logsumexp((block @ others.T) / tau, dim=1) for block in rows.split(8 * BLOCK)]
        both.append(torch.cat(parts).double())
    return np.asarray((own - tau / 2 * (both[0] + both[1])).cpu().numpy())
