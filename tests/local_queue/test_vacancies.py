"""When the empty places of worker processes are filled."""

import time

from dispatcher_local_queue.vacancies import Vacancies


def test_every_place_is_empty_in_the_beginning() -> None:
    """All are to be filled at once, and who is filled is no vacancy any more."""
    vacancies = Vacancies(2)
    assert vacancies.due() == [0, 1]
    vacancies.fill(0)
    assert (bool(vacancies), vacancies.due()) == (True, [1])
    vacancies.fill(1)
    assert (bool(vacancies), vacancies.due(), vacancies.next_due()) == (False, [], float("inf"))


def test_pauses_grow_with_early_deaths() -> None:
    """Three early deaths are free; each further one in a row, in the same place, doubles it."""
    vacancies = Vacancies(2)
    added = [vacancies.add(0, early=True) for _ in range(13)]
    assert [deaths for deaths, _ in added] == list(range(1, 14))
    pauses = [pause for _, pause in added]
    assert pauses == [0, 0, 0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    assert vacancies.add(1, early=True) == (1, 0)
    assert vacancies.add(0, early=False) == (0, 0)
    assert vacancies.add(0, early=True) == (1, 0)


def test_a_place_that_is_to_wait() -> None:
    """It is not due before its time has come; and nothing is, once they are cleared."""
    vacancies = Vacancies(1)
    vacancies.put_off(0, 1000)
    assert vacancies.due() == []
    assert 900 < vacancies.next_due() - time.monotonic() <= 1000
    vacancies.put_off(0, 0)
    assert vacancies.due() == [0]
    vacancies.clear()
    assert not vacancies
