"""A pack read by others with their default settings: webdataset, Hugging Face datasets, open_clip's training loader.

open_clip's loader needs sizes.json and webdataset 0.2.86; it gets an environment of its own under the bench folder.
Each reader must give every sample of the pack once, with its own caption.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from common import WORK, Bar, bar, curate, fresh, photos

RECIPE = """recipe: readers
pool: {pool}
shard_size: 500
source: {{path: {photos}, text: caption, url: null}}
ingest: {{resize: long, side: 128}}
filters:
  - image_size: {{min_side: 16}}
pack: {{samples: 200}}
"""

OPEN_CLIP = """
import json, sys
from collections import Counter
from types import SimpleNamespace
import open_clip, torch, webdataset
from open_clip_train.data import get_wds_dataset
from torchvision.transforms import Compose, Resize, CenterCrop, ToTensor

folder, files = sys.argv[1], int(sys.argv[2])
args = SimpleNamespace(
    train_data=f"{folder}/{{00000000..{files - 1:08d}}}.tar", train_num_samples=None, dataset_resampled=False,
    train_data_upsampling_factors=None, seed=0, batch_size=1, workers=1, world_size=1,
)
tokenizer = open_clip.get_tokenizer("ViT-B-32")
data = get_wds_dataset(args, Compose([Resize(64), CenterCrop(64), ToTensor()]), True, tokenizer=tokenizer)
seen = Counter(tuple(tokens[0].tolist()) for _, tokens in data.dataloader)
texts = Counter(tuple(tokenizer(t)[0].tolist()) for t in json.load(open(sys.argv[3])))
print(json.dumps({
    "samples": seen.total(), "num_samples": data.dataloader.num_samples, "same": seen == texts,
    "versions": f"open_clip {open_clip.__version__}, webdataset {webdataset.__version__}, torch {torch.__version__}",
}))
"""


def make_pack(rows: int) -> Path:
    folder = fresh("readers")
    recipe = folder / "readers.yaml"
    recipe.write_text(RECIPE.format(pool=folder / "pool", photos=photos(rows)))
    curate("run", str(recipe), "--executor", "inline", "--no-report")
    (pack,) = (folder / "pool" / "packs").iterdir()
    return pack


def by_webdataset(pack: Path) -> Counter[str]:
    import webdataset

    urls = [str(p) for p in sorted(pack.glob("*.tar"))]
    found = webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("jpg", "txt")
    return Counter(text for image, text in found if image.size[0] > 0)


def by_datasets(pack: Path) -> Counter[str]:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(WORK / "hf")}
    import datasets

    files = [str(p) for p in sorted(pack.glob("*.tar"))]
    found = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(WORK / "hf-cache"))
    return Counter(row["txt"] for row in found if row["jpg"].size[0] > 0)


def by_open_clip(pack: Path, texts: list[str]) -> dict[str, object]:
    home = WORK / "openclip"
    python = home / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
        wanted = ["open_clip_torch[training]", "webdataset==0.2.86"]
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *wanted], check=True)
    expected = WORK / "texts.json"
    expected.write_text(json.dumps(texts))
    files = len(list(pack.glob("*.tar")))
    command = [str(python), "-c", OPEN_CLIP, str(pack), str(files), str(expected)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=WORK)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(quick: bool) -> dict[str, Bar]:
    pack = make_pack(400 if quick else 1500)
    sizes = json.loads((pack / "sizes.json").read_text())
    texts = pack_texts(pack)
    assert sum(sizes.values()) == len(texts)
    bars = {
        "pack_read_by_webdataset": _all_once(by_webdataset(pack), texts),
        "pack_read_by_datasets": _all_once(by_datasets(pack), texts),
    }
    if quick and not (WORK / "openclip").exists():
        return bars | {"pack_read_by_open_clip": bar(None, len(texts), None)}
    found = by_open_clip(pack, texts)
    print(f"open_clip's loader: {found}")
    ok = found["same"] is True and found["num_samples"] == len(texts)
    return bars | {"pack_read_by_open_clip": bar(found["samples"], len(texts), ok)}


def pack_texts(pack: Path) -> list[str]:
    """Every .txt of the pack, by Python's own tarfile."""
    import tarfile

    texts = []
    for path in sorted(pack.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".txt"):
                    data = tar.extractfile(member)
                    assert data is not None
                    texts.append(data.read().decode())
    return texts


def _all_once(found: Counter[str], texts: list[str]) -> Bar:
    return bar(found.total(), len(texts), found == Counter(texts))


if __name__ == "__main__":
    print(measure("--quick" in sys.argv))
