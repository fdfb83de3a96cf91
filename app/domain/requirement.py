"""What a manifest asks for, and whether it can be had."""

from dataclasses import dataclass

from app.domain.evidence import Evidence


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One requirement as it stands in a file: 1-based line."""

    path: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class ManifestResolution:
    """What the resolver says of one manifest.

    `lines` are the requirements that were resolved together, those of included files too; `left_out` are lines that
    were not looked at (addresses, options). `explanation` is the resolver's proof, empty where all fits together.
    `is_new` is False where the commit before had the conflict already, None where that is not known.
    """

    path: str
    resolved: bool
    explanation: str = ""
    lines: tuple[ManifestLine, ...] = ()
    left_out: tuple[str, ...] = ()
    python: str = ""
    is_new: bool | None = None


@dataclass(frozen=True, slots=True)
class Resolutions(Evidence):
    """The manifests that a push touched. One that could not be asked about is not among them."""

    manifests: tuple[ManifestResolution, ...]
