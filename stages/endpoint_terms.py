"""What stages.endpoint_asking is told and tells: options, counts, the question that shows whether a server works."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from stages.base import StopRun
from stages.endpoint_limits import Rate

PROBE = 'Answer with this JSON: {"yes": true}'  # that no server has a reason to refuse
Usage = tuple[int | None, int | None]  # tokens of prompt and answer, None where not counted


class ServiceError(StopRun):
    """No server answers, or none will: says which, why and what to do. No request of the call has an answer."""


@dataclass(frozen=True)
class Options:
    """How servers are asked; none of it decides what they say.

    key_env: name of the environment variable that has the API key; its value is in no file, log or message.
    concurrency: requests in flight at one server.
    requests_per_minute, tokens_per_minute: over all servers and all workers of this machine; tokens of prompt and
        answer, guessed when sent and put right by what the server counts.
    deadline_s: of one try. tries: of one request, faults of the service not counted.
    patience_s: without an answer from any server to any worker of this machine, before `ask` raises, unless a harmless
        question is answered then; time that a rate takes is no silence.
    give_up: failed requests in a row, with no good answer between them, before it raises. Where the servers refused
        them, it raises only if they refuse a harmless question too; who is too busy to say is asked again.
    longest_answer: bytes of one answer's body; what is longer is a fault and is not read to its end.
    """

    key_env: str | None = None
    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    deadline_s: float = 120.0
    tries: int = 4
    patience_s: float = 600.0
    give_up: int = 64
    longest_answer: int = 1 << 20


@dataclass
class Tally:
    """Counts since the client was made. sent: tries. failed: requests that ended with an `error`. refused: tries that
    were no request's fault. Tokens as servers count them.
    """

    asked: int = 0
    sent: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def sum_of(*counts: int | None) -> int:
    return sum(count or 0 for count in counts)


def total_of(spent: Sequence[Usage]) -> Usage:
    """Of all tries; None where none was counted."""
    prompt, completion = ([usage[of] for usage in spent if usage[of] is not None] for of in (0, 1))
    return sum_of(*prompt) if prompt else None, sum_of(*completion) if completion else None


def grey() -> bytes:
    """A picture that every vision model takes."""
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (224, 224), "grey").save(file, "PNG")
    return file.getvalue()


def key_of(variable: str | None) -> str | None:
    if variable is None:
        return None
    found = os.environ.get(variable, "").strip()
    if not found:
        raise ValueError(f"`key_env: {variable}`: there is no such environment variable here: export it, and run again")
    return found


def rate_of(per_minute: float | None, name: str) -> Rate | None:
    return None if per_minute is None else Rate(per_minute, name)
