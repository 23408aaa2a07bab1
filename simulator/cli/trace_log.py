"""What `epsim trace show` prints of a serving log."""

from pathlib import Path

from simulator.cli.options import print_json, write_csv


def show_log(file: str, as_json: bool, csv_path: str | None) -> None:
    """Print how balanced the ranks were in the steps that vLLM logged; the experts are not in the log."""
    import numpy as np

    from reports.tables import console, facts_table
    from workloads.routing.importers.common import naming
    from workloads.routing.importers.vllm import read_log

    with naming(Path(file)):
        steps = read_log(Path(file))
    rows = [
        {
            "step": number,
            "mean_tokens": step.mean_tokens,
            "busiest_tokens": step.busiest_tokens,
            "busiest_over_mean": step.busiest_tokens / step.mean_tokens,
        }
        for number, step in enumerate(steps)
    ]
    ratio = np.array([row["busiest_over_mean"] for row in rows])
    p5, p95 = np.percentile(ratio, [5, 95])
    figures = {"steps": len(rows), "mean": float(ratio.mean()), "p5": float(p5), "p95": float(p95), "last": ratio[-1]}
    if csv_path:
        write_csv(rows, csv_path)
    if as_json:
        print_json({"log": file, "busiest_over_mean": figures, "rows": rows})
        return
    table = {name: f"{value:,}" if name == "steps" else f"{value:.2f}" for name, value in figures.items()}
    console().print(facts_table([table], "Busiest EP rank over mean, as vLLM logged it (tokens summed over layers)"))
