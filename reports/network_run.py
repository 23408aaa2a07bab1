"""Operations simulated flow by flow, as tables: how long they take at once and alone, who ends last, what was full."""

from rich.console import Group, RenderableType
from rich.table import Table

from reports.text import cell, shorten_fabric, table
from simulator import units
from simulator.network_run import NetworkRun


def network_run_table(run: NetworkRun) -> RenderableType:
    """Return operations with their bounds, the ranks and flows that end last, and links in the order they filled."""
    detail = (
        f"takes {units.seconds(run.time_s)} at line rate, without latency: {run.time_s / run.bound_s:.3f} times its "
        f"busiest link's {units.seconds(run.bound_s)}"
    )
    notes = [cell(f"{each.operation}: {each.note}", "dim") for each in run.operations]
    blocks = [_operations(run), _ranks(run), _flows(run), _links(run)]
    return Group(cell(f"{run.scenario} on {run.cluster}", "bold"), cell(detail), *notes, *blocks)


def _operations(run: NetworkRun) -> Table:
    headers = "operation", "flows", "sent", "time", "alone", "bound", "time/bound", "achieved alone"
    made = table("Operations that start at once", *headers)
    for each in run.operations:
        made.add_row(
            cell(each.operation),
            cell(units.count(each.flows)),
            cell(units.decimal_bytes(each.sent_bytes)),
            cell(units.seconds(each.time_s)),
            cell(units.seconds(each.alone_s)),
            cell(units.seconds(each.bound_s)),
            cell(f"{each.time_s / each.bound_s:.3f}"),
            cell(units.seconds(each.predicted_s)),
        )
    return made


def _ranks(run: NetworkRun) -> Table:
    made = table("Ranks that end last", "rank", "ends", "with", "sends", "takes in", left=(0, 2))
    for each in run.ranks:
        made.add_row(
            cell(each.rank),
            cell(units.seconds(each.end_s)),
            cell(each.operation),
            cell(units.decimal_bytes(each.sent_bytes)),
            cell(units.decimal_bytes(each.received_bytes)),
        )
    return made


def _flows(run: NetworkRun) -> Table:
    made = table("Flows that end last", "flow", "of", "bytes", "ends", "mean rate", left=(0, 1))
    for each in run.flows:
        made.add_row(
            cell(f"{each.source}->{each.target}"),
            cell(each.operation),
            cell(units.decimal_bytes(each.size_bytes)),
            cell(units.seconds(each.end_s)),
            cell(units.bytes_per_s(each.size_bytes / each.end_s)),
        )
    return made


def _links(run: NetworkRun) -> Table:
    title = f"Links in the order they filled ({units.count(run.full_links)} did)"
    made = table(title, "link", "full from", "until", "for", "of the time", "bytes")
    for each in run.links:
        made.add_row(
            cell(shorten_fabric(each.link, each.fabric)),
            cell(units.seconds(each.first_s) if each.first_s else "start"),
            cell(units.seconds(each.last_s)),
            cell(units.seconds(each.full_s)),
            cell(units.percent(each.full_s / run.time_s)),
            cell(units.decimal_bytes(each.size_bytes)),
        )
    return made
