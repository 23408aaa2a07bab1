"""What arguments of other tools mean to a scenario, and which mean nothing to time: `known.toml` as sets of names."""

import tomllib
from importlib.resources import files

_TABLE = tomllib.loads(files("simulator.arguments").joinpath("known.toml").read_text(encoding="utf-8"))

ALIASES: dict[str, str] = _TABLE["aliases"]
NUMBERS = frozenset[str](_TABLE["numbers"])
WORDS = frozenset[str](_TABLE["words"])
FLAGS = frozenset[str](_TABLE["flags"])
UNDERSTOOD = NUMBERS | WORDS | FLAGS
NOT_MODELLED: dict[str, str] = _TABLE["not_modelled"]
NO_EFFECT = frozenset[str](_TABLE["no_effect"])
NO_EFFECT_PREFIXES: tuple[str, ...] = tuple(_TABLE["no_effect_prefixes"])
