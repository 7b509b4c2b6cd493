"""`ingest:` of a recipe: how images are fetched, and in what form they are stored."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from curate.errors import UserError
from stages.decode import MAX_PIXELS, PILLOW_PIXELS, StoredFormat
from stages.resize import Resize

PIXEL_SETTINGS = ("resize", "side", "only_if_bigger", "format", "quality", "min_side", "max_pixels", "decode", "phash")

Manner = Literal["robots", "x_robots_tag", "tdm", "host_limits"]
DIRECTIVES = ("noai", "noimageai", "noml")


class IngestSpec(BaseModel):
    """Two kinds of settings: of pixels (`pixels()`: one pool, one answer) and of manners on the web.

    resize: none keeps the bytes as received (formats that packs do not hold, as gif, become png); short and long
    bring that side to `side`; border pads to a white square; crop cuts the central square.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # pixels: they stand in pool.json, and a recipe with others is refused
    resize: Resize = "long"
    side: PositiveInt = Field(512, le=16_383, description="pixels; what the side becomes")
    only_if_bigger: bool = Field(True, description="never enlarge")
    format: StoredFormat | None = Field("jpg", description="null: as received (the default with resize: none)")
    quality: int = Field(95, ge=1, le=100, description="of jpg and webp")
    min_side: PositiveInt = Field(1, description="pixels as received; a shorter side is outcome too_small")
    max_pixels: PositiveInt = Field(MAX_PIXELS, le=PILLOW_PIXELS, description="more is outcome bomb, not decoded")
    decode: Literal["full", "scaled", "header"] = Field(
        "full",
        description="scaled: JPEGs straight to about the wanted size, faster, pixels differ; header: only with "
        "resize: none, nothing is decoded, so no pHash",
    )

    phash: bool = Field(
        True, description="hash the received picture (phash64, phash256): what near-duplicates are found by"
    )

    # manners: they may change from run to run
    max_bytes: PositiveInt = Field(20_000_000, description="of one image, also after decompression")
    timeout_s: PositiveFloat = Field(20.0, description="for one URL, with its redirects")
    connect_timeout_s: PositiveFloat = Field(10.0, description="for a name, and again for connection and TLS together")
    idle_timeout_s: PositiveFloat = Field(10.0, description="without a byte")
    shard_deadline_s: PositiveFloat = Field(3600.0, description="URLs unfinished by then are given up")
    concurrency: PositiveInt = Field(512, le=4096, description="URLs at a time in one worker")
    max_redirects: int = Field(5, ge=0, le=20, description="of one URL")
    decoders: PositiveInt | None = Field(
        None, le=256, description="processes that decode for a worker; default: a core each, where only one works"
    )
    decode_timeout_s: PositiveFloat = Field(20.0, description="for one image; then its decoder is ended")
    decode_memory_gb: PositiveFloat = Field(4.0, description="of one decoder; an image that needs more is broken")
    per_host: PositiveInt = Field(4, description="URLs of one host at a time, over all workers")
    host_rate: PositiveFloat | None = Field(
        10.0, description="requests a second to one host, over all workers; null: as many as it answers"
    )
    robots_ttl_s: PositiveFloat = Field(86_400.0, description="how long an answer about robots.txt holds")
    directives: tuple[str, ...] = Field(
        DIRECTIVES, description="of X-Robots-Tag, that refuse; noindex and others can be added"
    )
    ignore: tuple[Manner, ...] = Field((), description="manners turned off, by name; packs say so")
    refuse_domains: tuple[str, ...] = Field(
        (), description="files with a domain a line, left out with their subdomains"
    )
    refuse_urls: tuple[str, ...] = Field((), description="files with a URL a line, left out")
    refuse_hashes: tuple[str, ...] = Field((), description="files with a sha256 (hex) of image bytes a line, left out")
    attempts: PositiveInt = Field(4, le=100, description="at one URL, over all runs with --retry")
    retry_backoff_s: PositiveFloat = Field(
        600.0, description="before a second attempt; four times as long before each further one"
    )
    contact: str | None = Field(None, description="a URL or mail address where site owners reach you")
    user_agent: str | None = Field(None, description="instead of curate/<version> (+<contact>)")
    allow_loopback: bool = Field(False, description="fetch from this machine itself: tests and demonstrations")
    backend: Literal["curate", "img2dataset"] = Field(
        "curate", description="what fetches; img2dataset has fewer manners"
    )
    img2dataset_python: str | None = Field(
        None, description="of the environment that has img2dataset; needed with that backend"
    )

    @model_validator(mode="before")
    @classmethod
    def _bytes_are_kept_whole(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("resize") == "none":
            return {"format": None, **values}
        return values

    @model_validator(mode="after")
    def _settings_fit(self) -> IngestSpec:
        if self.decode == "header" and (self.resize != "none" or self.format is not None):
            raise ValueError("decode: header needs resize: none and format: null, as nothing is decoded")
        if self.backend == "img2dataset" and not self.img2dataset_python:
            raise ValueError("backend: img2dataset needs img2dataset_python, the python of the environment that has it")
        return self

    @model_validator(mode="after")
    def _agent_is_one_header_line(self) -> IngestSpec:
        for name in ("contact", "user_agent"):
            value = getattr(self, name)
            if value is not None and not (value.strip() and value.isascii() and value.isprintable()):
                raise ValueError(f"{name} must be printable ASCII: it is sent in a header")
        return self

    def pixels(self) -> dict[str, Any]:
        """The settings that decide stored bytes, as JSON values: the pool's."""
        return {name: getattr(self, name) for name in PIXEL_SETTINGS}

    def manners(self) -> dict[str, Any]:
        """How owners' wishes were kept, as JSON values: what a pack says of its images."""
        names = ("backend", "per_host", "host_rate", "directives", "refuse_domains", "refuse_urls", "refuse_hashes")
        said = {name: getattr(self, name) for name in names}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in said.items()} | {
            "agent": self.agent(),
            "ignored": sorted(set(self.ignore)),
        }

    def agent(self) -> str:
        """The User-Agent header. Without a contact it names none, and only loopback may be fetched with it."""
        contact = f" (+{self.contact})" if self.contact else ""
        return (self.user_agent or f"curate/{version('curate')}") + contact

    def check_contact(self) -> None:
        """Refuse to go out on the web without saying who asks.

        Raises:
            UserError: no contact, and loopback is not all there is to fetch.
        """
        if self.contact is None and not self.allow_loopback:
            raise UserError(
                "ingest.contact is missing: site owners must be able to reach whoever fetches their images. "
                "Give a URL or a mail address, as `contact: https://example.org/our-crawler` under `ingest:`"
            )
