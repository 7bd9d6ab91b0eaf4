"""What came of a dispatch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from .errors import DispatcherError

__all__ = ["Result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a dispatch.

    Attributes:
        id: the id of the job or batch: known even where sending failed, so that it can be
            sent again without being enqueued twice.
        ids: the ids of the jobs in it, in order.
        state: the state that the backend answered, None where sending failed.
        duplicate: whether the backend knew the id already.
        response: the backend's answer.
        error: why sending failed; it has a ``code``.
    """

    id: str
    ids: tuple[str, ...]
    state: str | None = None
    duplicate: bool = False
    response: Mapping[str, object] = field(default_factory=dict, hash=False)
    error: DispatcherError | None = None

    @property
    def ok(self) -> bool:
        """Whether the backend accepted it: from then on it is not lost."""
        return self.error is None

    @property
    def failed(self) -> bool:
        """Whether sending failed."""
        return self.error is not None

    def raise_for_error(self) -> Self:
        """The result itself.

        Raises:
            DispatcherError: sending failed.
        """
        if self.error is not None:
            raise self.error
        return self
