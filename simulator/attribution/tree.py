"""The tree of a run's time: compute by operator class, exposed communication by kind and link, waits."""

from collections.abc import Iterable, Sequence

from simulator.attribution.classes import ClassTime
from simulator.attribution.exchanges import Exchange
from simulator.result import PART_LABELS, Result
from simulator.why import Line

CLASS_LABELS = {
    "gemm": "GEMM",
    "grouped_gemm": "grouped GEMM",
    "attention_prefill": "attention core, forward",
    "attention_backward": "attention core, backward",
    "attention_decode": "attention core, decode",
    "elementwise": "elementwise",
    "elementwise_bulk": "elementwise",
}
COMMUNICATION = ("dispatch", "combine", "tensor_parallel", "context_parallel", "pipeline", "data_parallel")
ROUNDING = 1e-9  # of the step: what sums of the same numbers in another order may differ by


def tree(result: Result, classes: Sequence[ClassTime], exchanges: dict[str, Exchange]) -> Line:
    """Return the tree; the leaves sum to `result.step_s`.

    Parameters
    ----------
    classes
        Time of each operator class on the mean rank. What these do not explain of the run's compute, memory and launch
        time is a line of its own.
    exchanges
        What binds each kind of communication.
    """
    spent = result.breakdown_s
    groups = [
        _compute(result, classes),
        _communication(result, exchanges),
        *(_line(result, PART_LABELS[name], name, spent[name]) for name in ("imbalance_wait", "bubble")),
        _optimizer(result, classes),
        _launches(result, classes),
    ]
    return _parent(result, "step" if result.phase == "training" else "iteration", groups)


def _line(result: Result, what: str, part: str, time_s: float, light: float | None = None) -> Line:
    return Line(what=what, part=part, time_s=time_s, share=time_s / result.step_s, light=light)


def _parent(result: Result, what: str, lines: Iterable[Line], part: str = "") -> Line:
    kept = tuple(sorted((line for line in lines if line.time_s > 0.0), key=lambda line: -line.time_s))
    time_s = sum(line.time_s for line in kept)
    known = [line for line in kept if line.light is not None]
    lit_s = sum(line.time_s * (line.light or 0.0) for line in known)
    whole = bool(known) and len(known) == len(kept)
    return Line(
        what=what,
        part=part or (kept[0].part if kept else "compute"),
        time_s=time_s,
        share=time_s / result.step_s,
        light=lit_s / time_s if whole and time_s > 0 else None,
        lines=kept,
    )


def _compute(result: Result, classes: Sequence[ClassTime]) -> Line:
    total_s = result.breakdown_s["compute"] + result.breakdown_s["memory"]
    lines = [
        Line(
            what=f"{CLASS_LABELS[each.kind]}, {each.dtype}",
            part="compute" if each.compute_s >= each.memory_s else "memory",
            time_s=each.time_s,
            share=each.time_s / result.step_s,
            light=each.light_s / each.time_s,
            limited_by="arithmetic" if each.compute_s >= each.memory_s else "memory",
            constants=each.constants.kind,
        )
        for each in classes
        if each.time_s > 0
    ]
    return _parent(result, "compute", _completed(result, lines, total_s, "other operators", "compute"))


def _completed(result: Result, lines: list[Line], total_s: float, rest: str, part: str) -> list[Line]:
    """Return lines that sum to `total_s`: what they lack is a line of its own, what they have too much is taken off."""
    found_s = sum(line.time_s for line in lines)
    more_s = total_s - found_s
    if more_s > ROUNDING * result.step_s:
        return [*lines, _line(result, rest, part, more_s)]
    scale = total_s / found_s if found_s > 0 else 0.0
    return [line.model_copy(update={"time_s": line.time_s * scale, "share": line.share * scale}) for line in lines]


def _communication(result: Result, exchanges: dict[str, Exchange]) -> Line:
    lines = []
    for name in COMMUNICATION:
        found, line = exchanges.get(name), _line(result, _plain(name), name, result.breakdown_s[name])
        if found:
            changed = {"light": found.light, "limited_by": found.limited_by, "constants": found.constants}
            line = line.model_copy(update=changed)
        lines.append(line)
    return _parent(result, "exposed communication", lines)


def _plain(name: str) -> str:
    """Return a kind of communication without "(exposed)", which its group says."""
    return PART_LABELS[name].removesuffix(" (exposed)")


def _optimizer(result: Result, classes: Sequence[ClassTime]) -> Line:
    line = _line(result, PART_LABELS["optimizer"], "optimizer", result.breakdown_s["optimizer"])
    own = max(classes, key=lambda each: each.optimizer_s, default=None)
    if own is None or own.optimizer_s <= 0:
        return line
    light = own.optimizer_light_s / own.optimizer_s
    changed = {"light": light, "limited_by": "memory", "constants": own.constants.kind}
    return line.model_copy(update=changed)


def _launches(result: Result, classes: Sequence[ClassTime]) -> Line:
    lines = [
        _line(result, f"{CLASS_LABELS[each.kind]}, {each.dtype}", "overhead", each.launch_s, 0.0).model_copy(
            update={"limited_by": "launch", "constants": each.constants.kind}
        )
        for each in classes
    ]
    return _parent(
        result,
        PART_LABELS["overhead"],
        _completed(result, lines, result.breakdown_s["overhead"], "host work", "overhead"),
        "overhead",
    )
