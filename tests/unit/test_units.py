import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import units


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0.0, "0 s"),
        (3.2e-5, "32.0 us"),
        (0.9996e-3, "1.00 ms"),
        (0.04213, "42.1 ms"),
        (14.8, "14.8 s"),
        (90.0, "1.50 min"),
        (7200.0, "2.00 h"),
        (9e5, "10.4 d"),
        (-0.003, "-3.00 ms"),
        (math.inf, "inf s"),
        (math.nan, "-"),
        (None, "-"),
    ],
)
def test_seconds_choose_the_unit_after_rounding(value_s: float | None, text: str) -> None:
    assert units.seconds(value_s) == text


def test_memory_is_binary_and_traffic_decimal() -> None:
    assert units.binary_bytes(64 * 2**30) == "64.0 GiB"
    assert units.bytes_per_s(392e9) == "392 GB/s"
    assert units.decimal_bytes(7.408e9) == "7.41 GB"


def test_each_quantity_has_its_unit() -> None:
    assert units.flop(2.43e12) == "2.43 TFLOP"
    assert units.flop_per_s(751.9e12) == "752 TFLOP/s"
    assert units.tokens(671e9) == "671 B"
    assert units.tokens_per_s(1_234_567) == "1.23 M tokens/s"
    assert units.watts(614_800) == "615 kW"
    assert units.joules(0.812) == "812 mJ"
    assert units.percent(0.3821) == "38.2 %"
    assert units.percent(0.04, signed=True) == "+4.0 %"
    assert units.ratio(1.2547) == "1.25x"
    assert units.count(2048) == "2,048"
    assert units.number(1.3449) == "1.34"


@pytest.mark.parametrize(
    ("value_usd", "text"),
    [(0.0, "$0.00"), (0.2123, "$0.212"), (4.1, "$4.10"), (999.996, "$1,000"), (12345.6, "$12,346"), (-3.0, "-$3.00")],
)
def test_usd(value_usd: float, text: str) -> None:
    assert units.usd(value_usd) == text


def test_unknown_is_a_dash_everywhere() -> None:
    formats = (
        units.number,
        units.count,
        units.tokens,
        units.tokens_per_s,
        units.seconds,
        units.binary_bytes,
        units.decimal_bytes,
        units.bytes_per_s,
        units.flop,
        units.flop_per_s,
        units.watts,
        units.joules,
        units.usd,
        units.percent,
        units.ratio,
    )
    assert {form(None) for form in formats} == {form(math.nan) for form in formats} == {units.UNKNOWN}


@given(st.lists(st.floats(0.0, 1e12), min_size=1, max_size=12))
def test_shown_shares_sum_to_one_hundred(values: list[float]) -> None:
    tenths = [round(10 * float(share.removesuffix(" %"))) for share in units.shares(values)]
    assert sum(tenths) == (1000 if math.fsum(values) > 0 else 0)
    assert min(tenths) >= 0


@given(st.floats(1e-9, 1e9))
def test_seconds_keep_three_digits(value_s: float) -> None:
    size = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    digits, unit = units.seconds(value_s).split()
    assert float(digits.replace(",", "")) * size[unit] == pytest.approx(value_s, rel=5.1e-3)
