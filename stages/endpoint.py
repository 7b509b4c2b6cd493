"""What stages that ask an OpenAI-compatible server have in common: whom they ask, how, and what it costs.

    class Translated(OfEndpoint):
        def requests(self, batch): ...          # what to ask for each row
        def run(self, batch): answers = self.answers(batch); ...

Their answers are written once and never the same again. So the fingerprint covers what decides them (model, sampling,
the subclass's own parameters) and not where they come from: other urls, keys, rates or prices ask nothing anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages.base import Batch, Need, Stage
from stages.endpoint_client import Answer, Client, Options, Request, ServiceError, addresses
from stages.endpoint_wire import drawn
from training_smoke.sampling import Sampling

DAY_S = 86_400.0
AT_ONCE = 256  # samples of a worker that are under way: four parts of curate.run.reader.AFAR
MILLION = 1e6
NOT_ITS_WORDS = (
    "urls",
    "key_env",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "deadline_s",
    "tries",
    "patience_s",
    "give_up",
    "prompt_price",
    "completion_price",
)
"""Parameters that do not decide what is answered."""
_DRAWN_WITH = {"nucleus": {"p", "temperature"}, "top_k": {"k", "temperature"}, "greedy": set[str]()}


class OfEndpoint(Stage):
    """A stage whose values come from a server; sparse, since each costs.

    urls: servers of the same model, up to and with /v1. model: as they call it.
    key_env: name of the environment variable with the API key, which every worker must have.
    concurrency: requests of one worker in flight at one server, at most 256: no more samples are under way in a worker.
    requests_per_minute, tokens_per_minute: over all servers and all workers of a machine; tokens of prompt and answer.
    deadline_s: of one try; too late while the server is busy with others is no try, and fewer are sent there at once.
    tries: of one request, where it fails for a reason of its own.
    patience_s: without an answer from any server, before the run is given up, if a harmless question has none either.
    give_up: samples that fail in a row before it is; where they were refused, only if a harmless question is too.
    sampling: nucleus draws from the fewest tokens with `p` of the probability, top_k from the `k` likeliest (a field
        that vLLM and SGLang know, OpenAI does not), greedy takes the likeliest.
    p: of nucleus, above 0 to 1. k: of top_k. temperature: of draws.
    max_tokens: of an answer. seed: with uid and number of the answer it gives each request its own.
    extra: JSON, further fields of each request: '{"repetition_penalty": 1.1}'; null removes one of ours, also the seed.
    prompt_price, completion_price: of a million tokens, in any currency.
    """

    sparse: ClassVar[bool] = True
    ahead: ClassVar[bool] = True

    urls: tuple[str, ...]
    model: str
    key_env: str | None = Field(default=None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: int = Field(default=32, ge=1, json_schema_extra={"maximum": AT_ONCE})
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    deadline_s: float = Field(default=120.0, gt=0)
    tries: int = Field(default=4, ge=1, le=100)
    patience_s: float = Field(default=600.0, gt=0)
    give_up: int = Field(default=64, ge=1)
    sampling: Literal["nucleus", "top_k", "greedy"] = "nucleus"
    p: float = Field(default=0.9, gt=0, le=1)
    k: int = Field(default=50, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=77, ge=1)
    seed: int = 0
    extra: str = "{}"
    prompt_price: float = Field(default=0.0, ge=0)
    completion_price: float = Field(default=0.0, ge=0)
    _client: Client | None = PrivateAttr(default=None)
    _coming: WeakKeyDictionary[Batch, Future[list[Answer]]] | None = PrivateAttr(default=None)

    @field_validator("urls")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return addresses(value)

    @field_validator("concurrency")
    @classmethod
    def _reachable(cls, value: int) -> int:
        if value > AT_ONCE:
            raise ValueError(
                f"is at most {AT_ONCE}, since no more samples are under way in one worker: say {AT_ONCE}, and run with "
                "more workers (`--executor ray --workers 16`), each of which asks as many at once"
            )
        return value

    @field_validator("extra")
    @classmethod
    def _object(cls, value: str) -> str:
        try:
            found = json.loads(value)
        except json.JSONDecodeError as e:
            raise ValueError(f"is no JSON ({e}): write further fields as '{{\"name\": value}}'") from e
        given = {"messages", "model", "n", "seed", "stream"}
        if not isinstance(found, dict) or given & {name for name in found if name != "seed" or found[name] is not None}:
            raise ValueError("is a JSON object, without messages, model, n, seed and stream, which the stage gives")
        return json.dumps(found, sort_keys=True)

    @model_validator(mode="after")
    def _drawable(self) -> OfEndpoint:
        drawn(self.drawing())
        return self

    def drawing(self) -> Sampling:
        return Sampling(
            self.sampling,
            p=self.p,
            k=self.k,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )

    def identity(self) -> dict[str, Any]:
        """Without what does not decide the answers, such as the urls; what the draw has no use for is as by default."""
        found = super().identity()
        said = found["parameters"]
        for name in NOT_ITS_WORDS:
            del said[name]
        for name in {"p", "k", "temperature"} - _DRAWN_WITH[self.sampling]:
            said[name] = type(self).model_fields[name].default
        return found

    def need(self) -> Need:
        return Need(cpus=1, memory_gb=1, deadline_s=DAY_S)

    def open(self) -> None:
        """Begin to hold connections; asks nothing yet.

        Raises:
            ValueError: the key's variable is not set, or aiohttp is missing.
        """
        options = Options(
            self.key_env,
            self.concurrency,
            self.requests_per_minute,
            self.tokens_per_minute,
            self.deadline_s,
            self.tries,
            self.patience_s,
            self.give_up,
        )
        self._client = Client(self.urls, self.model, self.drawing(), options, json.loads(self.extra))
        self._coming = WeakKeyDictionary()

    def client(self) -> Client:
        """The client, made where it is not yet."""
        if self._client is None:
            self.open()
        assert self._client is not None
        return self._client

    def requests(self, batch: Batch) -> Sequence[Request]:
        """What is asked about a batch, in the order in which `answers` gives the answers."""
        raise NotImplementedError(f"{type(self).__name__}.requests")

    def prepare(self, batch: Batch) -> None:
        """Begin to ask, so that servers are busy while the batches before are written; not before `open()`."""
        client, coming = self._client, self._coming
        if client is not None and coming is not None:  # else it was closed by a failure, and nobody would take answers
            coming[batch] = client.submit(self.requests(batch))

    def answers(self, batch: Batch) -> list[Answer]:
        """Answers to `requests(batch)`, whether `prepare` has begun to ask or not.

        Raises:
            ServiceError: no server answers; then nothing of the batch is to be written.
        """
        client = self.client()
        coming = self._coming.pop(batch, None) if self._coming is not None else None
        try:
            return client.ask(self.requests(batch)) if coming is None else coming.result()
        except BaseException:  # batches that were begun would go on asking
            self._client, self._coming = None, None
            client.close()
            raise

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Of so many tokens; None where the server did not count them."""
        if prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / MILLION


__all__ = ["Answer", "OfEndpoint", "Request", "ServiceError"]
