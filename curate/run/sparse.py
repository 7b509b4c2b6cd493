"""What is known of survivors only: a captioner's column, a score of that caption, and whatever reads one of these.

is_sparse(Captioner())                                         # the class says so
is_sparse(ClipScore(text=Column(Captioner(), "caption")))      # derived: it reads what is
is_sparse(ClipScore())                                         # no: it reads the web text
"""

from __future__ import annotations

from filters.base import Filter
from stages.base import Barrier, Stage

Owner = Stage | Barrier


def over_survivors(owner: Owner | Filter) -> bool:
    """Is a global filter, or a barrier that has such a parameter, asked about survivors only?"""
    return getattr(owner, "over", None) == "survivors"


def is_sparse(owner: Owner) -> bool:
    """Is the owner computed for survivors only: since its class or its `over` says so, or since it reads what is?"""
    seen: set[Owner] = set()
    todo = [owner]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        if one.sparse if isinstance(one, Stage) else over_survivors(one):
            return True
        seen.add(one)
        todo += [c.owner for c in one.reads() if c.owner is not None]
    return False


def derived(owner: object) -> str:
    """Why a stage is for survivors, in words, where its class does not say so; "" where there is nothing to say."""
    if not isinstance(owner, Stage) or owner.sparse or not is_sparse(owner):
        return ""
    read = dict.fromkeys(repr(c.field) for c in owner.reads() if c.owner is not None and is_sparse(c.owner))
    return f"for survivors, since it reads {' and '.join(read)}"


def whom_it_asks(stage: Stage) -> str:
    """The same with whom it asks, as the note of a planned step."""
    return "; ".join(filter(None, [derived(stage), "asks only survivors that no part has yet"]))
