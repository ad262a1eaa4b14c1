"""Frozen: the base of every value that comes from a file (torch-free)."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that never changes, and refuses unknown keys and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
