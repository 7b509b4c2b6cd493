"""What goes over the wire to an OpenAI-compatible server, and what its answers mean: `/chat/completions`, one choice.

Answers are hostile: their size is bounded before, their form checked here, and what a message quotes of them is short,
on one line and without the key.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import xxhash

from stages.prompts import one_line
from training_smoke.sampling import Sampling

LONGEST_QUOTE = 200  # characters of a server's own words in a message
LONGEST_PAUSE_S = 3600.0  # that a server may ask for
_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"RIFF": "webp"}
_BUSY = (429, 502, 503, 504, 529)  # it is there, or its proxy is, and it works later
_REFUSED = {
    401: "it refuses the API key: name the variable that has it with `key_env`",
    402: "it wants to be paid",
    403: "it refuses the API key: name the variable that has it with `key_env`",
    404: "it has no such model or address: `urls` end in /v1, and `model` is a name that GET /v1/models lists",
    405: "it does not know this request: `urls` end in /v1",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One question of one turn.

    prompt: the user's words; texts of the web stand in them by `stages.prompts.fill` only.
    image: an encoded picture (JPEG, PNG, WebP, GIF) as it is stored, or a function that reads it when it is sent.
    key: names the draw: f"{uid hex}/{number of the caption}"; the seed of the request is a function of it.
    system: the system's words, if any.
    """

    prompt: str
    image: bytes | Callable[[], bytes] | None = None
    key: str = ""
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: either `text` or `error` is None.

    text: as it came; `stages.prompts.clean` makes it fit to be stored.
    finish: "stop", or "length" where it was cut at `max_tokens`.
    prompt_tokens, completion_tokens: as the server counts them (`usage`), of all tries that it counted: what was said
        and could not be used is paid for like the rest. None where it counted none.
    tries: how often it was sent.
    """

    text: str | None
    error: str | None = None
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tries: int = 1


class SampleFault(Exception):
    """The fault of one request, or of what the server made of it. again: another try may mend it.

    usage: tokens of prompt and answer that the server counted all the same.
    """

    def __init__(self, reason: str, again: bool = True, usage: tuple[int | None, int | None] = (None, None)) -> None:
        super().__init__(reason)
        self.again, self.usage = again, usage


class Unheard(SampleFault):
    """Nothing whole came back. late: the deadline has passed; else the connection was closed before any answer.

    alone: no other request of ours was at the server meanwhile. own: other requests show that it is this one's fault.
    since: when it was sent, a time of the loop.
    """

    def __init__(self, reason: str, late: bool, alone: bool, own: bool, since: float) -> None:
        super().__init__(reason)
        self.late, self.alone, self.own, self.since = late, alone, own, since


class UnfitRequest(SampleFault):
    """A request that cannot be sent at all."""


class ServiceFault(Exception):
    """The fault of the server: no request's. final: waiting does not mend it. pause_s: as it asks for, if it does.

    filter: it may be one request that is refused, as firewalls and moderation do, and not who asks.
    """

    def __init__(self, reason: str, final: bool = False, pause_s: float | None = None, filter: bool = False) -> None:
        super().__init__(reason)
        self.final, self.pause_s, self.filter = final, pause_s, filter


def drawn(sampling: Sampling) -> dict[str, Any]:
    """Fields of a request's body for a way to draw.

    Raises:
        ValueError: beams, which this interface has no word for.
    """
    body: dict[str, Any] = {"max_tokens": sampling.max_tokens}
    if sampling.kind == "greedy":
        return body | {"temperature": 0.0}
    if sampling.kind == "beam":
        raise ValueError(
            "an OpenAI-compatible server has no common word for beams: say sampling nucleus, top_k or greedy, "
            'or what your server calls them in `extra` ({"use_beam_search": true} of vLLM)'
        )
    own = {"top_p": sampling.p} if sampling.kind == "nucleus" else {"top_k": sampling.k}
    return body | {"temperature": sampling.temperature} | own


def seed_of(seed: int, key: str) -> int:
    """The seed of one request, in [0, 2^31)."""
    return xxhash.xxh64_intdigest(f"{seed}:{key}".encode()) & 0x7FFFFFFF


def body_of(request: Request, common: Mapping[str, Any], seed: int) -> bytes:
    """The request as JSON; its image is read and encoded here, so only what is being sent holds one.

    Args:
        common: model, sampling and further fields; null leaves a field out.

    Raises:
        UnfitRequest: the image is of no kind that servers take.
    """
    content: Any = request.prompt
    if request.image is not None:
        picture = {"type": "image_url", "image_url": {"url": _data_url(request.image)}}
        content = [picture, {"type": "text", "text": request.prompt}]
    messages = [{"role": "user", "content": content}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    body = {"messages": messages, "stream": False, "seed": seed_of(seed, request.key)} | dict(common)
    return orjson.dumps({name: value for name, value in body.items() if value is not None})


def _data_url(image: bytes | Callable[[], bytes]) -> str:
    data = image if isinstance(image, bytes) else image()
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None or (kind == "webp" and data[8:12] != b"WEBP"):
        raise UnfitRequest("the image is no JPEG, PNG, GIF or WebP", again=False)
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def read_answer(status: int, headers: Mapping[str, str], body: bytes, now: float, key: str | None = None) -> Answer:
    """The answer of a server.

    Args:
        now: seconds since 1970. key: which no message may quote.

    Raises:
        SampleFault: malformed, empty, or refused for what this request is.
        ServiceFault: refused for what the server is, or how busy it is.
    """
    if status == 200:
        return _completion(body)
    said = f"HTTP {status}{_words(body, key)}"
    if status in _BUSY:
        raise ServiceFault(said, pause_s=retry_after(headers.get("Retry-After"), now))
    if status in _REFUSED or 300 <= status < 400:
        why = _REFUSED.get(status, "it is not at this address")
        raise ServiceFault(f"{said}; {why}", final=True, filter=status == 403)
    raise SampleFault(said, again=status >= 500 or status in (408, 409, 425))


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds that `Retry-After` asks for: a number of them or a date; None where it says nothing that can be read.

    Args:
        now: seconds since 1970.
    """
    if header is None:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(wait, 0.0), LONGEST_PAUSE_S) if wait == wait else None


def _completion(body: bytes) -> Answer:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        raise SampleFault(f"the answer is no JSON ({one_line(str(e))[:80]})") from None
    choices = said.get("choices") if isinstance(said, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    usage = said.get("usage") if isinstance(said, dict) else None
    prompt, completion = counted = (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
    message = choice.get("message") if isinstance(choice, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(choice, dict) or not isinstance(text, str):
        raise SampleFault("the answer has no choices[0].message.content", usage=counted)
    finish = choice.get("finish_reason")
    if finish == "content_filter":
        raise SampleFault("the server's content filter keeps the answer back", again=False, usage=counted)
    if not text.strip():
        raise SampleFault("the answer is empty", usage=counted)
    return Answer(text, None, finish if finish in ("stop", "length") else None, prompt, completion)


def _count(usage: Any, name: str) -> int | None:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if type(found) is int and 0 <= found < 2**31 else None


def _words(body: bytes, key: str | None) -> str:
    """What the server says of its refusal: ": <words>", or nothing. The key is taken out before anything is cut."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = (body.replace(key.encode(), b"***") if key else body)[: 4 * LONGEST_QUOTE].decode("utf-8", "replace")
    while isinstance(said, dict):
        said = next((said[key] for key in ("error", "message", "detail") if key in said), "")
    words = one_line(said if isinstance(said, str) else "")
    words = (words.replace(key, "***") if key else words)[:LONGEST_QUOTE]
    return f": {words}" if words else ""
