from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.rest.client import content_decoding
from consona.rest.client.content_decoding import ACCEPT_ENCODING, PIECE_BYTES, decoder_for
from consona.rest.client.errors import BadAnswer

BODY = b"".join(b"%d, " % number for number in range(20_000))


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def unpack(coding, data, step=1000):
    decoder = decoder_for(coding)
    pieces = []
    for start in range(0, len(data), step):
        pieces += decoder.pieces(data[start : start + step])
    decoder.finish()
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


CODINGS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("GZIP, identity", gzip.compress),
    ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
]
if content_decoding._brotli is not None:
    CODINGS.append(("br", content_decoding._brotli.compress))
if content_decoding._zstd is not None:
    CODINGS.append(("zstd", content_decoding._zstd.compress))


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
@pytest.mark.parametrize("step", [1, 777, 10**9])
def test_what_was_packed_comes_out(coding, pack, step):
    assert unpack(coding, pack(BODY), step=max(step, 50)) == BODY
    assert unpack(coding, pack(b"x" * 300_000), step=step) == b"x" * 300_000
    assert unpack(coding, pack(b""), step=step) == b""


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
def test_a_bomb_unfolds_no_further_than_it_is_asked(coding, pack):
    bomb = pack(b"\0" * 20_000_000)
    pieces = decoder_for(coding).pieces(bomb)
    assert len(next(pieces)) <= PIECE_BYTES


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
def test_a_body_cut_short_is_told(coding, pack):
    with pytest.raises(BadAnswer):
        unpack(coding, pack(BODY)[:-9])


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
def test_what_is_not_packed_is_told(coding, pack):
    with pytest.raises(BadAnswer):
        unpack(coding, b"this is not packed at all, whatever the header says")


def test_several_gzip_members_and_padding_are_one_body():
    assert unpack("gzip", gzip.compress(b"a") + gzip.compress(b"b") + b"\0" * 10) == b"ab"


def test_garbage_behind_the_end_is_told():
    with pytest.raises(BadAnswer):
        unpack("gzip", gzip.compress(b"a") + b"garbage")


@pytest.mark.parametrize("coding", ["", "identity", " , identity"])
def test_nothing_is_done_where_nothing_was_packed(coding):
    assert decoder_for(coding) is None


@pytest.mark.parametrize("coding", ["rot13", "gzip, compress", "gzip, gzip, gzip, gzip"])
def test_an_unknown_coding_is_refused(coding):
    with pytest.raises(BadAnswer, match="gzip"):
        decoder_for(coding)


def test_what_is_asked_for_can_be_undone():
    assert ACCEPT_ENCODING.startswith("gzip, deflate")
    assert all(decoder_for(name) is not None for name in ACCEPT_ENCODING.split(", "))


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_any_body_in_any_pieces(data, step):
    assert unpack("gzip", gzip.compress(data), step=step) == data


@given(st.binary(max_size=300))
def test_any_garbage_is_an_error_or_a_body_never_something_else(data):
    for coding, _ in CODINGS:
        decoder = decoder_for(coding)
        try:
            list(decoder.pieces(data))
            decoder.finish()
        except BadAnswer:
            pass
