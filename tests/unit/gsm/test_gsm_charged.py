"""As many short messages are sent as smpp/segments.py counted, and as were charged."""

from __future__ import annotations

from typing import Any, NoReturn

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.submissions import body_of

from proxy.gsm.alphabet import Alphabet, alphabet_of, decode_text
from proxy.gsm.submit import short_messages, submits_of
from proxy.gsm.tpdu import Submit, decode_submit, encode_submit
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import READERS, PduError
from proxy.smpp.udh import without_header

UDHI = smpp.ESM_UDHI
EMOJI = "😀".encode("utf-16-be")


def no_reference() -> NoReturn:
    raise AssertionError("a message that is not split asks for a reference")


def text_of(found: list[Submit]) -> bytes:
    return b"".join(without_header(s.user_data) if s.udhi else s.user_data for s in found)


CHARS = ["a", "@", "é", "[", "€", "ï", "`", "й", "日", "한", "😀"]
PIECES = [
    b"a",
    b"\x1b",
    b"\x1be",
    b"\x80",
    b"\0a",
    b"\xd8\x3d",
    b"\xde\0",
    EMOJI,
    b"[",
    b"`",
    b"\xef",
]
CODECS = {
    0x01: "latin-1", 0x03: "latin-1", 0x05: "iso2022_jp", 0x06: "iso8859_5", 0x07: "iso8859_8",
    0x08: "utf-16-be", 0x0A: "iso2022_jp", 0x0D: "iso2022_jp_1", 0x0E: "euc_kr",
}  # fmt: skip


def runs(pieces: list[Any]) -> st.SearchStrategy[list[Any]]:
    """Long runs of few pieces: cuts fall anywhere."""
    run = st.tuples(st.sampled_from(pieces), st.integers(1, 160))
    return st.lists(run, max_size=6).map(
        lambda found: [p for p, times in found for _ in range(times)]
    )


@st.composite
def texts(draw: st.DrawFn, data_coding: int) -> bytes:
    codec = CODECS.get(data_coding)
    if codec is not None and draw(st.booleans()):
        return "".join(draw(runs(CHARS))).encode(codec, "ignore")
    return b"".join(draw(runs(PIECES)))


data_codings = st.sampled_from(range(16)) | st.integers(0, 255)
any_text = data_codings.flatmap(lambda dc: st.tuples(st.just(dc), texts(dc)))
commands = st.sampled_from(sorted(READERS))


def body_with(command_id: int, text: bytes, **values: Any) -> bytes:
    if len(text) > 254 and command_id != smpp.DATA_SM:
        return body_of(command_id, payload=text, **values)
    return body_of(command_id, text, **values)


@settings(max_examples=400)
@given(any_text, commands)
@example((0x01, b"`" * 70 + b"["), smpp.SUBMIT_SM)
@example((0x01, b"\xef" * 134 + b"[" * 80), smpp.SUBMIT_SM)
def test_as_many_are_sent_as_were_charged(coded: tuple[int, bytes], command_id: int) -> None:
    data_coding, text = coded
    body = body_with(command_id, text, data_coding=data_coding)
    found = submits_of(command_id, body, new_reference=lambda: 200)
    assert len(found) == READERS[command_id](body).segments == short_messages(command_id, body)
    for submit in found:
        assert decode_submit(encode_submit(submit)) == submit
    # Nothing is lost between the parts, and no character is cut in two.
    whole = text_of(found)
    dcs = found[0].data_coding
    if alphabet_of(dcs) is Alphabet.OCTETS or dcs == data_coding == 0x08:
        assert whole == text
    shown = "".join(decode_text(text_of([s]), dcs) or "" for s in found)
    assert shown == (decode_text(whole, dcs) or "")


@settings(max_examples=300)
@given(any_text, commands, st.booleans(), st.none() | st.just((9, 3, 2)), st.integers(0, 12))
def test_parts_are_one_short_message_or_refused(
    coded: tuple[int, bytes],
    command_id: int,
    udhi: bool,
    sar: tuple[int, int, int] | None,
    size: int,
) -> None:
    assume(udhi or sar)
    data_coding, text = coded
    text = text[:160]
    header = bytes((size,)) + bytes(range(1, size + 1)) if udhi else b""
    values: dict[str, Any] = {"data_coding": data_coding, "esm_class": UDHI * udhi, "sar": sar}
    body = body_with(command_id, header + text, **values)
    try:
        (submit,) = submits_of(command_id, body, new_reference=no_reference)
    except PduError as error:
        assert error.status == smpp.ESME_RINVMSGLEN
        return
    assert READERS[command_id](body).segments == 1
    assert submit.udhi
    assert decode_submit(encode_submit(submit)) == submit


def test_of_two_texts_the_first_is_sent_and_the_longest_charged() -> None:
    """The one case where less is sent than was charged: a PDU that breaks section 5.3.2.32."""
    body = body_of(text=b"short", payload=b"a" * 400)
    assert READERS[smpp.SUBMIT_SM](body).segments == 3
    (submit,) = submits_of(smpp.SUBMIT_SM, body, new_reference=no_reference)
    assert submit.user_data == b"short"
