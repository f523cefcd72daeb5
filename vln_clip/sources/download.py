"""Fetching one address into one file, through pooch; what goes wrong is told in one sentence."""

import os
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from vln_clip.errors import InputError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 6.0, 30.0
OFFLINE_VARIABLES = ("VLN_CLIP_OFFLINE", "HF_HUB_OFFLINE")


class UnreachableError(InputError):
    """The network or a host does not answer: asking for the next file there is pointless."""


def offline() -> bool:
    """Return whether the environment forbids the network (VLN_CLIP_OFFLINE or HF_HUB_OFFLINE)."""
    values = (os.environ.get(key, "") for key in OFFLINE_VARIABLES)
    return any(value.lower() in ("1", "true", "yes", "on") for value in values)


def download(address: str, file: Path, show_progress: bool = False) -> None:
    """Fetch an address.

    Args:
        address: http or https.
        file: to be written; it is there afterwards only if the transfer was whole.
        show_progress: draw a bar, where standard error is a terminal.

    Raises:
        UnreachableError: no network, unknown host, no answer.
        InputError: the server refuses, the transfer broke off, the disk is full.
    """
    import pooch
    import requests

    _require_network(address)
    pooch.get_logger().setLevel("WARNING")
    bar = show_progress and sys.stderr.isatty()
    downloader = pooch.HTTPDownloader(progressbar=bar, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    try:
        pooch.retrieve(address, None, fname=file.name, path=file.parent, downloader=downloader)
    except requests.HTTPError as error:
        answer = str(error).partition(" for url")[0]  # "404 Client Error: Not Found"
        raise InputError(f"{address} must give a file, but the server answers {answer!r}") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise UnreachableError(f"{address} does not answer ({type(error).__name__})") from None
    except (requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
        raise InputError(f"{address} must lead to a file, but: {error}") from None
    except requests.RequestException as error:  # the body ended before its stated length
        raise InputError(f"{address} must be transferred whole, but broke off ({type(error).__name__})") from None
    except OSError as error:
        raise InputError(f"{address} cannot be written to {file.parent}: {error.strerror or error}") from None


def _require_network(address: str) -> None:
    """Look up the host, which has no time limit of its own, in limited time."""
    import socket

    import requests

    if offline():
        raise UnreachableError("the network is switched off (VLN_CLIP_OFFLINE or HF_HUB_OFFLINE)")
    if requests.utils.get_environ_proxies(address):
        return  # the proxy looks it up
    host, found = urlsplit(address).hostname, list[bool]()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None)
            found.append(True)
        except (OSError, UnicodeError):
            found.append(False)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT_S)
    if found != [True]:
        raise UnreachableError(f"the host {host} cannot be found (is there a network?)")
