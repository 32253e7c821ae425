"""Client requests: whole, cut at every byte, in any mix, broken, too large."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.net.refused import Refused
from kvnode.net.requests import ARGUMENTS_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX, Requests


def array(*arguments: bytes) -> bytes:
    bulks = b"".join(b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments)
    return b"*%d\r\n" % len(arguments) + bulks


def parse(*chunks: bytes, request_bytes_max: int = 32 << 20) -> tuple[list[list[bytes]], str | None]:
    requests = Requests(request_bytes_max)
    commands = [command for chunk in chunks for command in requests.feed(chunk)]
    return commands, requests.fault


def single_bytes(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


PING = array(b"PING")

VALID = {
    "array": (array(b"SET", b"key", b"value"), [[b"SET", b"key", b"value"]]),
    "pipeline": (array(b"GET", b"a") + array(b"GET", b"b") + PING, [[b"GET", b"a"], [b"GET", b"b"], [b"PING"]]),
    "empty argument": (array(b"SET", b"", b""), [[b"SET", b"", b""]]),
    "empty name": (array(b""), [[b""]]),
    "CRLF in a value": (array(b"SET", b"k", b"\r\na\r\n\r\n"), [[b"SET", b"k", b"\r\na\r\n\r\n"]]),
    "a request as a value": (array(b"SET", b"k", PING) + PING, [[b"SET", b"k", PING], [b"PING"]]),
    "stars": (array(b"KEYS", b"*") + array(b"*", b"**"), [[b"KEYS", b"*"], [b"*", b"**"]]),
    "every byte": (array(bytes(range(256)) * 5), [[bytes(range(256)) * 5]]),
    "inline": (b"SET key value\r\n", [[b"SET", b"key", b"value"]]),
    "inline with LF alone": (b"PING\nPING\n", [[b"PING"], [b"PING"]]),
    "inline with spaces": (b" \t PING   hello \r\n", [[b"PING", b"hello"]]),
    "inline with quotes": (b'SET k "a b\\r\\n\\x41"\r\n', [[b"SET", b"k", b"a b\r\nA"]]),
    "empty lines": (b"\r\n\n\r\n  \r\n" + PING, [[b"PING"]]),
    "empty arrays": (b"*0\r\n*-1\r\n*-10\r\n*-9223372036854775808\r\n" + PING + b"*0\r\n", [[b"PING"]]),
    "mixed": (PING + b"ECHO a\r\n" + PING + b"*0\r\n\r\n" + PING, [[b"PING"], [b"ECHO", b"a"], [b"PING"], [b"PING"]]),
    "end of redis-cli --pipe": (PING + b"\r\n" + array(b"ECHO", b"x" * 20), [[b"PING"], [b"ECHO", b"x" * 20]]),
    "a GET of HTTP alone": (b"GET / HTTP/1.1\r\n", [[b"GET", b"/", b"HTTP/1.1"]]),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_requests(name: str) -> None:
    data, expected = VALID[name]
    assert parse(data) == (expected, None), "whole"
    assert parse(*single_bytes(data)) == (expected, None), "byte by byte"
    for cut in range(1, len(data)):
        assert parse(data[:cut], data[cut:]) == (expected, None), f"cut at {cut}"
        requests = Requests()
        requests.feed(data[:cut])
        assert requests.buffered_bytes <= cut


@pytest.mark.parametrize("tail", [b"*", b"*2\r", b"*2\r\n$3\r\nGET\r\n", b"*1\r\n$4\r\nPI", b"PIN", b"\r"])
def test_trailing_bytes_wait_for_the_rest(tail: bytes) -> None:
    requests = Requests()
    assert requests.feed(PING * 3 + tail) == [[b"PING"]] * 3
    assert requests.fault is None
    assert requests.buffered_bytes == len(tail)


def test_what_is_buffered_is_counted_and_given_back() -> None:
    requests = Requests()
    data = array(b"SET", b"key", b"v" * 1000)
    for position in range(len(data) - 1):
        assert requests.feed(data[position : position + 1]) == []
        assert requests.buffered_bytes <= position + 1
    assert requests.buffered_bytes == len(data) - 1
    assert requests.feed(data[-1:]) == [[b"SET", b"key", b"v" * 1000]]
    assert requests.buffered_bytes == 0


INVALID_BULK_LENGTH = "ERR Protocol error: invalid bulk length"
INVALID_MULTIBULK_LENGTH = "ERR Protocol error: invalid multibulk length"

FAULTS = {
    b"*3000000000\r\n": INVALID_MULTIBULK_LENGTH,
    b"*2147483647\r\n": INVALID_MULTIBULK_LENGTH,
    b"*%d\r\n" % (ARGUMENTS_MAX + 1): INVALID_MULTIBULK_LENGTH,
    b"*9223372036854775807\r\n": INVALID_MULTIBULK_LENGTH,
    b"*18446744073709551617\r\n": INVALID_MULTIBULK_LENGTH,
    b"*-9223372036854775809\r\n": INVALID_MULTIBULK_LENGTH,
    b"*" + b"1" * 5000 + b"\r\n": INVALID_MULTIBULK_LENGTH,  # more digits than int() takes
    b"*\r\n": INVALID_MULTIBULK_LENGTH,
    b"*blabla\r\n": INVALID_MULTIBULK_LENGTH,
    b"*01\r\n": INVALID_MULTIBULK_LENGTH,
    b"*+1\r\n": INVALID_MULTIBULK_LENGTH,
    b"*-0\r\n": INVALID_MULTIBULK_LENGTH,
    b"* 1\r\n": INVALID_MULTIBULK_LENGTH,
    b"*1 \r\n": INVALID_MULTIBULK_LENGTH,
    b"*1_0\r\n": INVALID_MULTIBULK_LENGTH,
    "*١\r\n".encode(): INVALID_MULTIBULK_LENGTH,
    b"*1\n": INVALID_MULTIBULK_LENGTH,
    b"*1\rx$4\r\n": INVALID_MULTIBULK_LENGTH,
    b"*\x00\r\n": INVALID_MULTIBULK_LENGTH,
    b"*1\r\nfoo\r\n": "ERR Protocol error: expected '$', got 'f'",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n": "ERR Protocol error: expected '$', got 'f'",
    b"*1\r\n\r\n": "ERR Protocol error: expected '$', got '\\x0d'",
    b"*1\r\n*1\r\n" * 100_000: "ERR Protocol error: expected '$', got '*'",
    b"*1\r\n%1\r\n": "ERR Protocol error: expected '$', got '%'",
    b"*1\r\n:1\r\n": "ERR Protocol error: expected '$', got ':'",
    b"*1\r\n_\r\n": "ERR Protocol error: expected '$', got '_'",
    b"*1\r\n$-1\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$-10\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$2000000000\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$%d\r\n" % (BULK_BYTES_MAX + 1): INVALID_BULK_LENGTH,
    b"*1\r\n$9223372036854775807\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$18446744073709551620\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$" + b"1" * 5000 + b"\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$blabla\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$ 4\r\nPING\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$+4\r\nPING\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$04\r\nPING\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$4.0\r\nPING\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$0x4\r\nPING\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$4\nPING\n": INVALID_BULK_LENGTH,
    b"*1\r\n$\x00\r\n": INVALID_BULK_LENGTH,
    b"*1\r\n$4\r\nPINGXX": "ERR Protocol error: expected CRLF after a bulk",
    b"*1\r\n$4\r\nPING\n\r": "ERR Protocol error: expected CRLF after a bulk",
    b"*1\r\n$4\r\nPINGS\r\n": "ERR Protocol error: expected CRLF after a bulk",
    b"*1\r\n$4\r\nPIN\r\n\r\n": "ERR Protocol error: expected CRLF after a bulk",
    b"*" + b"1" * LINE_BYTES_MAX: "ERR Protocol error: too big mbulk count string",
    b"*1\r\n$" + b"1" * LINE_BYTES_MAX: "ERR Protocol error: too big bulk count string",
    b"*1\r\n$\x00" + b"A" * LINE_BYTES_MAX: "ERR Protocol error: too big bulk count string",
    b"x" * (LINE_BYTES_MAX + 1): "ERR Protocol error: too big inline request",
    b"x" * LINE_BYTES_MAX + b"\r\n": "ERR Protocol error: too big inline request",
    b'SET k "abc\r\n': "ERR Protocol error: unbalanced quotes in request",
    b"SET k 'abc\r\n": "ERR Protocol error: unbalanced quotes in request",
    b'SET k "abc"d\r\n': "ERR Protocol error: unbalanced quotes in request",
    b"\x00\r\n": "ERR Protocol error: expected '*', got '\\x00'",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": "ERR Protocol error: expected '*', got '\\x16'",
    b"\x80\x2e\x01\x00\x02": "ERR Protocol error: expected '*', got '\\x80'",
    b"POST / HTTP/1.1\r\n": "ERR Protocol error: this is not an HTTP server",
    b"Host: localhost:3000\r\n": "ERR Protocol error: this is not an HTTP server",
    b"hOsT: localhost:3000\r\n": "ERR Protocol error: this is not an HTTP server",
}
for kind in b"%~>_(=|#,!$+-:":
    FAULTS[b"%c1\r\n" % kind] = f"ERR Protocol error: expected '*', got '{chr(kind)}'"


@pytest.mark.parametrize(("data", "fault"), FAULTS.items(), ids=lambda value: repr(value[:24]))
def test_faults(data: bytes, fault: str) -> None:
    assert parse(data) == ([], fault), "whole"
    assert parse(PING * 2 + data) == ([[b"PING"]] * 2, fault), "the commands before it count"
    assert parse(b"ECHO a\r\n" + data + PING) == ([[b"ECHO", b"a"]], fault), "the commands after it do not"
    assert parse(*single_bytes(data[: LINE_BYTES_MAX + 100])) == ([], fault), "byte by byte"


def test_after_a_fault_nothing_is_kept() -> None:
    requests = Requests()
    requests.feed(b"*2\r\n$3\r\nGET\r\n$x\r\n")
    assert requests.fault == INVALID_BULK_LENGTH
    assert requests.feed(PING) == []
    assert requests.feed(b"*1\r\n$4\r\nPI") == []
    assert requests.buffered_bytes == 0
    assert requests.fault == INVALID_BULK_LENGTH


def test_a_web_page_gets_one_command_at_most() -> None:
    get = b"GET / HTTP/1.1\r\nHost: localhost:3000\r\n\r\n" + array(b"FLUSHALL")
    assert parse(get) == ([[b"GET", b"/", b"HTTP/1.1"]], "ERR Protocol error: this is not an HTTP server")
    post = b"POST /x HTTP/1.1\r\n\r\n" + array(b"FLUSHALL")
    assert parse(post) == ([], "ERR Protocol error: this is not an HTTP server")


def test_the_longest_line_is_accepted() -> None:
    word = b"x" * (LINE_BYTES_MAX - 2)
    assert parse(word + b"\r\n") == ([[word]], None)
    assert parse(word, b"\r", b"\n") == ([[word]], None)


def test_the_most_arguments_are_accepted() -> None:
    bulks = b"$0\r\n\r\n" * ARGUMENTS_MAX
    commands, fault = parse(b"*%d\r\n" % ARGUMENTS_MAX + bulks)
    assert fault is None
    assert [len(command) for command in commands] == [ARGUMENTS_MAX]
    assert parse(b"*%d\r\n" % (ARGUMENTS_MAX + 1) + bulks + bulks[:6]) == ([], INVALID_MULTIBULK_LENGTH)


# --- too large --------------------------------------------------------------------------------------------------------


LIMIT = 200
FITS = array(b"SET", b"k", b"v" * (LIMIT - 28))

TOO_LARGE = {
    "one bulk": array(b"SET", b"k", b"v" * (LIMIT - 27)),
    "a long bulk": array(b"SET", b"k", b"v" * 5000),
    "a long name": array(b"x" * 5000, b"k"),
    "many small ones": array(b"DEL", *[b"key"] * 50),
    "many after a long one": array(b"MSET", b"x" * 5000, *[b""] * 50),
    "several long ones": array(b"MSET", *[b"\r\n" * 500] * 5),
}


@pytest.mark.parametrize("name", TOO_LARGE)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 100, 10_000])
def test_a_request_over_the_limit_is_refused_and_the_next_is_served(name: str, chunk_bytes: int) -> None:
    assert len(FITS) == LIMIT
    data = FITS + TOO_LARGE[name] + PING + FITS
    requests = Requests(LIMIT)
    commands = []
    for position in range(0, len(data), chunk_bytes):
        commands += requests.feed(data[position : position + chunk_bytes])
        assert requests.buffered_bytes <= LIMIT
    assert requests.fault is None
    assert [command[0] for command in commands] == [b"SET", b"", b"PING", b"SET"]
    refused = commands[1]
    assert isinstance(refused, Refused)
    assert refused.text == "ERR request is too large (the limit is 200 bytes: request_bytes_max)"


def test_a_refused_request_must_be_framed_all_the_same() -> None:
    fault = "ERR Protocol error: expected CRLF after a bulk"
    assert parse(b"*1\r\n$300\r\n" + b"x" * 302, request_bytes_max=LIMIT) == ([], fault)
    data = b"*2\r\n$300\r\n" + b"x" * 300 + b"\r\n$x\r\n"
    assert parse(data, request_bytes_max=LIMIT) == ([], INVALID_BULK_LENGTH)


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_bytes(requests: Requests, *chunks: bytes) -> int:
    tracemalloc.start()
    try:
        for chunk in chunks:
            requests.feed(chunk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_only_announced_takes_no_memory() -> None:
    for announced in (b"*1048576\r\n", b"*2\r\n$3\r\nSET\r\n$33000000\r\n", b"*1\r\n$536870912\r\n"):
        assert peak_bytes(Requests(), announced, b"$3\r\n") < 10_000, announced


def test_a_large_value_is_not_joined_for_every_chunk() -> None:
    chunk = b"v" * 65536
    chunks = [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777216\r\n", *[chunk] * 256, b"\r\n"]
    assert peak_bytes(Requests(), *chunks) < 40 << 20


def test_a_large_value_in_tiny_pieces_takes_no_more_memory_than_its_size() -> None:
    assert peak_bytes(Requests(), b"*1\r\n$200000\r\n", *[b"vv"] * 99_999) < 500_000


def test_a_refused_bulk_is_not_stored() -> None:
    requests = Requests()
    chunk = b"v" * (1 << 20)
    assert peak_bytes(requests, b"*2\r\n$3\r\nSET\r\n$67108864\r\n", *[chunk] * 64) < 100_000
    refused, ping = requests.feed(b"\r\n" + PING)
    assert (type(refused), ping) == (Refused, [b"PING"])


# --- properties -------------------------------------------------------------------------------------------------------

arguments = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"*", b"\r\n*", b"*1\r\n", b"$3\r\n", b"\r", b"\n", b"x" * 1023, b"x" * 1024]),
)
pipelines = st.lists(st.lists(arguments, min_size=1, max_size=6), max_size=10)


@st.composite
def chunks_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(commands=pipelines, data=st.data())
def test_any_pipeline_cut_anywhere_gives_its_commands(commands: list[list[bytes]], data: st.DataObject) -> None:
    wire = b"".join(array(*command) for command in commands)
    expected = (commands, None)
    assert parse(wire) == expected, "the fast parser, where it can"
    assert parse(*single_bytes(wire)) == expected, "the strict parser, always"
    assert parse(*data.draw(chunks_of(wire))) == expected, "both in turn"


FRAGMENTS = [
    *[b"\r\n", b"\n", b"\r", b'"', b"*0\r\n", b"*-1\r\n", b"*1\r\n", b"*2\r\n", b"*1048577\r\n"],
    *[b"$0\r\n\r\n", b"$4\r\n", b"PING\r\n", b"$100\r\n" + b"x" * 100 + b"\r\n", b"$99999\r\n"],
    *[b"ECHO 'a b'\r\n", b"host: x\r\n", PING, PING * 2, array(b"SET", b"k", b"v" * 200)],
]
fragments = st.one_of(st.binary(max_size=8), st.sampled_from(FRAGMENTS))


@given(wire=st.lists(fragments, max_size=20).map(b"".join), data=st.data())
@settings(max_examples=300)
def test_any_bytes_parse_or_set_the_fault_the_same_however_they_are_cut(wire: bytes, data: st.DataObject) -> None:
    commands, fault = parse(wire, request_bytes_max=150)
    assert parse(*single_bytes(wire), request_bytes_max=150) == (commands, fault)
    assert parse(*data.draw(chunks_of(wire)), request_bytes_max=150) == (commands, fault)
    assert all(commands), "no command is empty"
    assert fault is None or fault.startswith("ERR Protocol error: ")
