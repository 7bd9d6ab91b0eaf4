import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher_core.errors import ConfigError
from dispatcher_core.keys import signing_key

RAW = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!%&()*+-./:;<=>?@[]^_{|}~"


def test_a_raw_secret_signs_with_its_own_bytes():
    """Raw secrets are not decoded."""
    secret = "kR7vZp2QmX9tLw4NcB6yHs8D"
    assert secret.encode() == signing_key(secret)


def test_the_published_vectors_are_accepted():
    """The secrets of the published test vectors stand for the keys stated there."""
    assert signing_key("A1b2" * 16) == b"A1b2" * 16
    text = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert base64.b64decode(text) == signing_key(f"whsec_{text}")


@given(st.binary(min_size=24, max_size=64).filter(lambda key: len(set(key)) > 4))
def test_any_encoded_key_is_decoded(key):
    """After whsec_, the key is what the base64 stands for."""
    assert key == signing_key("whsec_" + base64.b64encode(key).decode())


@given(st.text(RAW, min_size=24, max_size=100).filter(lambda text: len(set(text)) > 12))
def test_every_allowed_character_may_be_in_a_raw_secret(text):
    """All printable ASCII but the excluded characters is accepted."""
    assert text.encode() == signing_key(text)


@pytest.mark.parametrize("character", [*" ,'\"#$\\`\t\n\x7f\0", "é", "\udc80"])
def test_a_character_that_is_not_allowed_is_refused(character):
    """Blanks, commas, quotes, #, $, backslash, backtick, control and non-ASCII are refused."""
    with pytest.raises(ConfigError, match="position 25"):
        signing_key("kR7vZp2QmX9tLw4NcB6yHs8D" + character + "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",  # cut off
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMQ",  # not padded
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMQ=",  # half padded
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMQ===",  # padded too much
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMR==",  # stray bits
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS-",  # the alphabet of URLs
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
        "MfKQ9r8GKYqrTwjUPD8I LPZIo2LaLaSw",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwé",
        "a-long-raw-secret-that-is-no-base64",
    ],
)
def test_what_follows_whsec_is_strict_base64_and_never_raw(text):
    """A whsec_ secret that does not decode is refused, not taken as it is."""
    with pytest.raises(ConfigError, match="padded standard base64"):
        signing_key(f"whsec_{text}")


@pytest.mark.parametrize(
    "secret", ["kR7vZp2QmX9tLw4NcB6yHs8", "whsec_" + base64.b64encode(bytes(range(23))).decode()]
)
def test_a_key_below_24_bytes_is_refused(secret):
    """Both forms need 24 bytes of key."""
    with pytest.raises(ConfigError, match="less than 24 bytes"):
        signing_key(secret)


@pytest.mark.parametrize(
    "secret",
    [
        "secret" * 4,
        "secretsecretsecretsecretsec",
        "SecretSecretSecretSecret",
        "password" * 3,
        "changeme" * 4,
        "changeme-changeme-changeme",
        "change_me_change_me_change_me",
        "password1password2password3",
        "your-secret-key-here-changeme",
        "a" * 24,
        "0" * 64,
        "0" * 8 + "-0000-0000-0000-" + "0" * 12,
        "-" * 30,
        "1234567890" * 3,
        "whsec_" + "A" * 32,
        "whsec_" + base64.b64encode(b"secret" * 4).decode(),
        "whsec_" + base64.b64encode(b"\xff" * 32).decode(),
    ],
)
def test_a_secret_that_anybody_would_guess_is_refused(secret):
    """Placeholders, repeated to length or not, and one repeated character are refused."""
    with pytest.raises(ConfigError, match="would guess"):
        signing_key(secret)


@pytest.mark.parametrize(
    "secret", ["kR7vZp2Q", "kR7v$Zp2QmX9tLw4NcB6yHs8D", "whsec_kR7vZp2Q", "changeme" * 4]
)
def test_an_error_says_what_to_do_and_never_contains_the_secret(secret):
    """Errors end up in logs: they name the rule and the way out, not the secret."""
    with pytest.raises(ConfigError) as caught:
        signing_key(secret)
    assert secret.removeprefix("whsec_") not in str(caught.value)
    assert "make a new one with `dispatcher secret`" in str(caught.value)
