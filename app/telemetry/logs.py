"""Structured logs: a constant event name and variable fields."""

import logging
import sys
from collections.abc import Sequence

import structlog
from structlog.types import Processor


def configure(*, form: str, level: str, processors: Sequence[Processor] = ()) -> None:
    """`form` is "json" or "console"; `processors` run last before rendering (masking of secrets, say)."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Processor = structlog.processors.JSONRenderer()
    if form == "console":  # plain tracebacks: the pretty ones print local variables, and those hold secrets
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    errors: list[Processor] = [structlog.processors.format_exc_info]  # before masking, so that it is masked, too
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, *errors, *processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # one write a line: processes share the stream
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, *processors, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
