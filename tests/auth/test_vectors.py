"""The examples of the standards, byte for byte."""

from __future__ import annotations

import json

import pytest

from consona.auth.errors import TokenInvalid
from consona.auth.jws import encode, read_compact
from consona.auth.keys import SigningKey

RFC7515_A1 = {  # RFC 7515, appendix A.1: HS256
    "key": {
        "kty": "oct",
        "alg": "HS256",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    },
    "token": (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    ),
}
RFC7515_A2 = {  # RFC 7515, appendix A.2: RS256
    "key": {
        "kty": "RSA",
        "alg": "RS256",
        "n": (
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR"
            "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
            "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia"
            "GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
        ),
        "e": "AQAB",
    },
    "token": (
        "eyJhbGciOiJSUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9u"
        "JdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eS"
        "N9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AX"
        "LIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    ),
}
RFC7515_A3 = {  # RFC 7515, appendix A.3: ES256
    "key": {
        "kty": "EC",
        "alg": "ES256",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    },
    "token": (
        "eyJhbGciOiJFUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    ),
}
RFC8037_A4 = {  # RFC 8037, appendix A.4: EdDSA, with the key of A.2
    "key": {"kty": "OKP", "alg": "EdDSA", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    "token": (
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
        ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    ),
}
ALL = {"RFC 7515 A.1": RFC7515_A1, "RFC 7515 A.2": RFC7515_A2, "RFC 7515 A.3": RFC7515_A3, "RFC 8037 A.4": RFC8037_A4}


@pytest.mark.parametrize("vector", ALL.values(), ids=ALL)
def test_the_signature_of_the_example_is_right_and_a_changed_one_is_not(vector):
    key = SigningKey.from_jwk(vector["key"])
    compact = read_compact(vector["token"])
    assert compact.algorithm == key.algorithm
    assert key.verify(compact.signed, compact.signature)
    assert not key.verify(compact.signed + b"A", compact.signature)
    changed = bytes([compact.signature[0] ^ 1]) + compact.signature[1:]
    assert not key.verify(compact.signed, changed)


@pytest.mark.parametrize("name", ["RFC 7515 A.1", "RFC 7515 A.2", "RFC 7515 A.3"])
def test_the_payload_of_the_example_is_read(name):
    claims = json.loads(read_compact(ALL[name]["token"]).payload)
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def test_the_same_signature_is_made_where_it_is_not_left_to_chance():
    hmac_key = SigningKey.from_jwk(RFC7515_A1["key"])
    compact = read_compact(RFC7515_A1["token"])
    assert hmac_key.sign(compact.signed) == compact.signature
    private = RFC8037_A4["key"] | {"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}  # RFC 8037, appendix A.1
    compact = read_compact(RFC8037_A4["token"])
    assert SigningKey.from_jwk(private).sign(compact.signed) == compact.signature


def test_the_thumbprint_of_the_example_is_the_id_of_a_key_without_one():
    """RFC 8037, appendix A.3."""
    assert SigningKey.from_jwk(RFC8037_A4["key"]).id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_unsecured_example_is_refused():
    """RFC 7515, appendix A.5: `alg` is `none`, and the signature is empty."""
    token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    with pytest.raises(TokenInvalid):
        read_compact(token)


def test_the_example_of_a_critical_extension_is_refused():
    """RFC 7515, appendix E."""
    header = encode(
        b'{"alg":"none",\r\n "crit":["http://example.invalid/UNDEFINED"],\r\n "http://example.invalid/UNDEFINED":true\r\n}'
    )
    with pytest.raises(TokenInvalid, match="crit"):
        read_compact(f"{header}.RkFJTA.AA")
