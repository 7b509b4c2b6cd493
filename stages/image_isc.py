"""The network of ISC21's descriptor track (Yokoo 2021): a backbone of timm, its mean over places, 256 numbers.

    net = isc_net("tf_efficientnetv2_m_in21ft1k", state)
    net(pictures)                       # (n, 3, 512, 512) -> (n, 256); their length is made one by who asks

Followed: isc_feature_extractor/model.py of lyakaap/ISC21-Descriptor-Track-1st: generalised mean pooling with power 1 of
values clamped to 1e-6 and above, a linear layer without bias, batch normalisation. A module of its own since torch is
imported by it.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

DIM = 256
LEAST = 1e-6


class IscNet(nn.Module):
    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.feature_info.info[-1]["num_chs"], DIM, bias=False)
        self.bn = nn.BatchNorm1d(DIM)

    def forward(self, pictures: Tensor) -> Tensor:
        seen: Tensor = self.backbone(pictures)[-1]
        pooled = seen.clamp(min=LEAST).mean(dim=(-2, -1))
        described: Tensor = self.bn(self.fc(pooled))
        return described


def isc_net(arch: str, state: dict[str, Tensor]) -> IscNet:
    """The network with these weights.

    Args:
        arch: a name of timm's, as the checkpoint has it.

    Raises:
        ValueError: the weights do not fill it. RuntimeError: they are of other shapes.
    """
    import timm

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mapping deprecated model name", UserWarning)  # that of the checkpoint
        net = IscNet(timm.create_model(arch, pretrained=False, features_only=True))
    if lost := net.load_state_dict(state, strict=False).missing_keys:
        raise ValueError(f"they are not of {arch}: they lack {', '.join(lost[:3])}")
    return net
