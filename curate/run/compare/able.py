"""Which of the sets the family that is to be trained can be judged on: asked of its class, before anything is trained.

sets, missing = able_sets("llava", sets, missing)
check_primary("scenes/cider", "llava", sets, missing, probe=False)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.errors import UserError
from curate.run.compare.gather import MEAN
from curate.run.compare.sets import EvalSet

DATACOMP = "DataComp"
PROBES = ("lp_", "knn_")  # what names of their metrics begin with


def able_sets(family: str, sets: Sequence[EvalSet], missing: Mapping[str, str]) -> tuple[list[EvalSet], dict[str, str]]:
    """The sets that ask for what the family is able to do; the others beside those that were missing, with the reason.

    Raises:
        UserError: none is left, or a package that the family needs is not installed.
    """
    reasons = {s.name: _unable(family, s) for s in sets}
    lacking = {name: reason for name, reason in reasons.items() if reason is not None}
    kept = [s for s in sets if s.name not in lacking]
    if not kept:
        named = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
        raise UserError(f"family {family} can be judged on none of the evaluation sets: {named}")
    return kept, {**missing, **lacking}


def check_primary(primary: str, family: str, sets: Sequence[EvalSet], missing: Mapping[str, str], probe: bool) -> None:
    """Whether there is the set that decides, and whether the family gets such a metric of it, as far as names tell.

    Raises:
        UserError: there is not, or it does not.
    """
    from training_smoke.evaluate.kinds import gives

    if primary == MEAN:
        return
    name, _, metric = primary.rpartition("/")
    chosen = next((s for s in sets if s.name == name), None)
    if chosen is None and not (name == DATACOMP and any(s.task is not None for s in sets)):
        why = f"not evaluated ({missing[name]})" if name in missing else "no such set"
        known = ", ".join(s.name for s in sets)
        raise UserError(f"primary metric {primary}: {why}; it is {MEAN}, or SET/METRIC of {known}")
    if metric.startswith(PROBES) and not (probe and chosen is not None and chosen.probed):
        raise UserError(
            f"primary metric {primary} is a probe's: say --probe, and name a set with a train/ beside test/"
        )
    kind = None if chosen is None or chosen.task is not None else _kind(chosen)
    if kind is not None and gives(_abilities(family), kind, metric) is False:
        raise UserError(f"primary metric {primary}: a model of family {family} has no such metric on a set for {kind}")


def check_probe(family: str, sets: Sequence[EvalSet]) -> None:
    """
    Raises:
        UserError: no set allows a probe, or the family has no vectors to fit one on.
    """
    if not any(s.probed for s in sets):
        raise UserError(
            "--probe: none of the evaluation sets has classes and, beside test/, a train/ of the same layout to fit a "
            f"probe on: {', '.join(s.name for s in sets)}"
        )
    if not {"vectors", "looks"} & _abilities(family):
        raise UserError(f"--probe: a probe looks at vectors of pictures, and models of family {family} have none")


def _unable(family: str, chosen: EvalSet) -> str | None:
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.kinds import unable

    able = _abilities(family)
    if chosen.task is not None:
        return None if "vectors" in able else f"it is measured by vectors of pictures and texts; {family} has none"
    try:
        return unable(able, chosen.open())
    except TrainingError:  # a set that is not whole: told by who reads it
        return None


def _kind(chosen: EvalSet) -> str | None:
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.folders import Folder

    try:
        return Folder.open(chosen.path).kind
    except TrainingError:  # likewise
        return None


def _abilities(family: str) -> frozenset[str]:
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.encoders import TowerEncoders
    from training_smoke.evaluate.kinds import abilities_of
    from training_smoke.families import PAIRS
    from training_smoke.families import family as class_of

    try:
        return abilities_of(TowerEncoders if family in PAIRS else class_of(family))
    except TrainingError as e:
        raise UserError(f"judge: {e}") from e
