"""A large file read part by part: unpacked where it is gzipped, hashed on the way, its faults told in one sentence."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from vln_clip.errors import InputError
from vln_clip.reading import GZIP_MAGIC, check_ratio


class Unpacked:
    """The content of one file, to be read once inside ``opened()``.

    Attributes:
        file: where it lies; what it is, its first bytes tell, not its name.
        num_bytes: unpacked bytes read so far, the whole content's at the end.
        num_lines: line ends among them.
    """

    def __init__(self, file: Path):
        self.file = file
        self.num_bytes = self.num_lines = 0
        self._hash = hashlib.sha256()
        self._content: IO[bytes]
        self._num_packed: int | None = None

    @property
    def sha256(self) -> str:
        """Return the hash of the unpacked bytes read so far."""
        return self._hash.hexdigest()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the file, unpacking it where it is packed.

        Raises:
            InputError: (also while it is read) the file is missing, unreadable, damaged or a gzip bomb.
        """
        try:
            with self.file.open("rb") as raw:
                packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                raw.seek(0)
                self._num_packed = os.fstat(raw.fileno()).st_size if packed else None
                self._content = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
                yield
        except FileNotFoundError:
            raise InputError(f"file {self.file} does not exist") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"file {self.file} must be a whole gzip archive, got a damaged or truncated one "
                f"(good up to line {self.num_lines}, byte {self.num_bytes} of its content): {error}"
            ) from None
        except OSError as error:
            raise InputError(f"file {self.file} cannot be read: {error.strerror or error}") from None

    def read(self, num_bytes: int) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        return self._count(self._content.read(num_bytes))

    def read_line(self, num_bytes: int) -> bytes:
        """Return the next line, at most so many bytes of it; none at the end."""
        return self._count(self._content.readline(num_bytes))

    def _count(self, part: bytes) -> bytes:
        """Add a part of the content to hash and size."""
        self._hash.update(part)
        self.num_bytes += len(part)
        self.num_lines += part.count(b"\n")
        if self._num_packed is not None:
            check_ratio(self.num_bytes, self._num_packed, self.file)
        return part
