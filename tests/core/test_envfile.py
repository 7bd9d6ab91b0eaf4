import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher_core.atomicfile import replace_file
from dispatcher_core.envfile import parse_env, read_env, with_value
from dispatcher_core.errors import ConfigError

KEY = "DISPATCHER_BACKEND_SECRET"

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
QUOTED = st.sampled_from(["", "old", '"old # x"', "'old # x'", '"a\\"b"', "a'b"])
OTHERS = st.sampled_from(
    [
        "",
        "   ",
        "# DISPATCHER_BACKEND_SECRET=comment",
        "DISPATCHER_BACKEND_SECRET_FILE=",
        "DISPATCHER_BACKEND_SECRET2=x",
        "MY_DISPATCHER_BACKEND_SECRET=x",
        "DISPATCHER_BACKEND_SECRET-X=1",
        "DISPATCHER_BACKEND_SECRET.X=1",
        "DISPATCHER_BACKEND_SECRETé=1",
        "export APP_ENV-X = 1",
        "dispatcher_backend_secret=x",
        "APP_ENV=local # here",
        'OTHER="open',
        "export",
        "not a line at all",
        "UMLAUT=Grüße\u2028\x85\x0b",
    ]
)


@st.composite
def env_files(draw):
    """A file as (before, after) the place of our key's value, with other lines around."""
    endings = st.sampled_from(["\n", "\r\n", "\r"])
    lines = draw(st.lists(OTHERS, unique=True, max_size=6))
    cut = draw(st.integers(0, len(lines)))
    before = "".join(line + draw(endings) for line in lines[:cut])
    before = draw(st.sampled_from(["", "\ufeff"])) + before
    before += draw(st.sampled_from(["", "export ", "  ", "\texport  "]))
    before += KEY + draw(st.sampled_from(["=", " = ", "= "]))
    after = draw(st.sampled_from(["", " ", " # comment", "\t#"]))
    after += "".join(draw(endings) + line for line in lines[cut:])
    return before, after + draw(st.sampled_from(["", "\n", "\r\n", "\r"]))


def values_of(text):
    return {key: entry.value for key, entry in parse_env(text.encode(), ".env").items()}


@given(env_files(), QUOTED, VALUES)
def test_replacing_a_value_changes_no_other_byte(file, old, value):
    """What stands before and after the value is kept, and the new value is read back."""
    before, after = file
    content = (before + old + after).encode()
    changed = with_value(content, KEY, value, ".env").decode()
    if old:
        assert changed.startswith(before)
        assert changed.endswith(after)
    else:
        entry = parse_env(changed.encode(), ".env")[KEY]
        assert before + after == changed[: entry.start] + changed[entry.end :]
    others = {key: item for key, item in values_of(content.decode()).items() if key != KEY}
    assert others | {KEY: value} == values_of(changed)


@given(st.lists(OTHERS, unique=True), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), VALUES)
def test_adding_a_key_only_appends(lines, ending, last, value):
    """A new key comes after all that was there, in the file's own line ending."""
    text = ending.join(lines) + (ending if last and lines else "")
    changed = with_value(text.encode(), KEY, value, ".env").decode()
    assert changed.startswith(text)
    assert value == values_of(changed)[KEY]
    if ending in text:
        assert changed.endswith(ending)


@given(env_files(), QUOTED)
def test_an_alphanumeric_value_keeps_the_quotes(file, old):
    """A generated secret goes into whatever quotes the old value had."""
    before, after = file
    quote = old[:1] if old[:1] in ("'", '"') else ""
    changed = with_value((before + old + after).encode(), KEY, "New1", ".env").decode()
    assert f"{quote}New1{quote}" in changed
    assert len(before + quote + "New1" + quote + after) == len(changed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("APP_ENV=a b", "a b"),
        ("APP_ENV=a#b", "a#b"),
        ("APP_ENV=#b", "#b"),
        ("APP_ENV=a #b", "a"),
        ("APP_ENV=a\t# b # c", "a"),
        ("APP_ENV= # b", ""),
        ("APP_ENV=", ""),
        ("APP_ENV=  a  ", "a"),
        ("APP_ENV=a\r", "a"),
        ("APP_ENV=$HOME", "$HOME"),
        ("APP_ENV='a # \\n$X'", "a # \\n$X"),
        ("APP_ENV='a' # b", "a"),
        ('APP_ENV="a # b"', "a # b"),
        ('APP_ENV="\\n\\r\\t\\"\\\\\\x" # c', '\n\r\t"\\\\x'),
        ("\ufeffAPP_ENV=a", "a"),
        ("  export APP_ENV=a", "a"),
    ],
)
def test_a_value_is_read_by_the_grammar(text, expected):
    """Quotes, escapes, comments and blanks mean what the grammar says."""
    assert {"APP_ENV": expected} == values_of(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('A=1\nAPP_ENV="open', "line 2: APP_ENV has a quote that is not closed"),
        ("APP_ENV='a'b", "line 1: APP_ENV has a quote"),
        ('APP_ENV="a\\"', "line 1: APP_ENV has a quote"),
        ("DISPATCHER_TIMEOUT", "line 1: DISPATCHER_TIMEOUT has no value"),
        ("DISPATCHER_TIMEOUT: 5", "line 1: DISPATCHER_TIMEOUT has no value"),
        ("APP_ENV=a\n\nexport APP_ENV=b", "sets APP_ENV twice, in lines 1 and 3"),
    ],
)
def test_a_wrong_line_of_ours_is_named(text, problem):
    """The error says which line and what is wrong with it."""
    with pytest.raises(ConfigError, match=problem):
        values_of(text)


@pytest.mark.parametrize("content", [b"A=1\nB=\xff", "APP_ENV=a".encode("utf-16")])
def test_a_file_that_is_not_utf8_is_refused(content):
    """Another encoding is an error, not a guess."""
    with pytest.raises(ConfigError, match="UTF-8"):
        parse_env(content, ".env")


def test_an_entry_knows_its_line():
    """Lines count from 1, and only LF, CR LF and CR end them."""
    entries = parse_env("A=1\u2028\x0b\r\n# x\nAPP_ENV=a\n".encode(), ".env")
    assert entries["APP_ENV"].line == 3
    entries = parse_env(b"A=1\rAPP_ENV=a\r\r\nDISPATCHER_TIMEOUT=1\n", ".env")
    assert [(entry.value, entry.line) for entry in entries.values()] == [("a", 2), ("1", 4)]


def test_a_carriage_return_alone_ends_a_line():
    """In a file with such lines the others stay, and a new key gets a line of that kind."""
    content = b"DISPATCHER_BACKEND_SECRET=old\rB=2\r"
    assert with_value(content, KEY, "new", ".env") == b"DISPATCHER_BACKEND_SECRET=new\rB=2\r"
    assert with_value(b"A=1\rB=2", KEY, "new", ".env") == b"A=1\rB=2\r" + f"{KEY}=new\r".encode()


def test_a_byte_that_is_not_utf8_is_found_by_its_line():
    """Its line is counted as those of the settings are."""
    with pytest.raises(ConfigError, match="see line 4: save it as UTF-8"):
        parse_env(b"A=1\rB=2\r\nC=3\n\xff", ".env")


def test_a_file_that_is_not_there_has_no_entries(tmp_path):
    """Neither a missing file nor a folder of that name is an error when reading."""
    assert read_env(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    assert read_env(tmp_path / ".env") == {}


def test_replacing_a_file_keeps_its_mode_and_follows_links(tmp_path):
    """The link stays a link; the file behind it gets the content and keeps its mode."""
    folder = tmp_path / "shared"
    folder.mkdir()
    target = folder / "env"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link = tmp_path / ".env"
    link.symlink_to(Path("shared") / "env")
    replace_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [target] == list(folder.iterdir())


def test_a_reader_holds_the_old_content_while_the_file_is_replaced(tmp_path):
    """The new content is another file that takes the name over in one step."""
    path = tmp_path / ".env"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_what_is_no_file_is_not_replaced(tmp_path):
    """A named pipe, a folder and a missing file are refused and left alone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError):
            replace_file(path, b"new")
    assert [pipe] == list(tmp_path.iterdir())
    assert stat.S_ISFIFO(pipe.stat().st_mode)
