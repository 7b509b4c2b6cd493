"""Published image models by name: what kind of file they come as, how pictures are cut for them, how long vectors are.

look = PRESETS["sscd_disc_mixup"]
look.size, look.resize, look.dim            # 288, "shorter", 512

Sources, as read: SSCD (Pizzi et al. 2022) the README of facebookresearch/sscd-copy-detection (`small_288`, `skew_320`);
ISC (Yokoo 2021) isc_feature_extractor/model.py of lyakaap/ISC21-Descriptor-Track-1st, which DataComp's
dataset2metadata calls; DINOv2 (Oquab et al. 2023) dinov2/data/transforms.py (`make_classification_eval_transform`).
Weights of SSCD are CC-BY-NC.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from stages.image_cut import Cut, Resize

Kind = Literal["torchscript", "isc", "timm", "transformers"]
Three = tuple[float, float, float]

IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)
HALF: Three = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Look:
    """How a model looks at a picture.

    kind: of file. size, resize, shorter, interpolation: see `stages.image_cut.Cut`. mean, std: of RGB in 0..1, what is
    taken off and divided by. name: begins the column's name. dim: length of the vectors; None: the model says it.
    where: where the weights are to be had.
    """

    kind: Kind
    size: int
    resize: Resize
    mean: Three = IMAGENET_MEAN
    std: Three = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    shorter: int | None = None
    name: str = "embedding"
    dim: int | None = None
    where: str = ""

    def cut(self) -> Cut:
        return Cut(self.size, self.resize, self.shorter, self.interpolation == "bilinear")

    def having(self, given: dict[str, Any]) -> Look:
        """This, with what a user gave in place of what is here."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return Look(**(mine | given))


_SSCD = "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt"
_ISC = "https://github.com/lyakaap/ISC21-Descriptor-Track-1st/releases/download/v1.0.1/isc_ft_v107.pth.tar"

PRESETS: dict[str, Look] = {
    "sscd_disc_mixup": Look("torchscript", 288, "shorter", name="sscd", dim=512, where=_SSCD),
    "sscd_disc_mixup_320": Look("torchscript", 320, "squash", name="sscd", dim=512, where=_SSCD),
    "isc_ft_v107": Look("isc", 512, "squash", HALF, HALF, name="isc", dim=256, where=_ISC),
    "dinov2": Look(
        "transformers", 224, "crop", interpolation="bicubic", shorter=256, name="dinov2", where="facebook/dinov2-large"
    ),
    "dinov2_timm": Look(
        "timm",
        224,
        "crop",
        interpolation="bicubic",
        shorter=256,
        name="dinov2",
        where="timm/vit_large_patch14_dinov2.lvd142m",
    ),
}
