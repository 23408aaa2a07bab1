"""What chips and fabrics achieve of their datasheet rates, with the origin of each constant."""

from simulator.calibration.chips import ChipCalibration, OperatorConstants, chip_calibration

__all__ = ["ChipCalibration", "OperatorConstants", "chip_calibration"]
