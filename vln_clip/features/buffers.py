"""Memory that batches are read into, used again once nobody looks at it: fresh memory costs more than reading.

The system hands out new memory page by page and filled with zeros; on a machine of our own that alone was slower than
the disk cache by a factor of ten.
"""

import threading
import weakref

import numpy as np

_MAX_KEPT = 3  # buffers: of the batch in use, the one being read, and one that waits


class Buffers:
    """Hands out arrays of bytes; the memory of those that are gone is handed out again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []

    def take(self, num_bytes: int) -> np.ndarray:
        """Return an array of bytes, (num_bytes,) uint8 of any content; tensors made of it keep it in use."""
        with self._lock:
            free = [i for i, (buffer, user) in enumerate(self._kept) if user() is None]
            fitting = [i for i in free if self._kept[i][0].nbytes >= num_bytes]
            if fitting:
                place = min(fitting, key=lambda i: self._kept[i][0].nbytes)
            elif free or len(self._kept) < _MAX_KEPT:
                for i in reversed(free):  # too small ones go before a larger one comes
                    del self._kept[i]
                place = len(self._kept)
            else:
                return np.empty(num_bytes, np.uint8)
            buffer = self._kept.pop(place)[0] if place < len(self._kept) else np.empty(num_bytes, np.uint8)
            given = buffer[:num_bytes]
            self._kept.append((buffer, weakref.ref(given)))
        return given
