"""From filters to what must be computed: everything a column needs comes before it, and no machine is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.parts import Brighter, Brightness, Captioner, Doubled, EveryOther, RankOfAll, TextLength

from curate.errors import UserError
from curate.run.graph import asked, is_sparse, machines, needs_all_shards, owners, reads_images
from filters.keep_one import KeepOne
from filters.top_fraction import TopFraction
from filters.where import Where
from stages.base import IMAGE, TEXT, Barrier, Column, Need, Stage, fact


class Node(Stage):
    """A stage that reads others; `gpus` says on what kind of machine."""

    name: str
    of: tuple[Stage | Barrier, ...] = ()
    gpus: float = 0
    memory_gb: float = 1

    def reads(self) -> tuple[Column, ...]:
        return (TEXT, *(Column(o, o.writes().names[0]) for o in self.of))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.int8())])

    def need(self) -> Need:
        return Need(cpus=2, gpus=self.gpus, memory_gb=self.memory_gb, deadline_s=10)


class OfSurvivors(Node):
    """The same, for survivors only."""

    sparse = True


class Circular(Stage):
    """Reads itself through another."""

    number: int = 0

    def reads(self) -> tuple[Column, ...]:
        return (Column(Circular(number=(self.number + 1) % 3), "x"),)

    def writes(self) -> pa.Schema:
        return pa.schema([("x", pa.int8())])


class OverSurvivors(Barrier):
    """A barrier over a column that only survivors have."""

    def reads(self) -> tuple[Column, ...]:
        return (Column(OfSurvivors(name="s"), "s"),)


class BarrierOver(Barrier):
    """A barrier that says whom it is asked about."""

    of: Node
    over: Literal["pool", "survivors"] = "pool"

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.of, self.of.name),)


def col(owner: Stage | Barrier) -> Column:
    return Column(owner, owner.writes().names[0])


def names(stages: Sequence[Stage]) -> list[str]:
    return [s.name for s in stages if isinstance(s, Node)]


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Stages in random order of naming, each reading some of those before, on machines with and without a GPU."""
    made: list[Node] = []
    for i in range(draw(st.integers(1, 9))):
        below = tuple(draw(st.lists(st.sampled_from(made), unique=True, max_size=3))) if made else ()
        made.append(Node(name=f"n{i}", of=below, gpus=draw(st.sampled_from([0, 0.5, 1]))))
    return list(draw(st.permutations(made)))


@given(graphs())
def test_every_owner_comes_once_and_after_what_it_reads(made: list[Node]) -> None:
    order = owners([col(n) for n in made])
    assert sorted(names(order)) == sorted({n.name for n in made})  # type: ignore[arg-type]
    for i, owner in enumerate(order):
        assert all(c.owner is None or c.owner in order[:i] for c in owner.reads())


@given(graphs())
def test_passes_keep_that_order_and_hold_one_kind_of_machine_each(made: list[Node]) -> None:
    groups = machines(owners([col(n) for n in made]))  # type: ignore[arg-type]
    flat = [s for _, members in groups for s in members]
    assert sorted(names(flat)) == sorted(n.name for n in made)
    for i, stage in enumerate(flat):
        assert all(c.owner is None or c.owner in flat[:i] for c in stage.reads())
    for need, members in groups:
        assert {s.need().gpus for s in members} == {need.gpus}


def test_owners_in_the_order_in_which_they_are_asked_for() -> None:
    order = owners([fact("uid"), Column(Doubled(), "doubled"), Column(RankOfAll(), "rank"), TEXT, col(Captioner())])
    assert order == [Brightness(), Doubled(), RankOfAll(), Captioner()]
    assert owners([]) == owners([fact("uid")]) == []


def test_a_circle_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="read each other in a circle: circular -> circular -> circular -> circular"):
        owners([col(Circular())])


def test_a_long_chain_is_no_trouble() -> None:
    node = Node(name="n0")
    for i in range(1, 40):
        node = Node(name=f"n{i}", of=(node,))
    assert names(owners([col(node)])) == [f"n{i}" for i in range(40)]  # type: ignore[arg-type]


# ---------------------------------------------------------------- machines


def test_stages_of_one_kind_share_a_pass_and_their_needs_are_joined() -> None:
    a, b = Node(name="a", memory_gb=1), Node(name="b", memory_gb=3)
    ((need, members),) = machines([a, b])
    assert names(members) == ["a", "b"]
    assert need == Need(cpus=2, gpus=0, memory_gb=3, deadline_s=20), "one after another: time adds up, memory does not"
    ((need, _),) = machines([a.model_copy(update={"gpus": 1}), b.model_copy(update={"gpus": 1})])
    assert need == Need(cpus=2, gpus=1, memory_gb=4, deadline_s=20), "weights of both stay in memory"


def test_gpu_and_cpu_are_two_passes_and_only_dependence_makes_a_third() -> None:
    cpu, gpu = Node(name="cpu"), Node(name="gpu", gpus=1)
    free = Node(name="free")
    after = Node(name="after", of=(gpu,))
    assert [names(m) for _, m in machines([cpu, gpu, free])] == [["cpu", "free"], ["gpu"]]
    assert [names(m) for _, m in machines([cpu, gpu, after])] == [["cpu"], ["gpu"], ["after"]]
    later = Node(name="later", of=(after,))
    again = Node(name="again", of=(later,), gpus=1)
    passes = [names(m) for _, m in machines([cpu, gpu, after, free, later, again])]
    assert passes == [["cpu", "free"], ["gpu"], ["after", "later"], ["again"]]


def test_a_gpu_stage_over_a_cpu_stage_joins_the_gpu_pass_after_it() -> None:
    gpu = Node(name="gpu", gpus=1)
    cpu = Node(name="cpu", of=(gpu,))
    second = Node(name="second", gpus=1, of=(cpu,))
    beside = Node(name="beside", gpus=1, of=(gpu,))
    assert [names(m) for _, m in machines([gpu, cpu, second, beside])] == [["gpu", "beside"], ["cpu"], ["second"]]


def test_who_looks_at_images() -> None:
    assert reads_images([Brightness(), Doubled()])
    assert not reads_images([Doubled(), Node(name="a")])
    assert IMAGE in Brightness().reads()


# ---------------------------------------------------------------- what needs all shards, what is for survivors


def test_what_stands_on_a_barrier_needs_all_shards() -> None:
    over = Node(name="over", of=(RankOfAll(),))
    assert needs_all_shards(RankOfAll())
    assert needs_all_shards(over)
    assert needs_all_shards(Node(name="above", of=(over,)))
    assert not needs_all_shards(Doubled())


def test_survivors_columns() -> None:
    assert is_sparse(Captioner())
    assert is_sparse(OfSurvivors(name="second", of=(Captioner(),))), "one for survivors may read another"
    assert not is_sparse(Brightness())
    assert not is_sparse(TextLength())


def test_what_reads_a_column_of_survivors_is_for_survivors_itself() -> None:
    """A dense file would say null of whoever was not asked yet, and stay so under the same name for ever."""
    over = Node(name="over", of=(Captioner(),))
    assert is_sparse(over)
    assert is_sparse(Node(name="above", of=(over,)))
    assert not is_sparse(Node(name="over")), "the same class over what all samples have"
    assert is_sparse(Circular()) is False, "circles are another's error, and end"


def test_a_barrier_for_all_samples_cannot_read_a_column_of_survivors() -> None:
    with pytest.raises(UserError, match=r"over_survivors looks at all samples and cannot read 's', which of_survivors"):
        owners([Column(OverSurvivors(), "x")])
    derived = BarrierOver(of=Node(name="derived", of=(Captioner(),)))
    with pytest.raises(UserError, match=r"barrier_over looks at all samples and cannot read 'derived', which node"):
        owners([Column(derived, "x")])
    assert owners([Column(derived.model_copy(update={"over": "survivors"}), "x")])[:-1] == owners([col(derived.of)])


def test_a_filter_over_the_pool_cannot_read_a_column_of_survivors() -> None:
    scores = Column(OfSurvivors(name="itm"), "itm")
    with pytest.raises(UserError, match=r"filter best: 'itm' is computed for survivors only.*write `over: survivors`"):
        asked("best", TopFraction(over="pool", column="itm", fraction=0.3), lambda _: scores)
    step = asked("best", TopFraction(over="survivors", column="itm", fraction=0.3), lambda _: scores)
    assert step.reads == (scores,)
    assert asked("row", Where(sql="itm > 0.5"), lambda _: scores).reads == (scores,)


# ---------------------------------------------------------------- steps


def test_plain_names_are_looked_up_and_columns_of_a_stage_are_taken_as_they_are() -> None:
    seen: list[str] = []

    def resolve(name: str) -> Column:
        seen.append(name)
        return fact(name)

    step = asked("near", KeepOne(over="survivors", by="phash64", distance=4), resolve)
    groups = KeepOne(over="survivors", by="phash64", distance=4).groups()
    assert step.reads[0] == Column(groups, "phash64_group")
    assert set(seen) == {"original_width", "original_height"}
    assert step.barriers == (groups,)
    assert asked("bright", Brighter(than=3), resolve).reads == (Column(Brightness(), "brightness"),)
    assert asked("bright", Brighter(than=3), resolve).barriers == ()
    assert asked("half", EveryOther(over="pool"), resolve).reads == (fact("uid"),)


def test_a_lookup_that_fails_is_passed_on() -> None:
    def nothing(name: str) -> Column:
        raise UserError(f"no column {name!r}")

    with pytest.raises(UserError, match="no column 'sharpness'"):
        asked("sharp", Where(sql="sharpness > 1"), nothing)
