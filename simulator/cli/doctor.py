"""`epsim doctor`."""

import sys

import click

OWN_PACKAGES = ("simulator", "topologies", "workloads", "reports")


@click.command(epilog="\b\nExample:\n  epsim doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(as_json: bool) -> None:
    """Check the installation: versions, name clashes with other distributions, shipped data, and a tiny run."""
    from reports.tables import console, facts_table
    from simulator.cli.options import print_json

    rows = [{"check": name, "state": state, "detail": detail} for name, state, detail in _checks()]
    if as_json:
        print_json(rows)
    else:
        console().print(facts_table(rows, "epsim doctor"))
    if any(row["state"] == "fail" for row in rows):
        sys.exit(1)


def _checks() -> list[tuple[str, str, str]]:
    return [*_versions(), *_clashes(), *_data(), _tiny_run()]


def _versions() -> list[tuple[str, str, str]]:
    import platform

    from simulator.manifest import PACKAGES, package_version

    state = "ok" if sys.version_info >= (3, 11) else "fail"
    versions = ", ".join(f"{name} {package_version(name)}" for name in PACKAGES)
    return [("python", state, platform.python_version()), ("packages", "ok", versions), _recording()]


def _recording() -> tuple[str, str, str]:
    """Only `epsim trace record` needs torch and transformers, so that they lack is no failure."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return "trace record", "ok", ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    except PackageNotFoundError as error:
        return "trace record", "off", f"{error.name} is not installed; install the extra epsim[record] to record"


def _clashes() -> list[tuple[str, str, str]]:
    """Our top-level names are plain words: another distribution may install the same ones over ours."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    rows = []
    for package in OWN_PACKAGES:
        others = sorted(set(owners.get(package, [])) - {"epsim"})
        detail = f"also installed by {', '.join(others)}; use an environment of its own" if others else "ours alone"
        rows.append((f"package {package}", "fail" if others else "ok", detail))
    return rows


def _data() -> list[tuple[str, str, str]]:
    from simulator.calibration import chip_calibration
    from simulator.calibration.fabrics import fabric_calibration
    from simulator.errors import USER_ERRORS
    from simulator.scenario_file import load_scenario, shipped_scenarios
    from topologies.catalogue import accelerators, clusters, fabrics
    from workloads.models import models

    try:
        chips, nets = accelerators(), fabrics()
        for chip in chips:
            chip_calibration(chip.id)
        for net in nets:
            fabric_calibration(net.id)
        names = [load_scenario(name).name for name in shipped_scenarios()]
        detail = (
            f"{len(chips)} chips, {len(nets)} fabrics, {len(clusters())} clusters, {len(models())} models, "
            f"{len(names)} scenarios"
        )
        return [("catalogue", "ok", detail)]
    except USER_ERRORS as error:
        return [("catalogue", "fail", error.problems[0])]


def _tiny_run() -> tuple[str, str, str]:
    from simulator.errors import USER_ERRORS
    from simulator.run import run
    from simulator.scenario_file import load_scenario

    try:
        result = run(load_scenario("dsv3-decode-h800"))
    except USER_ERRORS as error:
        return ("run", "fail", error.problems[0])
    return ("run", "ok", f"dsv3-decode-h800: {result.tokens_per_s_per_chip:,.0f} tokens/s per chip")
