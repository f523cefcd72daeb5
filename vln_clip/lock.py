"""The lock on a run's folder: one process at a time writes there, and the lock dies with its process."""

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

from vln_clip.errors import InputError
from vln_clip.files import unwritable
from vln_clip.log import logger

FILE = ".lock"


class FolderLock:
    """A POSIX record lock on ``FOLDER/.lock``, which names its holder and goes away when it is released.

    The kernel drops it with the process, also after SIGKILL; forked workers don't inherit it, and clients of one NFS
    server see each other's (NFSv4, or v3 with lockd; not where it is mounted with ``local_lock`` or ``nolock``). It
    does not keep one process from locking a folder twice.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._file: IO[str] | None = None
        if sys.platform == "win32":
            logger.warning("folders are not locked on Windows: take care that no other run writes into %s", folder)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                self._file = self._take(folder)
        except OSError as error:
            raise unwritable(folder, error.strerror or error, "run folder") from None

    def _take(self, folder: Path) -> IO[str] | None:
        """Open and lock the file; None where its last holder removed it meanwhile."""
        import fcntl

        file = self._path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            file.seek(0)
            holder = _describe(file.read())
            file.close()
            raise InputError(
                f"{folder} is being trained by {holder}; wait for it, stop it, or give this run another --name"
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s): take care that no other run writes there", folder, error.strerror)
            return file
        if not self._path.exists() or not os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
            file.close()
            return None
        file.truncate(0)
        ours = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write(json.dumps(ours) + "\n")
        file.flush()
        return file

    def release(self) -> None:
        """Let others have the folder; once is enough."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)  # while it is locked: who opened it before looks again
            self._file.close()
            self._file = None


def _describe(text: str) -> str:
    """Return who holds a lock, for people."""
    try:
        holder = json.loads(text)
        return f"process {int(holder['pid'])} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
