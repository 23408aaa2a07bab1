"""Plans in other tools' argument style: Megatron-LM, Megatron-Bridge, MindSpeed."""

from simulator.arguments.convert import Converted, convert
from simulator.arguments.words import read_arguments

__all__ = ["Converted", "convert", "read_arguments"]
