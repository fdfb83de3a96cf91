"""What is kept of models and of the series of resources, and how observations become it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.domain.evidence import Observed
from app.domain.model import Columns, Role
from app.domain.signal import Series

Curves = Mapping[str, tuple[tuple[float, float], ...]]
"""Training curves: metric → (step, value)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One request's observations. `table` is a pyarrow.Table, None where only curves or the end of a window were sent.

    `said` are the members of Columns that the request names itself.
    """

    model: str
    table: Any = None
    role: Role = Role.CURRENT
    window: str = ""
    close: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    curves: Curves = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """A window as it is kept: the reference, or one of the windows that are compared with it."""

    role: Role
    observed: Observed
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a repository. `run` is the newest training run that told its `curves`."""

    id: int
    name: str
    run: str = ""
    curves: Curves = field(default_factory=dict)


class Models(Protocol):
    """Within one transaction of the store."""

    def model(self, repository_id: int, name: str) -> Model | None: ...
    def add_model(self, repository_id: int, name: str) -> Model | None:
        """The model, new or not. None: the repository has as many as are kept."""
        ...

    def save_curves(self, model: Model) -> None: ...
    def window(self, model: Model, role: Role, name: str) -> Window | None: ...
    def windows(self, model: Model, *, role: Role, before: str = "", most: int = 1) -> list[Window]:
        """Newest first, begun before the window of that name (empty: all)."""
        ...

    def save_window(self, model: Model, window: Window) -> None:
        """Insert or update by role and `observed.window`. A reference that begins ends the one before it."""

    def close_others(self, model: Model, name: str) -> list[str]:
        """Close the current windows that are open, but this one; their names, oldest first."""
        ...

    def forget_windows(self, model: Model, keep: int) -> None:
        """Keep the newest `keep` current windows."""

    def add_samples(self, repository_id: int, series: Sequence[Series]) -> list[Series]:
        """Join samples to what is kept, each time of a series once; the same series with their past.

        At most MOST_POINTS samples of a series are kept, and MOST_SERIES series of a repository, the newest.
        """
        ...

    def series(self, repository_id: int, wanted: Sequence[Series]) -> list[Series]:
        """The kept series of the same names and labels, with their past."""
        ...


class Summaries(Protocol):
    """How tables become what is kept of a window. Raises Malformed for what does not fit together."""

    def of(self, window: str, table: Any, columns: Columns, like: Observed | None = None) -> Observed:
        """What is kept of one table, so that it can be compared and joined with `like`."""
        ...

    def joined(self, first: Observed, second: Observed) -> Observed:
        """Both, `first` being the earlier one. Of inputs with other columns the earlier ones are kept, of those on
        another reference's grid the later ones."""
        ...

    def labelled(self, observed: Observed, table: Any, columns: Columns) -> Observed | None:
        """With labels that came later, for predictions of this window. None: it waits for none of them."""
        ...
