"""What a worker logs, and how."""

import io
import json
import logging
import logging.config
import re
from collections.abc import Callable, Iterator

import pytest

from dispatcher_core.testing import job_context
from dispatcher_local_queue.logs import JobLogFilter, set_up_logging

LOGGING_APPLICATION = """
import logging
from dispatcher_core import job

logger = logging.getLogger("shop")

@job("talk", tries=2, backoff=0)
def talk(password, fails=False):
    logger.info("in the job")
    logger.debug("too much")
    if fails:
        raise ValueError("no luck")
"""

LOGGING_OF_ITS_OWN = """
import logging, logging.config
from dispatcher_core import job

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": True,
    "filters": {"job": {"()": "dispatcher_local_queue.logs.JobLogFilter"}},
    "formatters": {"own": {"format": "OWN %(job_id)s %(job_attempt)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own",
                         "filters": ["job"]}},
    "root": {"level": "INFO", "handlers": ["own"]},
})

@job("talk")
def talk(password):
    logging.getLogger("shop").info("in the job")
"""


@pytest.fixture
def set_up() -> Iterator[Callable[..., None]]:
    """Sets up logging in a program that has these handlers; what was before is put back."""
    root, ours = logging.getLogger(), logging.getLogger("dispatcher")
    levels = root.level, ours.level

    def set_up(format, level: int, *handlers: logging.Handler) -> None:
        root.handlers[:] = handlers
        set_up_logging(format, level)

    yield set_up
    root.handlers[:] = []
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_a_line_of_text(set_up, capsys) -> None:
    """A line has time in UTC, level, logger and message; in a job also which job."""
    set_up("text", logging.INFO)
    logger = logging.getLogger("shop")
    logger.info("before")
    with job_context(id="j-1", name="mail", attempt=2, batch_id="b-1"):
        logger.warning("within %d", 7)
    first, second = capsys.readouterr().err.splitlines()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rf"{time} INFO shop: before", first)
    assert re.fullmatch(
        rf"{time} WARNING shop: within 7 \[job=j-1 name=mail attempt=2 batch=b-1\]", second
    )


def test_a_line_of_json(set_up, capsys) -> None:
    """As JSON, each record is one object on one line, its traceback included."""
    set_up("json", logging.INFO)
    logger = logging.getLogger("shop")
    with job_context(id="j-1", name="mail"):
        logger.info("within\nä", extra={"facts": {"took": 0.5}})
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("oh")
    within, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert within.pop("time").endswith("Z")
    assert within == {
        "level": "INFO",
        "logger": "shop",
        "message": "within\nä",
        "job_id": "j-1",
        "job_name": "mail",
        "job_attempt": 1,
        "took": 0.5,
    }
    assert "ZeroDivisionError" in failed["traceback"]
    assert "job_id" not in failed


def test_the_level(set_up, capsys) -> None:
    """Lines below the level are not logged, ours or the application's."""
    set_up("text", logging.WARNING)
    for name in ("shop", "dispatcher.worker"):
        logging.getLogger(name).info("quiet")
        logging.getLogger(name).warning("loud")
    logged = capsys.readouterr().err
    assert (logged.count("loud"), logged.count("quiet")) == (2, 0)


def test_an_application_with_handlers_of_its_own(set_up, capsys) -> None:
    """Where the root logger has a handler, none is added and its level stays."""
    root = logging.getLogger()
    root.setLevel(logging.ERROR)
    own = logging.StreamHandler(io.StringIO())
    set_up("text", logging.INFO, own)
    assert (root.handlers, root.level) == ([own], logging.ERROR)
    logging.getLogger("dispatcher.worker").info("seen")
    assert own.stream.getvalue() == "seen\n"
    assert capsys.readouterr().err == ""


def test_loggers_that_were_disabled(set_up, capsys) -> None:
    """A dictConfig that disables what it finds does not silence the worker."""
    logging.getLogger("dispatcher.worker").disabled = True
    set_up("text", logging.INFO)
    logging.getLogger("dispatcher.worker").info("seen")
    assert "seen" in capsys.readouterr().err


def test_the_filter_for_any_handler() -> None:
    """The filter keeps every record and gives it the job, or None outside of one."""
    names = ("job_id", "job_name", "job_attempt", "batch_id")
    inside, outside = (logging.makeLogRecord({"msg": "m"}) for _ in range(2))
    with job_context(id="j-1", name="mail", attempt=3, batch_id="b"):
        assert JobLogFilter().filter(inside) is True
    assert JobLogFilter().filter(outside) is True
    assert [getattr(inside, name) for name in names] == ["j-1", "mail", 3, "b"]
    assert [getattr(outside, name) for name in names] == [None] * 4


def test_a_worker_tells_of_its_jobs(application, start_work, jobs) -> None:
    """A worker's log has a line a job, the job's own lines, and never a payload."""
    work = start_work(app_dir=application(LOGGING_APPLICATION))
    good = jobs.put("talk", {"password": "hunter2"}, queue="chat")
    bad = jobs.put("talk", {"password": "hunter2", "fails": True}, queue="chat")
    odd = jobs.put("talk", {"hunter2": "hunter2"})
    for id in (good, bad, odd):
        jobs.ended(id)
    work.stop()
    assert "hunter2" not in work.text.replace("unexpected keyword argument 'hunter2'", "")
    assert "too much" not in work.text
    banner = work.lines[0]
    assert "queue sqlite:///" in banner and "every queue" in banner and "processes" in banner
    assert any("jobs known: shop.talk, talk" in line for line in work.lines)
    assert f"INFO shop: in the job [job={good} name=talk attempt=1]" in work.text
    line = next(line for line in work.lines if f"job id={good}" in line)
    assert re.search(
        r"INFO dispatcher.worker: job id=\S+ name=talk queue=chat attempt=1 waited=[\d.]+"
        r" took=[\d.]+ outcome=succeeded$",
        line,
    )
    tries = [line for line in work.lines if f"job id={bad}" in line]
    assert [re.search(r"outcome=.*", line)[0] for line in tries] == [
        "outcome=retried next_try_in=0.0",
        "outcome=failed",
    ]
    assert " ERROR " in tries[1]
    assert "ValueError: no luck" in work.text
    assert re.search(r"stopped: 2 failed, 1 scheduled, 1 succeeded; 0 put back", work.text)


def test_a_worker_that_logs_json(application, start_work, jobs) -> None:
    """Every line that a worker prints is one JSON object, tracebacks included."""
    work = start_work(
        *("--log-format", "json", "-v"),
        app_dir=application(LOGGING_APPLICATION),
        until='"message": "ready"',
    )
    id = jobs.put("talk", {"password": "hunter2", "fails": True})
    jobs.ended(id)
    work.stop()
    records = [json.loads(line) for line in work.lines]
    assert "hunter2" not in work.text
    assert {"dispatcher.supervisor", "dispatcher.worker", "shop"} <= {
        record["logger"] for record in records
    }
    (ended,) = [record for record in records if record.get("outcome") == "failed"]
    assert (ended["id"], ended["name"], ended["attempt"]) == (id, "talk", 2)
    assert {"waited", "took", "queue"} <= ended.keys()
    assert [record["job_id"] for record in records if record["message"] == "too much"] == [id] * 2
    assert any("ValueError: no luck" in record.get("traceback", "") for record in records)


def test_a_worker_of_an_application_that_logs(application, start_work, jobs) -> None:
    """An application's own logging gets every line of its workers, each once."""
    work = start_work(app_dir=application(LOGGING_OF_ITS_OWN))
    id = jobs.put("talk", {"password": "hunter2"})
    jobs.ended(id)
    work.stop()
    assert work.lines.count(f"OWN {id} 1 in the job") == 1
    ended = [line for line in work.lines if "outcome=succeeded" in line]
    assert len(ended) == 1
    assert ended[0].startswith("OWN None None job id=")


def test_quiet_and_loud(start_work, jobs) -> None:
    """With ``-q`` a worker whose jobs succeed says nothing at all."""
    id = jobs.put("add", {"a": 1, "b": 2})
    work = start_work("-q", "--burst", until="")
    assert jobs.ended(id).state == "succeeded"
    assert work.wait() == 0
    assert work.text == ""
