"""Mutations of files: functions of the bytes of a good one and a random generator, aware of what the bytes mean."""

import copy
import csv
import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]
TOKENS = [
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"NaN", b"-Infinity", b"1e999", b"null", b"\n",
    b"\t", b'"', b"[", b"{", b"]", b"}", b",", b"\\u0000", b"\\ud800", b"9" * 400, b"9" * 5000, b"[" * 300,
    b'{"":' * 300,    b"../../../etc/passwd", b"\r", b"%s%n", b"-1", b"\x80\x04", b"PK\x03\x04", b"\x1f\x8b\x08",
]  # fmt: skip
HUGE = 10**400


def nested(depth, inner=None):
    for _ in range(depth):
        inner = [inner]
    return inner


ODD_VALUES = [
    None, True, False, 0, -1, 2**31, 2**63, 2**64, HUGE, -HUGE, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 0.5,
    "",
    " ", "\0", "a\nb", "\ud800", "\U0001f600", "../../x", "/etc/passwd", "a" * 5000, "é" * 100, [], {}, [[]],
    [None], [{}],
    {"": None}, {"a": {"a": {}}}, nested(40), nested(200), [0] * 300, ["x"] * 20, "9" * 4000, "NaN", "1e999",
    "\u202e", "\x1b[2J", "<PAD>", "__class__", "none", "en", 1.5, [1, 2, 3], [1e308] * 3, {"a": 1, "b": 2}, "\r\n",
]  # fmt: skip


def bytes_of(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes: flips, cuts, insertions, blocks removed, doubled or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 200))
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[place % len(data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            data[place:place] = rng.choice(TOKENS)
        elif kind == 4:
            data[place : place + length] = b""
        elif kind == 5:
            data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
        elif kind == 6:
            data[place : place + length] = rng.randbytes(length)
        elif kind == 7 and len(data) >= 8:
            place = rng.randrange(len(data) - 7)
            data[place : place + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)))
    return bytes(data)


def _nodes(value, found):
    """Collect (container, key) of every value of a tree."""
    pairs = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in pairs:
        found.append((value, key))
        _nodes(inner, found)
    return found


def change_tree(value, rng: random.Random):
    """Return a JSON value with one place changed."""
    nodes = _nodes(value, [])
    if not nodes or rng.random() < 0.03:
        return copy.deepcopy(rng.choice(ODD_VALUES))
    shallow = [node for node in nodes if isinstance(node[0], dict)]
    container, key = rng.choice(shallow if shallow and rng.random() < 0.6 else nodes)
    kind = rng.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(["", "id", "\ud800", "a" * 300, *map(str, container)])] = container.pop(key)
    elif kind == 2 and isinstance(container, list):
        container.insert(key, container[rng.randrange(len(container))])
    elif kind == 3:
        container[key] = rng.choice(
            [[container[key]], {"a": container[key]}, str(container[key]), [container[key]] * 2]
        )
    elif kind == 4 and isinstance(container[key], str):
        container[key] = bytes_of(container[key].encode(errors="replace"), rng).decode(errors="replace")
    elif kind == 5 and type(container[key]) in (int, float) and abs(container[key]) < HUGE // 10**100:
        container[key] = rng.choice([-container[key], container[key] * 1e30, container[key] + 1, str(container[key])])
    else:
        container[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return value


def json_text(content: bytes, rng: random.Random) -> bytes:
    """Change the tree of a JSON text, or how it is spelled."""
    kind = rng.randrange(12)
    if kind < 3:
        return bytes_of(content, rng)
    value = json.loads(content)
    if kind == 3:
        return spell(content.decode(), rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = change_tree(value, rng)
    return json.dumps(value, ensure_ascii=rng.random() < 0.8).encode(errors="surrogatepass")


def spell(text: str, rng: random.Random) -> bytes:
    """Write a text in another encoding or with what JSON readers may stumble over."""
    kind = rng.randrange(9)
    if kind == 0:
        return text.encode("utf-16")
    if kind == 1:
        return b"\xef\xbb\xbf" + text.encode()
    if kind == 2:
        return text.encode() + text.encode()
    if kind == 3:
        return b" " * 200_000 + text.encode()
    if kind == 4:
        return b"[" * rng.choice((50, 100, 1000, 100_000)) + text.encode()
    if kind == 5:
        return text.replace(",", ",,", 1).encode()
    if kind == 6:  # the same key twice
        return text.replace("{", '{"path": 1, "words": 2, "path_id": 3, ', 1).encode()
    if kind == 7:
        return text.replace(":", f': {rng.choice(["1" * 400, "1" * 5000, "1e400", "-0", "NaN"])}, "x":', 1).encode()
    return text.encode("utf-32")


def json_lines(content: bytes, rng: random.Random) -> bytes:
    """Change a line, or the lines."""
    if rng.random() < 0.2:
        return bytes_of(content, rng)
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        lines.insert(place, rng.choice(lines))
    elif kind == 1:
        del lines[place]
    elif kind == 2:
        lines.insert(place, rng.choice([b"", b" ", b"null", b"[]", b"3", b"\0", b"{}"]))
    elif lines[place].strip():
        lines[place] = json_text(lines[place], rng)
    return b"\n".join(lines)


def packed(inner: Mutation) -> Mutation:
    """Mutate inside of a gzip archive or the archive itself."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        kind = rng.randrange(10)
        if kind == 0:
            return bytes_of(content, rng)
        plain = inner(gzip.decompress(content), rng)
        if kind == 1:
            return plain
        if kind == 2:
            return gzip.compress(plain[: len(plain) // 2], mtime=0) + gzip.compress(plain[len(plain) // 2 :], mtime=0)
        return gzip.compress(plain, 1, mtime=0) + (rng.randbytes(9) if kind == 3 else b"")

    return mutate


def csv_text(content: bytes, rng: random.Random) -> bytes:
    """Change cells, columns or lines of a table."""
    if rng.random() < 0.3:
        return bytes_of(content, rng)
    rows = list(csv.reader(io.StringIO(content.decode())))
    row = rng.choice(rows)
    kind = rng.randrange(6)
    if kind == 0:
        del row[rng.randrange(len(row))]
    elif kind == 1:
        row.insert(rng.randrange(len(row) + 1), rng.choice(row))
    elif kind == 2:
        rows.insert(rng.randrange(len(rows)), rng.choice([[], ["", ""], row, ['"'], ["\0"]]))
    else:
        cell = rng.choice(ODD_VALUES)
        row[rng.randrange(len(row))] = cell if isinstance(cell, str) else json.dumps(cell)
    out = io.StringIO()
    csv.writer(out, lineterminator=rng.choice(["\n", "\r\n", "\r"]), delimiter=rng.choice(",,,;\t")).writerows(rows)
    return out.getvalue().encode(errors="surrogatepass")


def words(content: bytes, rng: random.Random) -> bytes:
    """Change lines of a list of words."""
    if rng.random() < 0.5:
        return bytes_of(content, rng)
    lines = content.split(b"\n")
    odd = [
        b"",
        b"\0",
        b"../../x",
        b"a" * 9000,
        b"\xff",
        b"<PAD>",
        b"<EOS>",
        b"\xc2\x85",
        b"a b",
        b"\xe2\x80\xa8",
        *lines,
    ]
    lines[rng.randrange(len(lines))] = rng.choice(odd)
    return b"\n".join(lines)


def safetensors(content: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file, its length, or its bytes."""
    if rng.random() < 0.25:
        return bytes_of(content, rng)
    size = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header.get("__metadata__", {})
    inner = [key for key, value in metadata.items() if value[:1] in ("{", "[")]
    if inner and rng.random() < 0.5:
        key = rng.choice(inner)
        metadata[key] = json_text(metadata[key].encode(), rng).decode(errors="replace")
        text = json.dumps(header).encode()
    else:
        text = json_text(json.dumps(header).encode(), rng)
    length = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**32, 2**62, 2**64 - 1, len(text) - 1))
    return length.to_bytes(8, "little") + text + rest


def zipped(inner: Mutation = bytes_of) -> Mutation:
    """Mutate a member of a zip archive, what the archive claims of it, or the archive itself."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return bytes_of(content, rng)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        name = rng.choice(list(members))
        kind = rng.randrange(6)
        if kind == 0:
            members.pop(name)
        elif kind == 1:
            members[rng.choice(["x", "../x.npy", *members])] = members.pop(name)
        else:
            members[name] = inner(members[name], rng)
        out = io.BytesIO()
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        with zipfile.ZipFile(out, "w", rng.choice(methods)) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return out.getvalue()

    return mutate


def npy(content: bytes, rng: random.Random) -> bytes:
    """Change the header of a .npy file, or its bytes."""
    if rng.random() < 0.3 or not content.startswith(b"\x93NUMPY"):
        return bytes_of(content, rng)
    (size,) = struct.unpack("<H", content[8:10])
    shapes = [
        "(10**12, 4)",
        "(99999999999, 1)",
        "(-1, 1)",
        "(2**70,)",
        "()",
        "(0, 1)",
        "(1, 1, 1, 1, 1)",
        "None",
        "(1.5, 1)",
    ]
    types = [
        "'<U999999999'",
        "'|O'",
        "'<f8'",
        "'<c16'",
        "'|V9'",
        "'<M8[s]'",
        "[('a', '<f4')]",
        "'nonsense'",
        "'|b1'",
        "'<U1'",
    ]
    header = rng.choice(
        [
            f"{{'descr': {rng.choice(types)}, 'fortran_order': False, 'shape': (3, 1), }}",
            f"{{'descr': '<f4', 'fortran_order': True, 'shape': {rng.choice(shapes)}, }}",
            f"{{'descr': '<U4', 'fortran_order': False, 'shape': {rng.choice(shapes)}, }}",
            "(" * 500,
            "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,), }",
        ]
    ).encode()
    version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x09\x00"))
    return content[:6] + version + struct.pack("<H", len(header)) + header + content[10 + size :]
