"""What is called in a child that is forked."""

import gc
import os
import warnings
import weakref

from dispatcher_wsgi_receiver.forks import after_fork


class Counter:
    """Counts how often it started afresh."""

    def __init__(self) -> None:
        self.starts = 0
        after_fork(self.start_afresh)

    def start_afresh(self) -> None:
        """Count."""
        self.starts += 1


def status_in_a_fork(status):
    """What a function returns in a child, as the exit status of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        process = os.fork()
    if process == 0:
        result = 255
        try:
            result = status()
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_the_method_is_called_in_the_child_only():
    """A child starts afresh, once; its parent does not."""
    counter = Counter()
    assert status_in_a_fork(lambda: counter.starts) == 1
    assert counter.starts == 0


def test_what_is_gone_is_not_kept_for_a_fork():
    """The object may go before a fork, which then calls nothing."""
    counter = Counter()
    reference = weakref.ref(counter)
    del counter
    gc.collect()
    assert reference() is None
    assert status_in_a_fork(lambda: 7) == 7
