import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher_core import jsontext
from dispatcher_core.jsontext import MAX_DEPTH, MAX_INTEGER, dump, flaw, load, plain_object

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_dumped_is_loaded_as_it_was(value):
    """Any JSON value survives being written and read, and has no flaw."""
    assert flaw(value, "payload") is None
    assert load(dump(value).encode("utf-8")) == value


@given(VALUES)
def test_what_is_dumped_is_what_json_itself_writes(value):
    """The text is that of the standard library, compact and in letters of its own."""
    expected = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    assert dump(value) == expected


@pytest.mark.parametrize("value", [None, "text", 1.5, {"a": [1, {"b": "é"}]}])
def test_a_python_without_the_quick_encoder(value, monkeypatch):
    """Where the standard library has no encoder written in C, its other one is used."""
    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    encode = jsontext._encoder()
    assert encode == jsontext._ENCODER.encode
    assert encode(value) == dump(value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_are_a_value_or_an_error(data):
    """Whatever the bytes are, there is a value or a ``ValueError``."""
    try:
        value = load(data)
    except ValueError:
        return
    assert flaw(value, "value") is None


@given(st.text(alphabet='[]{}",:\\u0dD8bc1e+-.', max_size=40))
def test_anything_like_json_is_a_value_or_an_error(text):
    """Text made of JSON's own characters is read or refused, and what is read can be sent."""
    try:
        value = load(text.encode())
    except ValueError:
        return
    dump(value).encode("utf-8")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"01", "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":1,"a":2}', "same key twice"),
        (b'{"b":1,"\\u0062":2}', "same key twice"),
        (b'[{"x":{"a":1,"a":1}}]', "same key twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "beyond the range"),
        (b"-1e999", "beyond the range"),
        (b"9223372036854775808", "beyond"),
        (b"-9223372036854775808", "beyond"),
        (b"1" * 5000, "beyond"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udfff":1}', "lone surrogate"),
        (b'"\\udc00\\ud800"', "lone surrogate"),
    ],
)
def test_what_languages_read_differently_is_refused(data, problem):
    """Each kind of text that another program could read as something else is refused."""
    with pytest.raises(ValueError, match=problem):
        load(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b" [1, 2.50,\t-0.0]\n", [1, 2.5, -0.0]),
        (b"9223372036854775807", MAX_INTEGER),
        (b"-9223372036854775807", -MAX_INTEGER),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\u0000"', "\0"),
        (b'{"":{}}', {"": {}}),
        (b"1e5", 1e5),
        (b"null", None),
    ],
)
def test_what_is_unusual_but_clear_is_read(data, value):
    """The edges of what is allowed are allowed."""
    assert load(data) == value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_the_depth_is_limited(opening, closing):
    """64 levels are read, 65 are not, and thousands are no crash."""
    for depth in (1, MAX_DEPTH):
        load((opening * depth + "1" + closing * depth).encode())
    for depth in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(ValueError, match="nested deeper"):
            load((opening * depth + "1" + closing * depth).encode())


def test_many_flat_containers_are_not_deep():
    """Only nesting counts, not how many arrays there are, nor brackets in strings."""
    value = [[], {}] * 200 + ["[[[{{{" * 50]
    assert load(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": object}, "p.a is a type, which is no JSON value"),
        ({"a": {"b": [0, b"x"]}}, "p.a.b[1] is a bytes, which is no JSON value"),
        ({"a": (1, {2})}, "p.a[1] is a set, which is no JSON value"),
        ({"a": {3: 4}}, "p.a has the key 3: the keys of a JSON object are strings"),
        ({None: 1}, "p has the key None: the keys of a JSON object are strings"),
        ({"a": math.inf}, "p.a is inf, which JSON cannot say"),
        ({"a": -(2**63)}, "p.a is an integer beyond ±(2^63-1): send it as a string"),
        ({"a": ["\udc80"]}, "p.a[0] has a lone surrogate, which no UTF-8 text can hold"),
        ({"\udc80": 1}, "a key of p has a lone surrogate, which no UTF-8 text can hold"),
    ],
)
def test_a_flaw_has_its_path(value, problem):
    """What keeps a value from being JSON is named with its path."""
    assert flaw(value, "p") == problem
    with pytest.raises(ValueError) as caught:
        plain_object(value, "p")
    assert str(caught.value) == problem


@pytest.mark.parametrize("value", [None, 7, "text", [("a", 1)], {1, 2}])
def test_only_a_mapping_is_an_object(value):
    """A payload that is no mapping is named by its type."""
    with pytest.raises(ValueError, match=rf"p must be a JSON object .*{type(value).__name__}"):
        plain_object(value, "p")


def test_a_value_that_contains_itself_is_too_deep():
    """An endless value is refused, and not followed for ever."""
    endless: dict[str, object] = {}
    endless["a"] = [endless, endless]
    assert "nested deeper" in str(flaw(endless, "p"))


def test_a_value_without_flaw_fits_into_an_object():
    """The deepest value without flaw can be read once it is a member of an object."""
    value: object = 1
    while flaw([value], "p") is None:
        value = [value]
    assert load(dump({"payload": value}).encode()) == {"payload": value}
    with pytest.raises(ValueError, match="nested deeper"):
        load(dump({"payload": [value]}).encode())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_say_is_not_dumped(value):
    """NaN and infinity are refused, not written as words that no parser knows."""
    with pytest.raises(ValueError):
        dump(value)
    with pytest.raises(TypeError):
        dump({"a": {value}})
