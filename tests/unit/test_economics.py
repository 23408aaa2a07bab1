import pytest

from simulator.economics import HOURS_PER_YEAR, money
from simulator.scenario import Economics
from topologies.catalogue import accelerator
from topologies.specs import Accelerator, Power, Price

CHIP = accelerator("h800").model_copy(
    update={
        "power": Power(board_w=700.0, system_w=1200.0, source="test"),
        "price": Price(chip_usd=20_000.0, system_usd=35_064.0, source="test"),
    }
)


def test_capital_and_electricity_by_hand() -> None:
    spent = money(Economics(amortisation_years=4.0, usd_per_kwh=0.10, pue=1.25), CHIP, chips=10)
    assert spent.power_w == pytest.approx(10 * 1200 * 1.25)
    assert spent.usd_per_hour == pytest.approx(10 * (35_064 / (4 * HOURS_PER_YEAR) + 1.5 * 0.10))
    assert spent.usd_per_hour == pytest.approx(10 * (1.0 + 0.15))


def test_rent_replaces_the_capital_cost() -> None:
    spent = money(Economics(usd_per_chip_hour=2.5), CHIP, chips=4)
    assert spent.usd_per_hour == 10.0
    assert "rent" in spent.assumptions[1]
    assert spent.power_w == money(Economics(), CHIP, chips=4).power_w


def test_a_price_given_replaces_the_catalogue() -> None:
    free_power = Economics(usd_per_chip=4 * HOURS_PER_YEAR, usd_per_kwh=0.0)
    assert money(free_power, CHIP, chips=3).usd_per_hour == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("changes", "power_w", "note"),
    [
        ({"power": Power(board_w=700.0, source="test")}, 875.0, "board alone"),
        ({"power": Power(source="test")}, None, "no power figure"),
        ({"power": None}, None, "no power figure"),
    ],
)
def test_power_falls_back_and_says_so(changes: dict[str, object], power_w: float | None, note: str) -> None:
    spent = money(Economics(), chip(**changes), chips=1)
    assert spent.power_w == power_w
    assert note in spent.assumptions[0]
    assert spent.usd_per_hour is not None


@pytest.mark.parametrize(
    ("price", "usd", "note"),
    [
        (Price(chip_usd=20_000.0, source="test"), 20_000.0, "card alone"),
        (Price(source="test"), None, "no price"),
        (None, None, "no price"),
    ],
)
def test_price_falls_back_and_says_so(price: Price | None, usd: float | None, note: str) -> None:
    spent = money(Economics(usd_per_kwh=0.0), chip(price=price), chips=1)
    assert spent.usd_per_hour == (pytest.approx(usd / (4 * HOURS_PER_YEAR)) if usd else None)
    assert note in spent.assumptions[1]


def chip(**changes: object) -> Accelerator:
    return CHIP.model_copy(update=changes)
