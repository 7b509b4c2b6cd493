"""Numbers for people: ``1.5 GB``, ``3 h``, ``12.8 billion``."""

from __future__ import annotations

BYTES = ("B", "KB", "MB", "GB", "TB", "PB")
TIMES = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


def short(value: float) -> str:
    """Two or three digits that count: 0.3, 4.2, 38, 1,234."""
    return f"{value:,.1f}" if value < 9.95 else f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes, in thousands."""
    power = 0
    while value >= 999.5 and power < len(BYTES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:,.0f} B" if power == 0 else f"{short(value)} {BYTES[power]}"


def clock(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if 0 < seconds < 0.95:
        return "< 1 s"
    name, unit = next(((n, u) for n, u in TIMES if seconds >= 2 * u), TIMES[-1])
    return f"{short(seconds / unit)} {name}" if name not in ("s", "min") else f"{seconds / unit:,.0f} {name}"


def machine_time(hours: float, kind: str) -> str:
    """``46,001 CPU-hours``; what is less than two hours in smaller units: ``38 s of CPU``."""
    return f"{short(hours)} {kind}-hours" if hours >= 2 else f"{clock(3600 * hours)} of {kind}"
