"""The settings of a run."""

from pydantic import BaseModel, Field


class Run(BaseModel):
    name: str = Field(..., regex="^[a-z]+$")
    epochs: int = Field(3, ge=1)


print(Run(name="baseline"))
