import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports import plots, tables
from reports.style import PART_COLOURS, PART_SHORT
from simulator.result import PART_LABELS, PARTS, MemoryUse, Result, Source

GIB = 2.0**30
WEIGHTS = dict(zip(PARTS, (6.1, 0.4, 1.1, 1.6, 0.0, 0.0, 0.12, 0.35, 0.2, 0.9, 1.3, 0.08), strict=True))


def result(scenario: str = "train-v3-910c", speed: float = 1.0, **changes: Any) -> Result:
    breakdown_s = {part: weight / speed for part, weight in WEIGHTS.items()}
    step_s = math.fsum(breakdown_s.values())
    values: dict[str, Any] = {
        "scenario": scenario,
        "digest": "4f1c9a0b77d2e1aa90",
        "fidelity": "analytic",
        "seed": 7,
        "phase": "training",
        "model": "deepseek-v3",
        "cluster": "cloudmatrix384",
        "chip": "ascend-910c",
        "chips": 384,
        "ranks": 768,
        "plan": {"tensor": 1, "pipeline": 16, "expert": 64, "schedule": "1f1b"},
        "step_s": step_s,
        "tokens_per_step": 62_914_560.0,
        "tokens_per_s": 62_914_560.0 / step_s,
        "tokens_per_s_per_chip": 62_914_560.0 / step_s / 384,
        "ttft_s": None,
        "tpot_s": None,
        "mfu": 0.31,
        "breakdown_s": breakdown_s,
        "imbalance": 1.84,
        "memory": (use("stage 0", 40.0), use("stage 15", 60.0)),
        "power_w": 615e3,
        "energy_j_per_token": 0.12,
        "usd_per_hour": 900.0,
        "usd_per_million_tokens": 0.05,
        "sources": (Source(what="peak", kind="datasheet", source="a"), Source(what="rate", kind="fitted", source="b")),
        "assumptions": ("price of a chip-hour: assumed $2.10 [P]; " + "a long explanation " * 12,),
        "warnings": ("x" * 180,),
    }
    return Result(**{**values, **changes})


def use(rank_class: str, optimizer_gib: float) -> MemoryUse:
    items = {"weights": 10.0 * GIB, "optimizer": optimizer_gib * GIB, "buffers": 0.0}
    return MemoryUse(rank_class=rank_class, items=items, total_bytes=sum(items.values()), capacity_bytes=64.0 * GIB)


def sweep(chips: tuple[int, ...] = (64, 128, 256), feasible_from: int = 128, label: str = "910C") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "chips": count,
                "series": label,
                "tokens_per_s": 600.0 * count**0.9 if count >= feasible_from else math.nan,
                "tokens_per_s_per_chip": 600.0 * count**-0.1 if count >= feasible_from else math.nan,
                "efficiency": (count / feasible_from) ** -0.1 if count >= feasible_from else math.nan,
                "bottleneck": "dispatch" if count >= feasible_from else None,
                "feasible": count >= feasible_from,
                "reason": "" if count >= feasible_from else "does not fit: short by 12.3 GiB on rank class 'stage 0'",
            }
            for count in chips
        ]
    )


def validation(points: int = 6) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    measured = generator.uniform(100.0, 5000.0, points)
    predicted = measured * generator.uniform(0.7, 1.4, points)
    frame = pd.DataFrame(
        {
            "id": [f"point-with-a-rather-long-name-that-goes-on-{place}" for place in range(points)],
            "area": ["training", "decode", "dispatch"] * (points // 3),
            "predicted": predicted,
            "measured": measured,
            "unit": ["tokens/s per chip", "tokens/s per chip", "us"] * (points // 3),
            "error": predicted / measured - 1.0,
            "evidence": "P",
            "status": "predicted",
            "source": "arXiv:2412.19437 [bold]Table 2[/bold]",
        }
    )
    frame.loc[0, ["predicted", "error"]] = math.nan
    frame.loc[0, "status"] = "skipped: missing: seq_len"
    return frame


TEXTS: dict[str, Callable[[], Any]] = {
    "one run": lambda: tables.result_table(result()),
    "one run with extreme names": lambda: tables.result_table(result("s" * 200, model="m" * 90, chips=10**9)),
    "one run without cost": lambda: tables.result_table(result(power_w=None, usd_per_hour=None, memory=())),
    "two": lambda: tables.comparison_table([result(), result("b" * 70, speed=0.01)]),
    "nine": lambda: tables.comparison_table([result(f"run-{place}", speed=1.0 + place) for place in range(9)]),
    "sweep": lambda: tables.sweep_table(sweep()),
    "sweep over five axes": lambda: tables.sweep_table(
        sweep().assign(**{f"plan.axis{place}": "long-value" for place in range(5)}),
        axes=["chips", *(f"plan.axis{place}" for place in range(5))],
    ),
    "validation": lambda: tables.validation_table(validation()),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_never_wider_than_one_hundred_columns(name: str) -> None:
    lines = tables.render(TEXTS[name]()).splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) <= 100


def test_a_run_shows_its_numbers() -> None:
    text = tables.render(tables.result_table(result()))
    for shown in ("5.18 M tokens/s", "13.5 k tokens/s", "12.2 s", "31.0 %", "1.84x the mean", "615 kW", "120 mJ"):
        assert shown in text
    for shown in ("$900.00", "$0.0500", "short by 6.00 GiB", "seed 7", "768 ranks", "[P]", "1 datasheet, 1 fitted"):
        assert shown in text


def test_shares_of_a_run_sum_to_one_hundred() -> None:
    text = tables.render(tables.result_table(result()))
    block = text.split("Where the time goes")[1].split("total")[0]
    shares = [float(share) for share in re.findall(r"([\d.]+) %", block)]
    assert len(shares) == sum(weight > 0 for weight in WEIGHTS.values())
    assert round(10 * sum(shares)) == 1000


def test_ratios_are_against_the_first_and_the_best_is_marked() -> None:
    text = tables.render(tables.comparison_table([result("a"), result("b", speed=2.0)]))
    (line,) = (line for line in text.splitlines() if line.strip().startswith("tokens/s per chip"))
    assert line.split() == ["tokens/s", "per", "chip", "13.5", "k", "*27.0", "k", "2.00x"]
    (line,) = (line for line in text.splitlines() if line.strip().startswith("step or iteration"))
    assert line.split()[-3:] == ["*6.08", "s", "0.500x"]


def test_every_run_of_a_wide_comparison_appears() -> None:
    text = tables.render(tables.comparison_table([result(f"run-{place}") for place in range(9)]))
    assert all(f"run-{place}" in text for place in range(9))


def test_nothing_to_compare_is_said() -> None:
    assert "nothing to compare" in tables.render(tables.comparison_table([]))


def test_an_infeasible_point_keeps_its_row_and_its_reason() -> None:
    text = tables.render(tables.sweep_table(sweep()))
    assert "infeasible" in text
    assert "64: does not fit: short by 12.3 GiB on rank class 'stage 0'" in text


def test_validation_names_source_error_and_what_was_not_predicted() -> None:
    text = tables.render(tables.validation_table(validation()))
    assert "skipped: missing: seq_len" in text
    assert "1 arXiv:2412.19437 [bold]Table 2[/bold]" in text
    assert "median |error|" in text


def test_every_part_has_colour_and_names() -> None:
    assert set(PART_COLOURS) == set(PART_SHORT) == set(PART_LABELS) == set(PARTS)
    assert len(set(PART_COLOURS.values())) == len(PARTS)


PICTURES: dict[str, Callable[[Path], Path]] = {
    "scaling": lambda path: plots.scaling_curve(pd.concat([sweep(), sweep(label="910B", feasible_from=256)]), path),
    "one point": lambda path: plots.scaling_curve(sweep((128,)), path),
    "nothing feasible": lambda path: plots.scaling_curve(sweep(feasible_from=10**6), path),
    "no point": lambda path: plots.scaling_curve(sweep().head(0), path),
    "names on the axis": lambda path: plots.scaling_curve(
        sweep().assign(schedule=["1f1b", "zero", "gpipe"]), path, axis="schedule"
    ),
    "bare frame": lambda path: plots.scaling_curve(sweep()[["chips", "tokens_per_s"]], path),
    "money in the title": lambda path: plots.scaling_curve(sweep(), path, "at $2 and $3_a^b " * 9),
    "breakdown": lambda path: plots.breakdown_bars([result(), result("b" * 60, speed=300.0)], path),
    "comparison": lambda path: plots.comparison_bars(
        [result(), result("b", usd_per_million_tokens=None, energy_j_per_token=None)], path
    ),
    "validation": lambda path: plots.validation_scatter(validation(), path),
    "many validations": lambda path: plots.validation_scatter(validation(90), path),
    "nothing predicted": lambda path: plots.validation_scatter(validation().assign(predicted=math.nan), path),
    "heatmap": lambda path: plots.expert_heatmap(np.arange(48.0).reshape(4, 12), path),
    "heatmap without tokens": lambda path: plots.expert_heatmap(np.zeros((1, 1)), path, what="rank"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_the_same_bytes_every_time(name: str, tmp_path: Path) -> None:
    first = PICTURES[name](tmp_path / "new" / "first.png").read_bytes()
    second = PICTURES[name](tmp_path / "second.png").read_bytes()
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first.png", "new", "second.png"]


@pytest.mark.parametrize("name", ["scaling", "heatmap"])
@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_vector_pictures_are_the_same_bytes_and_undated(name: str, suffix: str, tmp_path: Path) -> None:
    first = PICTURES[name](tmp_path / f"first.{suffix}").read_bytes()
    assert first == PICTURES[name](tmp_path / f"second.{suffix}").read_bytes()
    assert b"Date" not in first


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown picture format '\.bmp'; use one of \.png, \.svg, \.pdf"):
        plots.breakdown_bars([result()], tmp_path / "a.bmp")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError, match=r"taken\.png"):
        plots.breakdown_bars([result()], tmp_path / "taken.png")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


@pytest.mark.parametrize("load", [np.zeros(3), np.zeros((0, 4)), np.array([[1.0, math.nan]]), np.array([[-1.0]])])
def test_a_heatmap_refuses_what_is_no_load(load: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs finite, non-negative numbers"):
        plots.expert_heatmap(load, tmp_path / "a.png")
