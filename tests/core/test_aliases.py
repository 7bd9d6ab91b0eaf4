import signal
import sys
import textwrap

import pytest

from dispatcher_core import Alias, AliasRegistry, JobLoadError, UnknownJob
from dispatcher_core.aliases import load_module, load_object


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Writes modules that can be imported, and forgets them after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name, source):
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def shop(write_module):
    """A module with jobs, marked and not."""
    return write_module(
        "shop_jobs",
        """
        from dispatcher_core import job

        @job("pay", tries=5, timeout=30, retry_on=OSError)
        def pay(amount): return amount

        @job
        def refund(amount): return -amount

        @job
        class Ship:
            def handle(self): return "shipped"

        class Express(Ship):
            pass

        def secret_function(): ...

        number = 7
        """,
    )


def test_a_marked_job_answers_to_both_names(shop):
    """The given name and the qualified one lead to the same target."""
    registry = AliasRegistry(modules=[shop])
    assert registry.names() == ("pay", "shop_jobs.Ship", "shop_jobs.pay", "shop_jobs.refund")
    assert registry.resolve("pay") is registry.resolve("shop_jobs.pay")
    assert registry.resolve("pay").options.tries == 5
    assert registry.resolve("shop_jobs.Ship").call({}) == "shipped"


def test_each_handler_is_listed_once(shop):
    """A handler with several names is one, listed by its first."""
    names = [handler.name for handler in AliasRegistry(modules=[shop]).handlers()]
    assert names == ["pay", "shop_jobs.Ship", "shop_jobs.refund"]


@pytest.mark.parametrize(
    "name",
    [
        "shop_jobs.secret_function",
        "shop_jobs.Express",
        "shop_jobs.number",
        "shop_jobs",
        "os.system",
        "builtins.eval",
        "refund",
        "",
    ],
)
def test_nothing_else_can_be_named(shop, name):
    """A name that is neither a marked job nor an alias is unknown, whatever it names in Python."""
    with pytest.raises(UnknownJob) as caught:
        AliasRegistry(modules=[shop]).resolve(name)
    assert (caught.value.name, caught.value.code) == (name, "unknown-job")


@pytest.mark.parametrize("name", [[], {}, 7, None])
def test_what_is_no_name_is_unknown(name):
    """Nothing is registered for it, be it hashable or not."""
    with pytest.raises(UnknownJob):
        AliasRegistry().resolve(name)


def test_a_package_is_not_walked(write_module):
    """Jobs in the modules of a listed package are not found by themselves."""
    write_module("parcel.__init__", "")
    write_module("parcel.inner", "from dispatcher_core import job\n@job\ndef hidden(): ...\n")
    assert AliasRegistry(modules=["parcel"]).names() == ()


def test_a_module_may_be_listed_twice(shop):
    """The same job found twice is one job."""
    assert AliasRegistry(modules=[shop, shop]).names() == AliasRegistry(modules=[shop]).names()


def test_an_alias_needs_no_mark(shop):
    """An alias leads to any callable, by either notation, or given itself."""
    aliases = {
        "one": "shop_jobs.secret_function",
        "two": "shop_jobs:secret_function",
        "three": Alias("shop_jobs.Ship.handle"),
        "four": print,
    }
    registry = AliasRegistry(aliases)
    assert registry.names() == ("four", "one", "three", "two")
    assert registry.resolve("one").target is registry.resolve("two").target
    assert registry.resolve("one").options.tries == 1


def test_an_alias_keeps_the_options_of_the_mark(shop):
    """What an alias does not set is as the mark says; what it sets goes before."""
    aliases = {"plain": Alias("shop_jobs.pay"), "text": "shop_jobs.pay"}
    aliases["own"] = Alias("shop_jobs.pay", tries=2, backoff=(1, 2))
    registry = AliasRegistry(aliases, [shop])
    marked = registry.resolve("pay").options
    assert registry.resolve("plain").options == registry.resolve("text").options == marked
    own = registry.resolve("own").options
    assert (own.tries, own.backoff, own.timeout, own.retry_on) == (2, (1, 2), 30, OSError)


def test_an_alias_may_have_the_jobs_own_name(shop):
    """An alias for the job that has this name already changes its options for that name."""
    registry = AliasRegistry({"pay": Alias("shop_jobs.pay", tries=9)}, [shop])
    assert registry.resolve("pay").options.tries == 9
    assert registry.resolve("shop_jobs.pay").options.tries == 5


def test_one_name_for_two_jobs_is_refused(shop, write_module):
    """The start-up stops and names both, for marks as for aliases."""
    write_module("other_jobs", "from dispatcher_core import job\n@job('pay')\ndef pay(): ...\n")
    with pytest.raises(JobLoadError, match=r"'pay' .*shop_jobs\.pay.*other_jobs\.pay"):
        AliasRegistry(modules=[shop, "other_jobs"])
    with pytest.raises(JobLoadError, match=r"shop_jobs\.pay.*shop_jobs\.refund"):
        AliasRegistry({"pay": "shop_jobs.refund"}, [shop])


@pytest.mark.parametrize(
    ("aliases", "problem"),
    [
        ({"a": "no_such_module.f"}, "no_such_module"),
        ({"a": "shop_jobs.no_such"}, "no_such"),
        ({"a": "shop_jobs.number"}, "cannot be called"),
        ({"a": "shop_jobs"}, "cannot be called"),
        ({"a": "not a name"}, "not a name"),
        ({"a": ""}, "''"),
        ({"a b": "shop_jobs.pay"}, "'a b' cannot name a job"),
        ({"a": "collections.OrderedDict"}, r"without a handle\(\)"),
    ],
)
def test_a_wrong_alias_stops_the_start(shop, aliases, problem):
    """An alias that cannot work is refused when the registry is made."""
    with pytest.raises(JobLoadError, match=problem):
        AliasRegistry(aliases)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_module", "no_such_module"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def", "SyntaxError"),
        ("raise BaseException('weird')", "BaseException: weird"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise ValueError('one\\n  two')", "ValueError: one two"),
        ("class Odd(Exception):\n def __str__(self): raise self\nraise Odd", "Odd: .*no readable"),
        ("class Odd(Exception):\n def __str__(self): exit()\nraise Odd", "Odd: .*no readable"),
        ("import pytest; pytest.importorskip('no_such')", "Skipped: could not import 'no_such'"),
    ],
)
def test_a_module_that_does_not_import_stops_the_start(write_module, source, problem):
    """One line names the module and what happened, whatever that is; the cause is kept."""
    write_module("broken_jobs", source)
    with pytest.raises(JobLoadError, match=f"'broken_jobs' does not import.*{problem}") as caught:
        AliasRegistry(modules=["broken_jobs"])
    assert caught.value.target == "broken_jobs"
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)
    with pytest.raises(JobLoadError, match=f"'broken_jobs:run' cannot be loaded.*{problem}"):
        AliasRegistry({"run": "broken_jobs:run"})


@pytest.fixture
def on_interrupt():
    """Sets what SIGINT does, until the test is over."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_by_the_user_ends_the_start(write_module, on_interrupt):
    """Where Ctrl-C raises ``KeyboardInterrupt``, one that comes during the import is that."""
    on_interrupt(signal.default_int_handler)
    write_module("slow_jobs", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile 1: 7")
    with pytest.raises(KeyboardInterrupt):
        load_module("slow_jobs")


def test_an_interrupt_that_no_signal_raised_is_the_modules(write_module, on_interrupt):
    """Where the program handles SIGINT itself, as workers do, the module raised it."""
    on_interrupt(lambda *_: None)
    write_module("odd_jobs", "raise KeyboardInterrupt")
    with pytest.raises(JobLoadError, match=r"'odd_jobs' does not import: KeyboardInterrupt$"):
        load_module("odd_jobs")


def test_a_module_that_is_not_there_is_named():
    """A misspelt module is named."""
    with pytest.raises(JobLoadError, match="no_such_jobs"):
        load_module("no_such_jobs")


def test_objects_are_loaded_by_name():
    """Both notations are understood."""
    assert load_object("textwrap:dedent") is load_object("textwrap.dedent") is textwrap.dedent
