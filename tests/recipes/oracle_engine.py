"""Oracle of DINOv2's engine: components of all pairs, evaluation pictures with theirs, and both ways of retrieval.

Vectors and centroids are read of the pool; cosines, components, ranks and draws are computed here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tests.recipes.oracle_parts import draw, first_of, largest_first
from tests.recipes.oracle_vectors import are_means, nearest, unit
from tests.recipes.world import Chosen

MILLION = 1_000_000


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In whole millionths."""
    found: np.ndarray = np.rint(unit(a) @ unit(b).T * MILLION).astype(int)
    return found


def components(close: np.ndarray, least: float) -> np.ndarray:
    """6.6: of each row the number of the component that pairs with at least this cosine make."""
    a, b = np.nonzero(close >= round(least * MILLION))
    graph = coo_matrix((np.ones(len(a)), (a, b)), close.shape)
    found: np.ndarray = connected_components(graph, directed=False)[1]
    return found


def lvd_142m(
    seen: Chosen,
    copies: float,
    related: float,
    above: float,
    imagenet_sscd: str,
    curated_dinov2: str,
    flowers_dinov2: str,
    each: int,
    most: int,
) -> pd.Series:
    """6.6: one of each component; none of a component with an evaluation picture; of those what the sets retrieve."""
    rows = seen.rows.index
    copy = seen.vectors("sscd_image")
    close = cosines(copy, copy)
    group = pd.Series(components(close, copies), rows)
    stays = first_of(group, pd.Series(True, rows), largest_first(seen))
    hit = cosines(copy, np.load(imagenet_sscd)).max(axis=1) > round(above * MILLION)
    around = components(close, related)
    gone = np.isin(around, around[hit])
    assert (gone & ~hit).any()
    left = stays & ~gone
    like = unit(seen.vectors("dinov2_image"))
    taken = near(like, np.load(curated_dinov2), left)
    taken |= in_clusters(seen, like, np.load(flowers_dinov2), left, each, most)
    return pd.Series([u in taken for u in rows], rows)


def near(x: np.ndarray, queries: np.ndarray, left: pd.Series, k: int = 4) -> set[str]:
    """The k nearest of each query among those left, the smaller uid first."""
    uids = np.array(left.index[left])
    order = np.argsort(uids)
    close = cosines(queries, x[left.to_numpy()][order])
    best = np.argsort(-close, axis=1, kind="stable")[:, :k]
    return set(uids[order][best].reshape(-1))


def in_clusters(seen: Chosen, x: np.ndarray, queries: np.ndarray, left: pd.Series, each: int, most: int) -> set[str]:
    """Of clusters with more than three queries `each` samples, `most` in all, by draw."""
    centroids = np.array(seen.model("retrieve", "centroids").column("centroid").to_pylist(), np.float64)
    mine = x[left.to_numpy()]
    are_means(centroids, mine, spherical=True)
    own = pd.Series(nearest(centroids, mine), left.index[left])
    hits = np.bincount(nearest(centroids, unit(queries)), minlength=len(centroids))
    drawn = pd.Series({u: draw(0, "retrieve:flowers", u) for u in own.index})
    found: list[str] = []
    for j in np.flatnonzero(hits > 3):
        found += sorted(own.index[own == j], key=lambda u: drawn[u])[:each]
    assert 0 < (hits > 3).sum() < len(hits)
    assert len(found) > most
    return set(sorted(found, key=lambda u: drawn[u])[:most])
