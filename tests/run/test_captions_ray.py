"""Real captioners and filters in Ray's workers: what travels there works, and writes what it writes here."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: no server is asked")

from openai_server import OpenAiServer
from run.caption_parts import captioned

from tests.stages import captioner_parts as parts

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from jobs import differences, snapshot

parts.packages()

YAML = """\
columns:
  - threshold: {{column: width, fraction: 0.5, over: pool, name: s}}
captions:
  make:
    - caption: {{weights: "{captioner}", name: two, max_tokens: 6, batch: 4, n: 2, sampling: nucleus}}
    - endpoint_caption: {{urls: ["{url}"], model: any, prompt: "Describe it: {{text}}", name: far}}
    - image_text_match: {{weights: "{filter}", name: itm, also: [two, far], batch: 8}}
  emit:
    - texts: [{{source: web, p: 0.5}}, {{source: two, p: 0.5, where: "itm * s >= 0"}}, {{source: far, p: 0.5}}]
    - texts: [{{source: two, each: true}}]
      where: "list_max(two_itm) <= itm"
pack: {{samples: 4}}
"""


@pytest.mark.usefixtures("ray_session")
def test_ray_gives_the_same_files(tmp_path: Path) -> None:
    weights = {"captioner": parts.blip(tmp_path), "filter": parts.judge_blip_file(tmp_path / "blip.pt")}
    files = {}
    with OpenAiServer() as server:
        for name in ("inline", "ray"):
            (tmp_path / name).mkdir()
            case = captioned(tmp_path / name, [f"a picture of {i} dogs" for i in range(6)])
            case.executor = name
            case.pack(YAML.format(**weights, url=server.url))
            files[name] = snapshot(Path(case.url))
    said = [t for p in (tmp_path / "ray").rglob("columns/*/*.parquet") for t in pq.read_table(p).column_names]
    assert {"two", "far", "itm", "two_itm", "far_itm"} <= set(said)
    assert differences(files["inline"], files["ray"]) == []
