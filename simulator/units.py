"""Numbers as people read them: the one place where SI floats become text.

Every function takes an SI number, or None where the number is not known, and returns ASCII text. Device memory is shown
in binary units (GiB), traffic and bandwidth in decimal ones (GB).
"""

import math
from collections.abc import Sequence

UNKNOWN = "-"
DIGITS = 3

_DECIMAL = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E"))
_SMALL = ((1e-9, "n"), (1e-6, "u"), (1e-3, "m"))
_COUNT = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T"))  # B, not G: billions of tokens or parameters
_TIME = ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
_BINARY = tuple((1024.0**power, unit) for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB")))
_Scale = Sequence[tuple[float, str]]


def _is_known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _significant(value: float) -> float:
    """Round to `DIGITS` significant digits, so that 999.6 is seen as 1,000 when the unit is chosen."""
    if value == 0.0 or math.isinf(value):
        return value
    return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))


def _digits(value: float) -> str:
    if value == 0.0 or math.isinf(value):
        return f"{value:.0f}"
    decimals = DIGITS - 1 - math.floor(math.log10(abs(_significant(value))))
    return f"{value:,.{max(0, decimals)}f}" if decimals <= 6 else f"{value:.{DIGITS}g}"


def _scaled(value: float | None, scale: _Scale, unit: str = "") -> str:
    if value is None or math.isnan(value):
        return UNKNOWN
    if value == 0.0 or math.isinf(value):
        size, name = next(step for step in scale if step[0] == 1.0)
    else:
        reached = [step for step in scale if abs(_significant(value / step[0])) >= 1.0]
        size, name = reached[-1] if reached else scale[0]
    return f"{_digits(value / size)} {name}{unit}".rstrip()


def number(value: float | None) -> str:
    """Format a plain number to three significant digits: `1.34`, `2,048`."""
    return UNKNOWN if value is None or math.isnan(value) else _digits(value)


def count(value: float | None) -> str:
    """Format a whole number with thousands separators: `2,048`."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:,.0f}"


def tokens(value: float | None) -> str:
    """Format a number of tokens or parameters [1]: `62.9 M`, `671 B`."""
    return _scaled(value, _COUNT)


def tokens_per_s(value: float | None) -> str:
    """Format a token rate [tokens/s]: `1.23 M tokens/s`."""
    return f"{tokens(value)} tokens/s" if _is_known(value) else UNKNOWN


def seconds(value_s: float | None) -> str:
    """Format a time [s]: `12.3 s`, `4.56 ms`, `789 us`."""
    return _scaled(value_s, _TIME)


def binary_bytes(value_bytes: float | None) -> str:
    """Format device memory [bytes]: `63.9 GiB`."""
    return _scaled(value_bytes, _BINARY)


def decimal_bytes(value_bytes: float | None) -> str:
    """Format traffic [bytes]: `7.41 GB`."""
    return _scaled(value_bytes, _DECIMAL, "B")


def bytes_per_s(value_bytes_per_s: float | None) -> str:
    """Format a bandwidth, one direction [bytes/s]: `392 GB/s`."""
    return _scaled(value_bytes_per_s, _DECIMAL, "B/s")


def flop(value_flop: float | None) -> str:
    """Format work [FLOP]: `2.43 TFLOP`."""
    return _scaled(value_flop, _DECIMAL, "FLOP")


def flop_per_s(value_flop_per_s: float | None) -> str:
    """Format a compute rate [FLOP/s]: `752 TFLOP/s`."""
    return _scaled(value_flop_per_s, _DECIMAL, "FLOP/s")


def watts(value_w: float | None) -> str:
    """Format power [W]: `615 kW`."""
    return _scaled(value_w, _DECIMAL, "W")


def joules(value_j: float | None) -> str:
    """Format energy [J]: `812 mJ`."""
    return _scaled(value_j, _SMALL + _DECIMAL, "J")


def usd(value_usd: float | None) -> str:
    """Format money [USD]: `$0.212`, `$4.10`, `$12,345`."""
    if value_usd is None or math.isnan(value_usd):
        return UNKNOWN
    sign, amount = ("-" if value_usd < 0 else ""), abs(value_usd)
    if amount >= 999.995:
        return f"{sign}${amount:,.0f}"
    return f"{sign}${amount:.2f}" if amount >= 0.9995 or amount == 0.0 else f"{sign}${_digits(amount)}"


def percent(fraction: float | None, signed: bool = False) -> str:
    """Format a fraction as percent with one decimal: `38.2 %`, signed `+4.0 %`."""
    if fraction is None or math.isnan(fraction):
        return UNKNOWN
    return f"{100.0 * fraction:{'+' if signed else ''},.1f} %"


def ratio(value: float | None) -> str:
    """Format a ratio: `1.25x`."""
    return f"{number(value)}x" if _is_known(value) else UNKNOWN


def shares(values: Sequence[float]) -> tuple[str, ...]:
    """Format parts of a whole as percent with one decimal, rounded so that the shown shares sum to exactly 100.0 %.

    Parameters
    ----------
    values
        Non-negative parts in any unit; all zero gives all `0.0 %`.

    Source: largest-remainder method (Hare quota), in tenths of a percent.
    """
    whole = math.fsum(values)
    if whole <= 0.0:
        return tuple("0.0 %" for _ in values)
    exact = [1000.0 * value / whole for value in values]
    tenths = [math.floor(value) for value in exact]
    missing = 1000 - sum(tenths)
    by_remainder = sorted(range(len(values)), key=lambda index: tenths[index] - exact[index])
    for index in by_remainder[:missing]:
        tenths[index] += 1
    return tuple(f"{tenth / 10:.1f} %" for tenth in tenths)
