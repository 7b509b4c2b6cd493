"""Tokens a second of the endpoint stage beside a bare asyncio client, over the same pictures and server.

    python bench/captions_endpoint.py [--quick]         # also a part of bench/captions.py

The server (bench/captions_server.py) has so many places and takes a set time for an answer, as one on a GPU does: what
counts is whether all of its places are kept busy. The bare client is a loop of `asyncio` and aiohttp over pictures that
lie in memory, at the best of several concurrencies; ours is `curate run` over a pool with the stage `endpoint_caption`:
pictures are read from their tar, answers checked, parts written. Rates are the server's own, from the first request to
the last answer; passes are alternated, medians count. Texts are asked for anew in each pass, by another seed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tarfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import orjson
from captions_server import Seen, Server
from common import WORK, Bar, at_least, bar, curate, finish, fresh, photos

PLACES, ANSWER_S = 64, 0.2
AT_ONCE = (32, 64, 96, 128)
PROMPT = "Describe the picture in one sentence."
RECIPE = """\
recipe: asked
pool: {pool}
shard_size: {rows}
source: {{path: {photos}, name: photos, url: null, image: image, text: caption}}
ingest: {{resize: short, side: 224}}
captions:
  make:
    - endpoint_caption: {{urls: ["{url}"], model: any, prompt: "{prompt}", concurrency: {at_once}, seed: {seed}}}
  emit:
    - texts: [{{source: caption}}]
"""


def measure(quick: bool) -> dict[str, Bar]:
    """quick: fewer pictures, one pass."""
    rows, passes = (768, 1) if quick else (6000, 5)
    folder = fresh("captions-endpoint")
    with Server(PLACES, ANSWER_S) as server:
        ours_of(server, folder, rows, PLACES, seed=-1)  # the pool is made, and the interpreter's caches are warm
        pictures = stored(folder / "pool")
        best = max(AT_ONCE, key=lambda n: bare_of(server, pictures[: rows // 2], n).rate)
        found: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(passes):
            found["bare"].append(bare_of(server, pictures, best).rate)
            seen = ours_of(server, folder, rows, best, number)
            found["ours"].append(seen.rate)
            print(f"{number}: bare {found['bare'][-1]:.0f}, ours {seen.rate:.0f} tokens/s; {seen}", flush=True)
    ours, bare = (statistics.median(found[name]) for name in ("ours", "bare"))
    print(f"bare at its best, {best} at once: {bare:.0f} tokens/s; ours {ours:.0f}")
    return {
        "endpoint_tokens_per_s": bar(round(ours), None, None),
        "bare_tokens_per_s": bar(round(bare), None, None),
        "endpoint_over_bare_client": bar(round(ours / bare, 3), 0.95, None) if quick else at_least(ours / bare, 0.95),
    }


def ours_of(server: Server, folder: Path, rows: int, at_once: int, seed: int) -> Seen:
    """What the server saw of one `curate run`.

    Raises:
        RuntimeError: it asked for more or fewer pictures than there are.
    """
    recipe = folder / "recipe.yaml"
    about = {"pool": folder / "pool", "rows": rows, "photos": photos(rows), "url": server.url, "at_once": at_once}
    recipe.write_text(RECIPE.format(**about, prompt=PROMPT, seed=seed))
    server.seen()
    curate("run", str(recipe), "--executor", "inline", "--quiet")
    seen = server.seen()
    if seen.requests != rows:
        raise RuntimeError(f"{seen.requests} requests for {rows} pictures")
    return seen


def bare_of(server: Server, pictures: Sequence[bytes], at_once: int) -> Seen:
    """What it saw of the bare client."""
    server.seen()
    asyncio.run(asked(server.url, pictures, at_once))
    return server.seen()


async def asked(url: str, pictures: Sequence[bytes], at_once: int) -> int:
    """Ask about each picture, so many at once; tokens of all answers."""
    import aiohttp

    numbers, tokens = iter(range(len(pictures))), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            nonlocal tokens
            for number in numbers:
                data = f"data:image/jpeg;base64,{b64encode(pictures[number]).decode()}"
                content = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": PROMPT}]
                body = {"model": "any", "messages": [{"role": "user", "content": content}], "max_tokens": 77}
                async with session.post(f"{url}/chat/completions", data=orjson.dumps(body)) as answer:
                    tokens += orjson.loads(await answer.read())["usage"]["completion_tokens"]

        await asyncio.gather(*(work() for _ in range(at_once)))
    return tokens


def stored(pool: Path) -> list[bytes]:
    """The pictures of a pool as they are stored."""
    found = []
    for path in sorted((pool / "pixels").glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [file.read() for member in tar if (file := tar.extractfile(member)) is not None]
    return found


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
