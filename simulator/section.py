"""What every table of a scenario file is."""

from pydantic import BaseModel, ConfigDict

MAX_TOKENS = 2**40


class Section(BaseModel):
    """A frozen table of a scenario that refuses unknown keys, loose types, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
