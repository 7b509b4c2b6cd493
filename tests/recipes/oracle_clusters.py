"""Oracles of recipes over clusters: SemDeDup, D4, density-based pruning, hierarchical sampling, "Devil" re-balancing.

Centroids are what a model was fitted to, and are read of the pool; who belongs to which, how far from it, who is a
duplicate and how many each cluster keeps is computed here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from tests.recipes.oracle_parts import (
    characters,
    cosine,
    english,
    hash64,
    top_exactly,
    uniform,
    words,
)
from tests.recipes.oracle_vectors import are_means, nearest, norm_sim, unit
from tests.recipes.oracle_views import are_of, lopsided, mirrored, picture
from tests.recipes.world import Chosen


def members(seen: Chosen, table: Any, among: pd.Series, *, spherical: bool) -> pd.DataFrame:
    """(cluster, distance): the nearest centroid by L2, and the cosine distance to it, of rows with a vector."""
    centroids = np.array(table.column("centroid").to_pylist(), np.float64)
    x = unit(seen.vectors("l14_image")[among.to_numpy()])
    are_means(centroids, x, spherical=spherical)
    near = nearest(centroids, x)
    far = 1 - (x * unit(centroids)[near]).sum(axis=1)
    return pd.DataFrame({"cluster": near, "distance": far}, seen.rows.index[among])


def clusters(seen: Chosen, **parameters: Any) -> tuple[pd.DataFrame, np.ndarray]:
    """The same of a k-means of the whole pool, distances as the pool has rounded them; and the centroids."""
    table = seen.model("kmeans", "centroids", **parameters)
    ours = members(seen, table, pd.Series(True, seen.rows.index), spherical=parameters["spherical"])
    theirs = seen.answers("kmeans", "assign", **parameters)
    theirs = theirs.set_axis([c.rpartition("_")[2] for c in theirs.columns], axis=1)
    assert (ours["cluster"] == theirs["cluster"]).all()
    assert ((ours["distance"] - theirs["distance"]).abs() < 1.01e-4).all()
    return theirs[["cluster", "distance"]], np.array(table.column("centroid").to_pylist(), np.float64)


def tenths(distance: pd.Series) -> pd.Series:
    return (distance.astype(np.float64) * 1e4).round().astype(int)


def levels(seen: Chosen, found: pd.DataFrame) -> pd.Series:
    """6.5: of each row the largest cosine, in millionths, to rows of its cluster that are farther from the centroid."""
    x = pd.Series(list(unit(seen.vectors("l14_image"))), seen.rows.index)
    out = pd.Series(-1_000_000, seen.rows.index)
    order = found.assign(far=-tenths(found["distance"]), uid=found.index).sort_values(["cluster", "far", "uid"])
    for _, line in order.groupby("cluster"):
        matrix = np.stack([x[u] for u in line.index])
        close = np.minimum(np.rint(matrix @ matrix.T * 1e6), 1_000_000).astype(int)
        for j, uid in enumerate(line.index[1:], 1):
            out[uid] = close[j, :j].max()
    return out


def deduplicated(seen: Chosen, k: int, keep: float) -> pd.Series:
    """6.5, as the code: what stays with the largest epsilon that keeps such a share."""
    found, _ = clusters(seen, k=k, spherical=True, iterations=100)
    level = levels(seen, found)
    bounds = [1_000_000 - 100 * step for step in range(20_000, -1, -1)]  # the largest epsilon first
    return level <= next(b for b in bounds if (level <= b).mean() >= keep)


def anew(seen: Chosen, filter: str, left: pd.Series, k: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Clusters that a filter made of what is left, distances as it has rounded them; and the centroids."""
    table = seen.model(filter, "centroids")
    assert table.num_rows == k
    ours, theirs = members(seen, table, left, spherical=True), seen.answers(filter, "measured")
    assert (theirs["asked"] == left).all()
    assert (ours["cluster"] == theirs["cluster"][left]).all()
    assert ((ours["distance"] - theirs["distance"][left]).abs() < 1.01e-4).all()
    return theirs.loc[left, ["cluster", "distance"]], np.array(table.column("centroid").to_pylist(), np.float64)


def d4(seen: Chosen, k: int, again: int, keep: float) -> pd.Series:
    """5.15: SemDeDup to a share, clusters made anew, the nearest to their centroids dropped."""
    left = deduplicated(seen, k, keep)
    theirs = anew(seen, "prototypes", left, again)[0]["distance"]
    return top_exactly(tenths(theirs).astype(float), 0.2667).reindex(left.index, fill_value=False)


def density_pruning(seen: Chosen, k: int, wide: int, keep: float) -> pd.Series:
    """5.15, DBP: SemDeDup first, clusters of what is left; of each so many, the farthest from its centroid first."""
    found, centroids = anew(seen, "density_pruning", deduplicated(seen, k, keep), wide)
    found = found.assign(tenth=tenths(found["distance"]))
    wanted = int(len(found) * 0.2319)
    size = found.groupby("cluster").size().reindex(range(wide), fill_value=0)
    intra = found.groupby("cluster")["tenth"].mean().reindex(range(wide)) / 1e4
    apart = np.sort(1 - unit(centroids) @ unit(centroids).T + 9 * np.eye(wide), axis=1)
    complexity = intra * apart[:, : min(20, wide - 1)].mean(axis=1)
    complexity = complexity.fillna(complexity.mean()) / 0.5
    share = np.exp(complexity) / np.exp(complexity).sum()
    keep = rounded(projected(share * wanted, size, int(wanted / wide * 0.5), wanted), size, wanted)
    order = found.assign(far=-found["tenth"], uid=found.index).sort_values(["cluster", "far", "uid"])
    turn = order.groupby("cluster").cumcount()
    chosen = order.index[turn < order["cluster"].map(keep)]
    return pd.Series(seen.rows.index.isin(chosen), seen.rows.index)


def projected(target: pd.Series, size: pd.Series, least: int, total: int) -> pd.Series:
    """10.8: the nearest sizes that add up, within their bounds."""
    low = (size - 1).clip(0, least)

    def beyond(mu: float) -> float:
        return float((target + mu).clip(low, size).sum()) - total

    return (target + brentq(beyond, -1e4, 1e4, xtol=1e-13)).clip(low, size)


def rounded(x: pd.Series, size: pd.Series, total: int) -> pd.Series:
    """Largest remainders."""
    down = np.minimum(np.floor(x + 1e-9).astype(int), size)
    rest = (x - down).where(down < size, -1).round(6)
    order = sorted(rest.index, key=lambda i: (-rest[i], i))
    for i in order[: total - down.sum()]:
        down[i] += 1
    return down


# ---------------------------------------------------------------- hierarchical sampling


def hierarchical_sampling(seen: Chosen, depth: int) -> pd.Series:
    """6.7: the cut is shared out from the coarsest level down; the nearest to the finest centroids are taken."""
    table = seen.model("hierarchical_kmeans", "centroids")
    finest = np.array(table.column("centroid").to_pylist(), np.float64)
    are_means(finest, unit(seen.vectors("l14_image")), spherical=False)
    found = pd.DataFrame({i: seen.column(f"hkm_{i + 1}") for i in range(depth)}).astype(int)
    found["far"] = tenths(seen.column("hkm_distance"))
    return pd.Series(seen.rows.index.isin(shared(found, int(len(found) * 0.2), depth - 1)), seen.rows.index)


def shared(rows: pd.DataFrame, wanted: int, level: int) -> list[str]:
    """uids of so many rows, evenly of the clusters of this level."""
    if level < 0:
        return list(rows.assign(uid=rows.index).sort_values(["far", "uid"]).index[:wanted])
    groups = dict(iter(rows.groupby(level)))
    sizes = {c: len(g) for c, g in groups.items()}
    cut = max(c for c in range(wanted + 1) if sum(min(c, n) for n in sizes.values()) <= wanted)
    given = {c: min(cut, n) for c, n in sizes.items()}
    more = sorted(
        (c for c, n in sizes.items() if n > cut), key=lambda c: hash64(0, f"balanced_sample:{level}", 0, int(c))
    )
    for c in more[: wanted - sum(given.values())]:
        given[c] += 1
    return [uid for c, g in groups.items() for uid in shared(g, given[c], level - 1)]


# ---------------------------------------------------------------- "The Devil is in the Details"


def devil(seen: Chosen, targets: str, l14: str) -> pd.Series:
    """5.5: plain rules, mirrored score, nearness to the targets, clusters evened out by repetition."""
    assert (seen.vectors("l14_flipped_image") != seen.vectors("l14_image")).any(axis=1).mean() > 0.9
    are_of(seen, "l14_flipped_image", l14, {u: mirrored(picture(seen, u)) for u in lopsided(seen)})
    kept = english(seen) & (words(seen) >= 3) & (characters(seen) >= 6) & (seen.column("sharpness") >= 50)
    kept &= top_exactly(cosine(seen, "l14_flipped_image", "l14_text"), 0.3)
    kept &= top_exactly(norm_sim(seen, targets)[kept], 0.8).reindex(kept.index, fill_value=False)
    found, _ = clusters(seen, k="max(n/1000, 10)", spherical=False, assign="nearest")
    return evened(found["cluster"][kept], most=10).reindex(kept.index, fill_value=0)


def evened(cluster: pd.Series, most: int) -> pd.Series:
    """As many copies as there are samples, of each cluster by the root of its size, at most so many of a sample."""
    size = cluster.value_counts().sort_index()
    weight, left = {c: round(n**0.5 * 2**20) for c, n in size.items()}, len(cluster)
    places: dict[Any, int] = {}
    while len(places) < len(size):
        exact = {c: Fraction(left * w, sum(weight.values())) for c, w in weight.items()}
        share = {c: int(e) for c, e in exact.items()}
        for c in sorted(exact, key=lambda c: (share[c] - exact[c], c))[: left - sum(share.values())]:
            share[c] += 1
        full = {c: most * size[c] for c in share if share[c] >= most * size[c]}
        places |= full or share
        left, weight = left - sum(full.values()), {c: w for c, w in weight.items() if c not in full}
    copies = pd.Series(0, cluster.index)
    for c, uids in cluster.groupby(cluster).groups.items():
        each, more = divmod(places[c], len(uids))
        copies[uids] = each
        copies[sorted(uids, key=lambda u: uniform(0, "rebalance", u))[:more]] += 1
    return copies
