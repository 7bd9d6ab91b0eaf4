import base64
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from dispatcher_core import ConfigError, SignatureError, Signer
from dispatcher_core.signing import TOLERANCE, read_headers, signed_path

RAW = "A1b2" * 16
WHSEC = "whsec_" + base64.b64encode(bytes(range(100, 132))).decode()
NOW = 1_674_087_231


def headers(
    signer: Signer, body: bytes, id: str = "job_1", timestamp: int = NOW
) -> dict[str, str]:
    """The headers of a signed request."""
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signer.sign(id, timestamp, body),
    }


def webhook(secret: str) -> Webhook:
    """The reference implementation's signer; it takes the bytes of a raw secret."""
    return Webhook(secret if secret.startswith("whsec_") else secret.encode())


def test_the_published_vector():
    """The example of the Standard Webhooks specification."""
    signer = Signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("id", "signed", "signature"),
    [
        (
            "req_1",
            signed_path("GET", "/jobs/job_01HZY"),
            "v1,CYHCDMAMmMFZkRiPdX1Tcu89WAc+jZu7ZBzJr0b8zZk=",
        ),
        (
            "job_01HZY",
            b'{"type":"dispatch","job":"send-mail","payload":{"to":"a@b.c"},"queue":"default",'
            b'"delay":0}',
            "v1,wvau5NhBCqQAm05iwcmpfq4VLeDb5ax5WZLASZ2Jc8I=",
        ),
    ],
)
def test_a_raw_secret_signs_with_its_own_bytes(id, signed, signature):
    """Two vectors on which two reference implementations agree."""
    assert Signer(RAW).sign(id, NOW, signed) == signature


@pytest.mark.parametrize("secret", [RAW, WHSEC], ids=["raw", "whsec"])
def test_the_reference_implementation_signs_for_us(secret):
    """What the ``standardwebhooks`` package signs, we accept: a body, and method and path."""
    for text in ('{"name":"Zoë"}', "GET /jobs/abc"):
        moment = datetime.fromtimestamp(NOW, UTC)
        signature = webhook(secret).sign("msg_1", moment, text)
        signed = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(NOW),
            "webhook-signature": signature,
        }
        Signer(secret).verify(signed, text.encode(), NOW)
        assert signature == Signer(secret).sign("msg_1", NOW, text.encode())


@pytest.mark.parametrize("secret", [RAW, WHSEC], ids=["raw", "whsec"])
def test_the_reference_implementation_verifies_us(secret):
    """What we sign, the ``standardwebhooks`` package accepts; altered, it does not."""
    now = int(datetime.now(UTC).timestamp())
    body = '{"name":"Zoë"}'.encode()
    signed = headers(Signer(secret), body, timestamp=now)
    assert webhook(secret).verify(body, signed) == {"name": "Zoë"}
    with pytest.raises(WebhookVerificationError):
        webhook(secret).verify(body + b" ", signed)


@given(
    body=st.binary(max_size=200),
    id=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", fullmatch=True),
)
def test_what_is_signed_verifies(body, id):
    """Any body under any id verifies with the secret that signed it, and no other."""
    signed = headers(Signer(RAW), body, id)
    Signer(RAW).verify(signed, body, NOW)
    with pytest.raises(SignatureError):
        Signer(WHSEC).verify(signed, body, NOW)


@pytest.mark.parametrize(
    ("change", "body"),
    [
        ({}, b'{"a":1} '),
        ({}, b""),
        ({"webhook-id": "job_2"}, b'{"a":1}'),
        ({"webhook-timestamp": str(NOW + 1)}, b'{"a":1}'),
    ],
)
def test_what_is_altered_is_refused(change, body):
    """The signature covers the id, the time and each byte of the body."""
    signed = headers(Signer(RAW), b'{"a":1}') | change
    with pytest.raises(SignatureError) as caught:
        Signer(RAW).verify(signed, body, NOW)
    assert caught.value.code == "bad-signature"
    assert RAW not in str(caught.value)


def test_the_last_byte_of_a_long_body_counts():
    """Nothing is cut off before it is signed."""
    body = b"x" * (1024 * 1024)
    signed = headers(Signer(RAW), body)
    Signer(RAW).verify(signed, body, NOW)
    with pytest.raises(SignatureError):
        Signer(RAW).verify(signed, body[:-1] + b"y", NOW)


def test_a_signature_for_one_method_is_none_for_another():
    """GET, DELETE and another path each sign something else."""
    signed = headers(Signer(RAW), signed_path("GET", "/jobs/a"))
    for method, path in (("DELETE", "/jobs/a"), ("GET", "/jobs/b")):
        with pytest.raises(SignatureError):
            Signer(RAW).verify(signed, signed_path(method, path), NOW)


@pytest.mark.parametrize("off", [-TOLERANCE, -1, 0, 1, TOLERANCE])
def test_a_clock_may_be_a_little_off(off):
    """Up to 300 s in either direction are accepted."""
    Signer(RAW).verify(headers(Signer(RAW), b"", timestamp=NOW + off), b"", NOW)


@pytest.mark.parametrize("off", [-TOLERANCE - 1, TOLERANCE + 1, -NOW + 10**9, 10**9])
def test_an_old_or_future_request_is_refused(off):
    """Beyond 300 s the request is refused with a code of its own."""
    signed = headers(Signer(RAW), b"", timestamp=NOW + off)
    with pytest.raises(SignatureError, match="clocks") as caught:
        Signer(RAW).verify(signed, b"", NOW)
    assert caught.value.code == "timestamp-out-of-range"


def test_previous_secrets_verify_and_do_not_sign():
    """While senders change to a new secret, the old one is accepted; once removed it is not."""
    old, both, new = Signer(RAW), Signer(WHSEC, [RAW]), Signer(WHSEC)
    signed = headers(old, b"x")
    both.verify(signed, b"x", NOW)
    both.verify(headers(new, b"x"), b"x", NOW)
    with pytest.raises(SignatureError):
        new.verify(signed, b"x", NOW)
    assert both.sign("a", NOW, b"x") == new.sign("a", NOW, b"x")


def test_one_of_several_signatures_is_enough():
    """A header may have eight signatures; tokens of other versions and forms are skipped."""
    good = Signer(RAW).sign("job_1", NOW, b"x")
    wrong = Signer(WHSEC).sign("job_1", NOW, b"x")
    token = " ".join(["v2,abc", "v1", "v1,", "v1,a,b", wrong, good, "v1a,zzz", wrong])
    signed = headers(Signer(RAW), b"x") | {"webhook-signature": token}
    Signer(RAW).verify(signed, b"x", NOW)
    with pytest.raises(SignatureError, match="over 8"):
        Signer(RAW).verify(signed | {"webhook-signature": f"{token} {good}"}, b"x", NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, ""])
def test_an_unsigned_request_is_refused(name, value):
    """A missing or empty header is a bad signature, never a reason to let through."""
    signed: dict[str, str] = headers(Signer(RAW), b"x")
    del signed[name]
    if value is not None:
        signed[name] = value
    with pytest.raises(SignatureError, match="not signed") as caught:
        Signer(RAW).verify(signed, b"x", NOW)
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "a.1674087231"),
        ("webhook-id", "a b"),
        ("webhook-id", "-a"),
        ("webhook-id", "é"),
        ("webhook-id", "a\n"),
        ("webhook-id", "a,b"),
        ("webhook-id", "x" * 65),
        *[
            ("webhook-timestamp", text)
            for text in (
                "+674087231",
                " 674087231",
                "1_67408723",
                "167408723.",
                "1e9",
                "\uff11" * 10,
            )
        ],
        ("webhook-timestamp", "167408723"),
        ("webhook-timestamp", "16740872310"),
        ("webhook-timestamp", "1674087231\n"),
    ],
)
def test_an_ill_formed_header_is_malformed(name, value):
    """Ids and timestamps have one form: no dots, signs, blanks or digits of other scripts."""
    with pytest.raises(SignatureError, match=name) as caught:
        read_headers(headers(Signer(RAW), b"x") | {name: value})
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    "token",
    [
        "none",
        "v0,",
        "v1",
        "v1,",
        "v1,a,b",
        "v1," + "A" * 43,
        "v1," + "A" * 44,
        "v1," + "A" * 42 + "==",
        "v1,é" + "A" * 42 + "=",
        "\0",
        "  ",
        "V1," + "A" * 43 + "=",
    ],
)
def test_no_malformed_signature_gets_through(token):
    """Whatever stands in place of the signature is a bad signature."""
    signed = headers(Signer(RAW), b"x") | {"webhook-signature": token}
    with pytest.raises(SignatureError) as caught:
        Signer(RAW).verify(signed, b"x", NOW)
    assert caught.value.code == "bad-signature"


@given(text=st.text(max_size=80))
def test_any_header_is_answered_with_an_error_of_ours(text):
    """Whatever text comes in a header, verification ends with one kind of error."""
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        with pytest.raises(SignatureError):
            Signer(RAW).verify(headers(Signer(RAW), b"x") | {name: text}, b"x", NOW)


def test_a_digest_has_one_spelling():
    """Base64 whose last letter has stray bits is not strict, so it is skipped."""
    good = Signer(RAW).sign("job_1", NOW, b"x")
    for letter in set(string.ascii_letters + string.digits + "+/") - {good[-2]}:
        signed = headers(Signer(RAW), b"x") | {"webhook-signature": f"{good[:-2]}{letter}="}
        with pytest.raises(SignatureError):
            Signer(RAW).verify(signed, b"x", NOW)


@pytest.mark.parametrize("secret", ["", "secret", "short", "whsec_", "whsec_YWJj", "x" * 64])
def test_a_weak_secret_signs_nothing(secret):
    """A signer is not made from a secret that anybody would guess."""
    with pytest.raises(ConfigError):
        Signer(secret)
    with pytest.raises(ConfigError):
        Signer(RAW, [secret])


@pytest.mark.parametrize("secret", [None, 5, RAW.encode(), [RAW]])
def test_a_secret_is_text(secret):
    """Something else is refused with a word on what it is, and none on what is in it."""
    for arguments in ([secret], [RAW, [secret]]):
        with pytest.raises(ConfigError, match=f"not of type {type(secret).__name__}$"):
            Signer(*arguments)


def test_a_signer_does_not_show_its_key():
    """Neither secret nor key is in the text of a signer."""
    assert RAW not in repr(Signer(RAW)) + str(vars(Signer(RAW)).keys())
