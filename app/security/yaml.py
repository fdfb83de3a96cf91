"""YAML of others: what the parser raises for it, and how deep it may be."""

import re
import warnings
from itertools import accumulate

from ruamel.yaml import YAML
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import Node

# Besides its own errors: ValueError for directives and escapes, AssertionError and KeyError for versions it does not
# know (`%YAML 1.3`), the others for what leads it astray.
NOT_YAML = (YAMLError, ValueError, RecursionError, AssertionError, LookupError, AttributeError, TypeError)

warnings.filterwarnings("ignore", category=ReusedAnchorWarning)  # it quotes the file, and goes past the log


def documents(text: str, most_depth: int) -> list[Node]:
    """As nodes, with their places. Raises ValueError for what is nested deeper, which takes the parser seconds."""
    depths = accumulate((1 if bracket in "[{" else -1) for bracket in re.findall(r"[\[\]{}]", text))
    if max(depths, default=0) > most_depth or re.search(rf"(?:-[ \t]+){{{most_depth // 2}}}", text):
        raise ValueError("nested too deeply")
    try:
        return [node for node in YAML(pure=True).compose_all(text) if node is not None]
    except NOT_YAML as error:
        raise ValueError(f"not YAML: {type(error).__name__}") from error
