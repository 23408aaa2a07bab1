"""Power and money of a cluster, with each assumption named."""

from dataclasses import dataclass

from simulator.scenario import Economics
from topologies.specs import Accelerator

HOURS_PER_YEAR = 8766.0


@dataclass(frozen=True, slots=True)
class Money:
    """Power [W] with PUE, and cost [USD/h], of all chips; None where the catalogue has no figure."""

    power_w: float | None
    usd_per_hour: float | None
    assumptions: tuple[str, ...]


def money(economics: Economics, chip: Accelerator, chips: int) -> Money:
    """Return power and cost of `chips` chips.

    Cost is rent where the scenario gives one, else purchase price over the amortisation time plus electricity.
    """
    power, power_note = _power(economics, chip)
    hourly, cost_note = _hourly(economics, chip, power)
    return Money(power * chips if power else None, hourly * chips if hourly else None, (power_note, cost_note))


def _power(economics: Economics, chip: Accelerator) -> tuple[float | None, str]:
    if chip.power and chip.power.system_w:
        watts, what = chip.power.system_w, "system share per chip"
    elif chip.power and chip.power.board_w:
        watts, what = chip.power.board_w, "board alone, host and network left out"
    else:
        return None, f"energy: no power figure for {chip.name}"
    return watts * economics.pue, f"energy: {watts:.0f} W {what}, at all times, x PUE {economics.pue:g}"


def _hourly(economics: Economics, chip: Accelerator, power_w: float | None) -> tuple[float | None, str]:
    if economics.usd_per_chip_hour:
        return economics.usd_per_chip_hour, f"cost: rent of {economics.usd_per_chip_hour:g} USD per chip and hour"
    if economics.usd_per_chip:
        price, what = economics.usd_per_chip, "as given"
    elif chip.price and chip.price.system_usd:
        price, what = chip.price.system_usd, "system share"
    elif chip.price and chip.price.chip_usd:
        price, what = chip.price.chip_usd, "card alone"
    else:
        return None, f"cost: no price for {chip.name}; set economics.usd_per_chip or usd_per_chip_hour"
    capital = price / (economics.amortisation_years * HOURS_PER_YEAR)
    electricity = (power_w or 0.0) / 1000 * economics.usd_per_kwh
    return capital + electricity, (
        f"cost: {price:,.0f} USD per chip ({what}) over {economics.amortisation_years:g} years "
        f"+ electricity at {economics.usd_per_kwh:g} USD/kWh"
    )
