"""An OpenAI-compatible server on loopback over a small causal model, with switches for what goes wrong.

    with OpenAiServer() as server:                      # in a thread; a parrot of words where no model is named
        server.faults += ["429", "malformed"]           # of the next two requests
        server.poison["broken"] = "500"                 # of every request whose prompt has that word
        Client([server.url], "tiny").ask(...)
    python tests/openai_server.py --port 8123 --model models/tiny       # a process, to be killed

The model is any causal one of transformers with its tokenizer; a picture's mean colour is written before the prompt, so
that answers depend on it. `transformers serve` needs fastapi, which nothing here installs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = ("a", "red", "green", "small", "old", "bicycle", "dog", "house", "on", "near", "under", "the", "street", "tree")
Talk = Callable[[dict[str, Any]], tuple[str, int, int]]  # a request's body -> text, tokens of prompt and answer


@dataclass
class Seen:
    """One request as it came."""

    body: dict[str, Any]
    key: str | None
    at: float

    @property
    def prompt(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else next(p["text"] for p in content if p["type"] == "text")

    @property
    def image(self) -> bytes | None:
        return picture(self.body)


def picture(body: dict[str, Any]) -> bytes | None:
    """The first picture of a request: of its data URL."""
    content = body["messages"][-1]["content"]
    for part in content if isinstance(content, list) else []:
        if part["type"] == "image_url":
            return base64.b64decode(part["image_url"]["url"].partition(",")[2], validate=True)
    return None


@dataclass
class OpenAiServer:
    """faults: of the next requests, one each. poison: word of a prompt -> fault, always.

    "429" (with `retry_after`), "400", "401", "403", "404", "500", "503", "slow" (`slow_s`), "malformed", "deep",
    "truncated", "huge", "empty", "nothing" (no choices), "filtered", "no_usage", "drop" (closes without an answer),
    "long" (says that it was cut), "echo" (repeats the key).
    delay_s: of each answer. slots: answers that are made at once; further requests wait. log: a file to which each
    request adds its fault and its prompt.
    """

    talk: Talk | None = None
    delay_s: float = 0.0
    slots: int = 1000
    log: Path | None = None
    retry_after: str = "0.2"
    slow_s: float = 5.0
    faults: list[str] = field(default_factory=list)
    poison: dict[str, str] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    flying: int = 0
    most_flying: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> OpenAiServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.add_routes([web.post("/v1/chat/completions", self._complete), web.get("/v1/models", self._models)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._slot = asyncio.Semaphore(self.slots)

    async def _stop(self) -> None:
        """Without waiting for answers that are slow."""
        await self._runner.cleanup()
        slow = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "tiny", "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(await request.json(), request.headers.get("Authorization"), time.monotonic())
        self.seen.append(seen)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            fault = next((f for word, f in self.poison.items() if word in seen.prompt), None)
            fault = fault or (self.faults.pop(0) if self.faults else None)
            self._note(fault, seen)
            return await self._answer(request, seen, fault)
        finally:
            self.flying -= 1

    def _note(self, fault: str | None, seen: Seen) -> None:
        if self.log is not None:
            with self.log.open("a") as out:
                out.write(json.dumps([fault or "", seen.prompt]) + "\n")

    async def _answer(self, request: web.Request, seen: Seen, fault: str | None) -> web.StreamResponse:
        if fault in ("429", "503", "400", "401", "403", "404", "500"):
            headers = {"Retry-After": self.retry_after} if fault == "429" and self.retry_after else {}
            words = {"error": {"message": f"no <b>{fault}</b> today, {seen.key}", "code": int(fault)}}
            return web.json_response(words, status=int(fault), headers=headers)
        if fault == "slow":
            await asyncio.sleep(self.slow_s)
        if fault in ("drop", "truncated", "huge"):
            return await self._broken(request, fault)
        if fault in ("malformed", "deep"):
            return web.Response(body=b'{"choices": [{' if fault == "malformed" else b"[" * 100_000)
        async with self._slot:
            await asyncio.sleep(self.delay_s)
            text, prompt_tokens, tokens = await asyncio.to_thread(self.talk or parrot, seen.body)
        text = {"empty": " \n", "echo": f"the key is {seen.key}"}.get(fault or "", text)
        said: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "model": seen.body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": tokens,
                "total_tokens": prompt_tokens + tokens,
            },
        }
        if fault == "nothing":
            said["choices"] = []
        if fault == "no_usage":
            del said["usage"]
        if fault in ("filtered", "long"):
            said["choices"][0]["finish_reason"] = "content_filter" if fault == "filtered" else "length"
        return web.json_response(said)

    async def _broken(self, request: web.Request, fault: str) -> web.StreamResponse:
        assert request.transport is not None
        if fault == "drop":
            request.transport.close()
            return web.Response()
        response = web.StreamResponse(headers={"Content-Length": "1000"} if fault == "truncated" else {})
        await response.prepare(request)
        if fault == "truncated":
            await response.write(b'{"choices": [{"message": {"content": "a dog')
            request.transport.close()
            return response
        with contextlib.suppress(ConnectionError):  # the client has seen enough
            for _ in range(64):
                await response.write(b" " * (1 << 20))
        return response


def parrot(body: dict[str, Any]) -> tuple[str, int, int]:
    """Words that depend on the prompt, the picture and, above temperature 0, the seed."""
    seed = body.get("seed") if body.get("temperature") else 0
    asked = json.dumps(body["messages"]) + str(seed)
    digest = hashlib.sha256(asked.encode()).digest()
    words = [WORDS[byte % len(WORDS)] for byte in digest[: min(12, body["max_tokens"])]]
    return " ".join(words), len(str(body["messages"][-1]["content"])[:2000].split()), len(words)


def speaker(folder: str) -> Talk:
    """A causal model of transformers that goes on with what it is given, seeded by the request."""
    import torch
    import transformers

    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    places = model.config.max_position_embeddings
    lock = threading.Lock()

    def talk(body: dict[str, Any]) -> tuple[str, int, int]:
        seen = Seen(body, None, 0.0)
        words = f"{_colour(seen.image)}{seen.prompt}"
        most = min(body["max_tokens"], places // 2)
        ids = tokenizer(words, return_tensors="pt", add_special_tokens=False)["input_ids"][:, -(places - most) :]
        draw = body.get("temperature", 1.0) > 0
        with lock, torch.inference_mode():
            torch.manual_seed(body.get("seed", 0))
            further = {"top_p": body.get("top_p", 1.0), "top_k": body.get("top_k", 0)} if draw else {}
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=draw, max_new_tokens=most, pad_token_id=0, **further
            )
        new = found[0, ids.shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True) or "nothing", ids.shape[1], len(new)

    return talk


def _colour(image: bytes | None) -> str:
    if image is None:
        return ""
    from PIL import Image

    with Image.open(io.BytesIO(image)) as opened:
        return "#{:02x}{:02x}{:02x} ".format(*opened.convert("RGB").resize((1, 1)).getpixel((0, 0)))


def started(*arguments: str, port: int = 0) -> tuple[subprocess.Popen[bytes], int]:
    """A server as a process of its own, once it listens, and its port."""
    command = [sys.executable, str(Path(__file__).resolve()), "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the server did not start: exit status {process.wait()}"
    return process, int(line)


async def _serve(server: OpenAiServer) -> None:
    await server.start()
    print(server.port, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", help="folder of a causal model; without it, a parrot")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds of each answer")
    parser.add_argument("--slots", type=int, default=1000, help="answers made at once")
    parser.add_argument("--faults", default="", help="of the first requests, by commas; nothing: none")
    parser.add_argument("--log", type=Path, help="file for faults and prompts")
    said = parser.parse_args()
    talk = speaker(said.model) if said.model else None
    faults = said.faults.split(",") if said.faults else []
    asyncio.run(_serve(OpenAiServer(talk, said.delay, said.slots, said.log, faults=faults, port=said.port)))


if __name__ == "__main__":
    main()
