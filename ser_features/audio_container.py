"""Is a recording complete? What its container's header says, against the bytes that are there.

libsndfile shortens a cut file without a word, so the lengths that WAV, RF64, AIFF, AU, CAF, Wave64
and NIST headers promise are read here, and the pages of an Ogg stream, whose checksums it skips
over. FLAC and MP3 show a cut in decoding; rarer containers carry nothing that could be checked.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

_PLACEHOLDERS = (0xFFFFFFFF, 0x7FFFF000)
"""Data sizes that ffmpeg and SoX write where they cannot know the length (to a pipe)."""
_MAX_CHUNKS = 1000
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_STREAMED = "the header leaves the length open (written to a pipe), so a cut would not show"
_NO_XING = "MP3 without a length header: the length is an estimate from the bit rate"


class Completeness(NamedTuple):
    """``missing`` says what is cut off, ``doubt`` why that cannot be told; empty means neither."""

    missing: str = ""
    doubt: str = ""


def completeness(file: BinaryIO, size: int) -> Completeness:
    """Compare what the header promises with the file's ``size`` in bytes.

    Leaves ``file`` at its start, as libsndfile wants it. Reads no more than the headers, and an
    Ogg file page by page, whatever lengths they claim.
    """
    magic = _read(file, 0, 4)
    check = _CHECKS.get(magic, _check_mpeg if _is_mpeg(magic) else None)
    try:
        return check(file, size) if check else Completeness()
    except struct.error:
        return Completeness(missing="it ends inside its own header")
    finally:
        file.seek(0)


def _promised(num_bytes: int, size: int) -> Completeness:
    if num_bytes <= size:
        return Completeness()
    return Completeness(f"its header promises {num_bytes} bytes, the file has {size}")


def _check_riff(file: BinaryIO, size: int) -> Completeness:
    """WAV (RIFF, big-endian RIFX), RF64 and BW64 (EBU Tech 3306)."""
    order = ">" if _read(file, 0, 4) == b"RIFX" else "<"
    (whole,) = struct.unpack(order + "I", _read(file, 4, 4))
    data = _find_chunk(file, size, (b"data",), order)
    if data is None:
        return _promised(whole + 8, size)
    start, length = data
    ds64 = _find_chunk(file, size, (b"ds64",), order) if length == 0xFFFFFFFF else None
    if ds64 is not None:  # riff size, data size, sample count
        (length,) = struct.unpack("<Q", _read(file, ds64[0] + 8, 8))
    elif length in _PLACEHOLDERS:
        return Completeness(doubt=_STREAMED)
    return _promised(start + length, size)


def _check_form(file: BinaryIO, size: int) -> Completeness:
    """AIFF, AIFC (``SSND``) and 8SVX (``BODY``)."""
    (whole,) = struct.unpack(">I", _read(file, 4, 4))
    data = _find_chunk(file, size, (b"SSND", b"BODY"), ">")
    if data is None:
        return _promised(whole + 8, size)
    if data[1] in _PLACEHOLDERS:
        return Completeness(doubt=_STREAMED)
    return _promised(data[0] + data[1], size)


def _find_chunk(
    file: BinaryIO, size: int, names: tuple[bytes, ...], order: str
) -> tuple[int, int] | None:
    """First byte and length of the first chunk of that name, None where there is none."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            break
        name, length = struct.unpack(order + "4sI", _read(file, position, 8))
        if name in names:
            return position + 8, length
        position += 8 + length + length % 2
    return None


def _check_caf(file: BinaryIO, size: int) -> Completeness:
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 12 > size:
            break
        name, length = struct.unpack(">4sq", _read(file, position, 12))
        if name == b"data":
            return (
                Completeness(doubt=_STREAMED)
                if length < 0
                else _promised(position + 12 + length, size)
            )
        position += 12 + max(length, 0)
    return Completeness(missing="it ends before its 'data' chunk")


def _check_au(file: BinaryIO, size: int) -> Completeness:
    order = ">" if _read(file, 0, 4) == b".snd" else "<"
    offset, length = struct.unpack(order + "II", _read(file, 4, 8))
    if length == 0xFFFFFFFF:
        return Completeness(doubt=_STREAMED)
    return _promised(offset + length, size)


def _check_w64(file: BinaryIO, size: int) -> Completeness:
    (whole,) = struct.unpack("<Q", _read(file, 16, 8))
    return _promised(whole, size)


def _check_nist(file: BinaryIO, size: int) -> Completeness:
    """NIST SPHERE: a text header whose second line is its own length in bytes."""
    found = re.match(rb"NIST_1A\n\s*(\d{1,9})\n", _read(file, 0, 32))
    if not found:
        return Completeness()
    text = _read(file, 0, min(int(found[1]), 65_536))
    fields = (rb"sample_count", rb"channel_count", rb"sample_n_bytes")
    values = [re.search(field + rb" -i (\d{1,12})", text) for field in fields]
    length = 1
    for value in values:
        length *= int(value[1]) if value else 0
    return _promised(int(found[1]) + length, size)


def _check_ogg(file: BinaryIO, size: int) -> Completeness:
    """Every page whole and the last one marked as the end (RFC 3533): decoders skip bad pages."""
    position, ended = 0, False
    while position < size:
        head = _read(file, position, 282)  # 27 bytes, then up to 255 segment lengths
        if head[:4] != b"OggS" and not ended:
            return Completeness(missing=f"there is no Ogg page at byte {position}")
        if head[:4] != b"OggS":
            break  # something behind the stream
        length = 27 + sum(head[26:27]) + sum(head[27 : 27 + sum(head[26:27])])
        if length == 27 or position + length > size:
            return Completeness(missing="it ends inside an Ogg page")
        page = _read(file, position, length)
        if _ogg_crc(page[:22] + bytes(4) + page[26:]) != page[22:26]:
            return Completeness(missing=f"the Ogg page at byte {position} is damaged")
        position, ended = position + length, bool(page[5] & 4)
    return Completeness() if ended else Completeness(missing="the end of its Ogg stream is missing")


def _ogg_crc(page: bytes) -> bytes:
    """The CRC of RFC 3533: zlib's polynomial with the bits the other way round, from zero."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED)


def _is_mpeg(magic: bytes) -> bool:
    return magic[:3] == b"ID3" or (len(magic) > 1 and magic[0] == 0xFF and magic[1] >= 0xE0)


def _check_mpeg(file: BinaryIO, size: int) -> Completeness:
    """Look for the length header (Xing, Info, VBRI) in the first frame, past an ID3v2 tag."""
    start = 0
    if _read(file, 0, 3) == b"ID3":
        high, *rest = struct.unpack("4B", _read(file, 6, 4))
        for byte in rest:  # seven bits a byte (ID3v2, section 3.1)
            high = high << 7 | byte
        start = 10 + high
    if start >= size:
        return Completeness(missing="it ends inside its ID3 tag")
    head = _read(file, start, 256)
    if head[:1] != b"\xff":  # an ID3 tag before something else
        return Completeness()
    known = any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))
    return Completeness() if known else Completeness(doubt=_NO_XING)


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


_CHECKS: dict[bytes, Callable[[BinaryIO, int], Completeness]] = {
    b"RIFF": _check_riff,
    b"RIFX": _check_riff,
    b"RF64": _check_riff,
    b"BW64": _check_riff,
    b"FORM": _check_form,
    b"caff": _check_caf,
    b".snd": _check_au,
    b"dns.": _check_au,
    b"riff": _check_w64,
    b"NIST": _check_nist,
    b"OggS": _check_ogg,
}
