"""From the entries of whole groups and their edges to answers: who goes, for whom, how far from that.

answers, numbers = decided(rows, edges, "greedy", same=("node",), best=("generation", "rank0", "high", "low"))
"""

from __future__ import annotations

import numpy as np

from filters.keep_edges import Edges
from filters.keep_entries import Names, sorted_by
from filters.keep_rules import UNKNOWN, Rule, choose, orphans
from stages.base import Inputs
from stages.shuffle import Arrays, starts_of


def decided(rows: Arrays, files: Inputs, rule: Rule, same: Names, best: Names) -> tuple[Arrays, dict[str, int]]:
    """(answers as `keep_entries.answered` takes them, numbers for the footer).

    Args:
        rows: entries; those that agree in `same` are one node, and what is smallest by `best` is best.
        files: tables of (a, b, distance) between nodes; none where equal samples are all there is.
    """
    node_of, first = _nodes(rows, same, best)
    edges = Edges.of_files(rows["node"][first] if "node" in rows else first.astype(np.uint64), files)
    choice = choose(rule, edges, rows["generation"][first])
    winner = choice.winner[node_of]
    kept = first[winner]
    distance = np.where(winner == node_of, 0, choice.apart[node_of])
    if "word0" in rows:
        distance = np.where(distance == UNKNOWN, bits_between(rows, kept), distance)
    named = _smallest(rows, choice.label[node_of])
    answer = {"place": rows["place"], "kept_high": rows["high"][kept], "kept_low": rows["low"][kept]}
    answer["distance"] = distance.astype(np.int32)
    answer |= {"component_high": rows["first_high"][named], "component_low": rows["first_low"][named]}
    answer["whole"] = np.zeros(len(kept), bool)
    needed = (kept != np.arange(len(kept))) | (rows["count"] > 1)  # who has copies says what they yield to
    heads = choice.label == np.arange(len(first))
    numbers = {"nodes": len(first), "kept": int(choice.stays.sum()), "components": int(heads.sum())}
    numbers["orphans"] = orphans(choice, edges)
    return {n: a[needed] for n, a in answer.items()}, numbers


def of_large(large: Arrays) -> Arrays:
    """The same of `keep_entries.Bucket.large`: answers for all of a group at once, which is then their component."""
    rows, group = len(large["place"]), {f"component_{n}": large[f"group_{n}"] for n in ("high", "low")}
    answer = {n: large[n] for n in ("place", "kept_high", "kept_low")} | {"distance": np.full(rows, UNKNOWN, np.int32)}
    return answer | group | {"whole": np.ones(rows, bool)}


def bits_between(rows: Arrays, other: np.ndarray) -> np.ndarray:
    """int64 (n,): in how many bits the hash of each row (word0, ...: uint64) differs from that of the row `other`."""
    words = [a for n, a in rows.items() if n.startswith("word")]
    return np.asarray(np.sum([np.bitwise_count(w ^ w[other]) for w in words], axis=0, dtype=np.int64))


def _nodes(rows: Arrays, same: Names, best: Names) -> tuple[np.ndarray, np.ndarray]:
    """(the node of each entry, the best entry of each node); nodes are numbered by rank, 0 the best."""
    order = sorted_by(rows, (*same, *best))
    starts = starts_of(*(rows[n][order] for n in same))
    first = order[starts]
    by_rank = sorted_by({n: rows[n][first] for n in best}, best)
    rank_of, node_of = np.empty_like(by_rank), np.empty_like(order)
    rank_of[by_rank] = np.arange(len(by_rank))
    node_of[order] = np.repeat(rank_of, np.diff(np.append(starts, len(order))))
    return node_of, first[by_rank]


def _smallest(rows: Arrays, number: np.ndarray) -> np.ndarray:
    """int64 (n,): the row with the smallest uid (first_high, first_low) among those of the same number."""
    keys = {"number": number, "high": rows["first_high"], "low": rows["first_low"]}
    order = sorted_by(keys, ("number", "high", "low"))
    starts = starts_of(number[order])
    found = np.empty_like(order)
    found[order] = np.repeat(order[starts], np.diff(np.append(starts, len(order))))
    return found
