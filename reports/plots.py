"""Every picture in one place."""

from reports.accuracy import validation_scatter
from reports.breakdown import breakdown_bars, comparison_bars
from reports.heatmap import expert_heatmap
from reports.operation_errors import operations_picture
from reports.pareto import pareto
from reports.scaling import scaling_curve
from reports.style import FORMATS

__all__ = [
    "FORMATS",
    "breakdown_bars",
    "comparison_bars",
    "expert_heatmap",
    "operations_picture",
    "pareto",
    "scaling_curve",
    "validation_scatter",
]
