"""The Lorentz model of hyperbolic space, as MERU and HYPE use it: points, distances, cones.

    points = expm0(tangent, curvature)                  # [n, dim] -> [n, dim]: space components
    distances(points, others, curvature)                # [n, dim], [m, dim] -> [n, m]
    beyond_cone(texts, images, curvature)               # [n]: how far each image lies outside the cone of its text

Space of curvature -c is the upper sheet of the hyperboloid <x, x> = -1/c, where <x, y> = x . y - x_t y_t. A point is
given by its space components x alone; its time component is x_t = sqrt(1/c + |x|^2). A vector v in the tangent space at
the origin has space components only. What generalises lies near the origin: behind each point x opens a cone of
half-aperture asin(2K / (sqrt(c) |x|)), and what lies within it is a case of x (Ganea et al. 2018, arXiv:1804.01882,
section 3; Le et al. 2019, arXiv:1902.00913). Formulas as in MERU (Desai et al. 2023, arXiv:2304.09172, section 3).

Computed in the type that comes in, distances in float64 (they are small differences of large numbers: in float32 those
of two near points five from the origin were noise); nothing becomes NaN for tangent vectors of length 1e4. Functions
named in the plural are of all pairs, [n, dim], [m, dim] -> [n, m]; the others go row by row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_RADIUS = 0.1
"""K: within 2K / sqrt(c) of the origin a cone is half of the space."""

FARTHEST = math.asinh(2.0**15)
"""Points are no farther from the origin than this, over sqrt(c): farther ones float32 could not square."""

NEAREST = 1e-8  # lengths below are not divided by


def expm0(tangent: Tensor, curvature: Tensor | float) -> Tensor:
    """The point that one reaches from the origin along a tangent vector: the exponential map there.

        x = sinh(r) v / r,    r = sqrt(c) |v|

    Args:
        tangent: [..., dim]. curvature: c > 0, a scalar.

    Returns:
        [..., dim], of length sinh(r) / sqrt(c); at most 2^15 / sqrt(c).

    >>> expm0(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64), 1.0)[:, :2].round(decimals=4).tolist()
    [[1.1752, 0.0], [0.0, 3.6269]]
    """
    r = _root(curvature) * _length(tangent)  # [..., 1]
    return tangent * (r.clamp(NEAREST, FARTHEST).sinh() / r.clamp(min=NEAREST))


def logm0(points: Tensor, curvature: Tensor | float) -> Tensor:
    """The tangent vector at the origin that leads to a point: the inverse of `expm0`.

    >>> logm0(torch.tensor([[3.6268604078470186, 0.0]], dtype=torch.float64), 1.0).tolist()
    [[2.0, 0.0]]
    """
    length = _root(curvature) * _length(points)
    return points * (length.asinh().clamp(min=NEAREST) / length.clamp(min=NEAREST))


def time(points: Tensor, curvature: Tensor | float) -> Tensor:
    """x_t = sqrt(1/c + |x|^2): [..., dim] -> [...]."""
    return (1 / curvature + points.square().sum(-1)).sqrt()


def inner(x: Tensor, y: Tensor, curvature: Tensor | float) -> Tensor:
    """<x, y> = x . y - x_t y_t, row by row: at most -1/c. Pairs rank by it as by minus their distance.

    >>> a, b = expm0(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64), 1.0)
    >>> round(inner(a, b, 1.0).item(), 4)                       # -cosh(1) cosh(2): the directions are orthogonal
    -5.8054
    """
    return (x * y).sum(-1) - time(x, curvature) * time(y, curvature)


def inners(x: Tensor, y: Tensor, curvature: Tensor | float) -> Tensor:
    """<x, y> of all pairs: [n, dim], [m, dim] -> [n, m]."""
    return x @ y.T - torch.outer(time(x, curvature), time(y, curvature))


def distance(x: Tensor, y: Tensor, curvature: Tensor | float) -> Tensor:
    """acosh(-c <x, y>) / sqrt(c), row by row: [..., dim], [..., dim] -> [...].

    >>> a, b, other = expm0(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64), 1.0)
    >>> round(distance(a, b, 1.0).item(), 5), round(distance(a, other, 1.0).item(), 5), distance(a, a, 1.0).item()
    (1.0, 2.44443, 0.0)
    """
    given, (x, y) = x.dtype, (x.double(), y.double())
    apart = (x - y).square().sum(-1) - (time(x, curvature) - time(y, curvature)).square()
    return (_arc(curvature * apart / 2, 1.0) / _root(curvature)).to(given)


def distances(x: Tensor, y: Tensor, curvature: Tensor | float) -> Tensor:
    """`distance` of all pairs: [n, dim], [m, dim] -> [n, m]. Gradients are finite where points coincide, and 0."""
    given, (x, y) = x.dtype, (x.double(), y.double())
    # sqrt(c) x_t = 1 + a, with a known to all digits near the origin too, where 1 would swallow it.
    a, b = (curvature * p.square().sum(-1) / (_root(curvature) * time(p, curvature) + 1) for p in (x, y))
    times = torch.outer(1 + a, 1 + b)
    excess = a[:, None] + b + torch.outer(a, b) - curvature * (x @ y.T)  # -c <x, y> - 1
    return (_arc(excess, times.detach()) / _root(curvature)).to(given)


def aperture(points: Tensor, curvature: Tensor | float, min_radius: float = MIN_RADIUS) -> Tensor:
    """Half-aperture of the cone behind each point, asin(2K / (sqrt(c) |x|)): [..., dim] -> [...], in (0, pi/2].

    >>> at = expm0(torch.tensor([[1.0, 0.0], [0.01, 0.0]], dtype=torch.float64), 1.0)
    >>> [round(angle, 5) for angle in aperture(at, 1.0).tolist()]
    [0.17102, 1.5708]
    """
    sine = 2 * min_radius / (_root(curvature) * _length(points).squeeze(-1)).clamp(min=NEAREST)
    narrow = sine < 1  # elsewhere the cone is half of the space; the slope of asin at 1 is infinite
    return torch.where(narrow, torch.where(narrow, sine, 0).asin(), math.pi / 2)


def exterior_angle(x: Tensor, y: Tensor, curvature: Tensor | float) -> Tensor:
    """The angle at x between the way on from the origin and the way to y, row by row: in [0, pi].

    MERU gives its cosine, (y_t + c x_t <x, y>) / (|x| sqrt((c <x, y>)^2 - 1)). This is the same angle from sine and
    cosine both, so that it is 0 where y lies straight behind x, and not the 1.4e-4 that a clamped acos has.

    >>> a, b = expm0(torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64), 1.0)
    >>> exterior_angle(a, b, 1.0).item(), round(exterior_angle(b, a, 1.0).item(), 5)
    (0.0, 3.14159)
    """
    onward = x / _length(x).clamp(min=NEAREST)
    along = (y * onward).sum(-1)
    aside = _length(y - along.unsqueeze(-1) * onward).squeeze(-1)
    return _angle(x, y, along, aside, time(x, curvature), time(y, curvature), curvature)


def exterior_angles(x: Tensor, y: Tensor, curvature: Tensor | float) -> Tensor:
    """`exterior_angle` at each x of each y: [n, dim], [m, dim] -> [n, m]."""
    along = x / _length(x).clamp(min=NEAREST) @ y.T
    # Of [n, m, dim] there would be too much: Pythagoras, which for y straight behind x is off by sqrt(eps).
    square = y.square().sum(-1) - along.square()
    aside = torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)  # without a slope where it is 0
    return _angle(x[:, None], y, along, aside, time(x, curvature)[:, None], time(y, curvature), curvature)


def beyond_cone(x: Tensor, y: Tensor, curvature: Tensor | float, min_radius: float = MIN_RADIUS) -> Tensor:
    """xi(x, y) = exterior_angle(x, y) - aperture(x), row by row: above 0 where y lies outside of the cone of x.

    >>> a, b, other = expm0(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64), 1.0)
    >>> [round(beyond_cone(x, y, 1.0).item(), 4) for x, y in ((a, b), (b, a), (a, other))]
    [-0.171, 3.0864, 2.2836]
    """
    return exterior_angle(x, y, curvature) - aperture(x, curvature, min_radius)


def beyond_cones(x: Tensor, y: Tensor, curvature: Tensor | float, min_radius: float = MIN_RADIUS) -> Tensor:
    """`beyond_cone` of each x and each y: [n, dim], [m, dim] -> [n, m]."""
    return exterior_angles(x, y, curvature) - aperture(x, curvature, min_radius)[:, None]


def _root(curvature: Tensor | float) -> Tensor | float:
    return curvature.sqrt() if isinstance(curvature, Tensor) else math.sqrt(curvature)


def _length(x: Tensor) -> Tensor:
    """[..., dim] -> [..., 1]"""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _arc(excess: Tensor, of: Tensor | float) -> Tensor:
    """acosh(1 + excess), by the half angle: acosh itself has few digits where its argument is near 1.

    Rounding makes of two equal points an excess of some eps, or one below 0: up to 4 eps of the numbers that it is the
    difference `of`, it counts as 0, where the slope would be infinite.
    """
    apart = excess > 4 * torch.finfo(excess.dtype).eps * of
    return torch.where(apart, 2 * (torch.where(apart, excess, 1) / 2).sqrt().asinh(), 0)


def _angle(
    x: Tensor, y: Tensor, along: Tensor, aside: Tensor, x_time: Tensor, y_time: Tensor, curvature: Tensor | float
) -> Tensor:
    """Of y seen from x: moved by the boost that brings x to the origin, y has these two components there.

    along, aside: of y's space components, along the direction of x and across it.
    """
    onward = _root(curvature) * (x_time * along - _length(x).squeeze(-1) * y_time)
    there = (onward != 0) | (aside != 0)  # of two equal points there is no way from one to the other
    return torch.where(there, torch.atan2(aside, torch.where(there, onward, 1)), 0)
