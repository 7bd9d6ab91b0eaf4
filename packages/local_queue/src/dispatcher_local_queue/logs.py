"""What a worker logs, and how."""

import json
import logging
import sys
import time
from typing import Literal

from dispatcher_core.context import current_job
from dispatcher_core.errors import NoCurrentJob

__all__ = ["JobLogFilter", "LogFormat", "set_up_logging"]

LogFormat = Literal["text", "json"]

_NO_JOB: dict[str, object] = {
    "job_id": None,
    "job_name": None,
    "job_attempt": None,
    "batch_id": None,
}


class JobLogFilter(logging.Filter):
    """Gives each record the job that it was logged in.

    The attributes are ``job_id``, ``job_name``, ``job_attempt`` and ``batch_id``, each None
    outside of a job. Add it to any handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; keeps every record."""
        vars(record).update(_job_facts())
        return True


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._second = (0, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        second, text = self._second
        if int(record.created) != second:  # a busy worker logs thousands of lines in one
            second = int(record.created)
            text = time.strftime(datefmt or "%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{int(record.msecs):03d}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        text = super().formatMessage(record)
        if getattr(record, "job_id", None) is None:
            return text
        batch = f" batch={record.batch_id}" if record.batch_id else ""  # type: ignore[attr-defined]
        return text + (
            f" [job={record.job_id} name={record.job_name}"  # type: ignore[attr-defined]
            f" attempt={record.job_attempt}{batch}]"  # type: ignore[attr-defined]
        )


class _JSONFormatter(_TextFormatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts |= {key: value for key in _NO_JOB if (value := getattr(record, key, None))}
        facts |= getattr(record, "facts", {})
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False, default=str)


def set_up_logging(format: LogFormat, level: int) -> None:
    """Log to standard error, unless the application has set up logging of its own.

    Args:
        format: ``text``, or ``json`` for one object a line.
        level: the level of our own lines, and of the root logger where we set it up.
    """
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.addFilter(JobLogFilter())
        handler.setFormatter(_JSONFormatter() if format == "json" else _TextFormatter())
        root.addHandler(handler)
        root.setLevel(level)
    for name in ("dispatcher", "dispatcher.worker", "dispatcher.supervisor"):
        logger = logging.getLogger(name)
        logger.disabled = False  # a dictConfig of the application disables what it finds
    logging.getLogger("dispatcher").setLevel(level)


def _job_facts() -> dict[str, object]:
    try:
        job = current_job()
    except NoCurrentJob:
        return _NO_JOB
    return {
        "job_id": job.id,
        "job_name": job.name,
        "job_attempt": job.attempt,
        "batch_id": job.batch_id,
    }
