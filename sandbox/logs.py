"""Logs: one line per event on standard error, for people at a terminal and as JSON elsewhere.

All processes of the service write them so. It stands in the lowest room because the launcher does, too.
"""

import logging
import sys

import structlog


def configure_logs() -> None:
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(
                exception_formatter=structlog.dev.plain_traceback,  # the default prints local variables: secrets
            )
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever that is by then
    )
