"""Weights on disk and from their hub. Only tensors are read, nothing is ever unpickled.

A file is looked for in the user's Hugging Face cache, then in ``$VLN_CLIP_CACHE/weights``, then downloaded
there. An address that does not answer is given up within 15 seconds, without retries.
"""

import hashlib
import os
import threading
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from vln_clip.encoders.torchscript import check_members, read_torchscript
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.paths import cache_dir
from vln_clip.sources.download import offline

PROBE_TIMEOUT_S, READ_TIMEOUT_S = 6.0, 8.0
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def find_weights(repo_id: str, filenames: tuple[str, ...]) -> Path | None:
    """Return a hub file that is already on this machine, None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        for found in (try_to_load_from_cache(repo_id, filename), _own_path(repo_id, filename)):
            if isinstance(found, (str, Path)) and Path(found).is_file():
                return Path(found)
    return None


def fetch_weights(name: str, repo_id: str, filenames: tuple[str, ...]) -> Path:
    """Return the weights of an encoder, downloading them where this machine has none.

    Args:
        name: the encoder, for messages.
        repo_id: hub repository.
        filenames: names the file may have there, preferred first.

    Returns:
        The local file.

    Raises:
        InputError: no network allowed, or none of the addresses answers.
    """
    found = find_weights(repo_id, filenames)
    if found:
        return found
    where = f"{_endpoint()}/{repo_id}/resolve/main/{filenames[0]}"
    if offline():
        raise _missing(name, where, "the network is switched off (VLN_CLIP_OFFLINE or HF_HUB_OFFLINE)")
    problem = ""
    for filename in filenames:
        url = f"{_endpoint()}/{repo_id}/resolve/main/{filename}"
        sha256, problem = _probe(url)
        if not problem:
            return _download(name, url, sha256, _own_path(repo_id, filename))
        if not problem.startswith("404"):  # only a missing file is worth another name
            break
    raise _missing(name, where, problem)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file.

    Args:
        path: safetensors, a state dict saved by torch (also under the key ``state_dict`` or ``model``), or an
            OpenAI TorchScript archive.

    Returns:
        Tensors by name, on the CPU, in the stored dtype.

    Raises:
        InputError: the file is none of these.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            return read_torchscript(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader of pickles fails on damaged ones in every way that Python knows
        kinds = "safetensors, a torch state dict or an OpenAI .pt archive"
        found = f"{type(error).__name__}: {_first(error)}"
        raise InputError(f"weights must be {kinds}, got {path} which cannot be read ({found})") from error
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"weights must be named tensors, got {path} which holds other things")
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def describe(source: str, path: Path) -> str:
    """Return how a header names weights: their source and the first 8 digits of the file's SHA-256."""
    return f"{source} sha256:{file_sha256(path)[:8]}"


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path)
        return any("/code/" in member for member in archive.namelist())


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _own_path(repo_id: str, filename: str) -> Path:
    return cache_dir() / "weights" / repo_id.replace("/", "--") / filename


def _probe(url: str) -> tuple[str | None, str]:
    """Ask an address for its headers: the file's SHA-256 if it says so, and what is wrong ("" if nothing)."""
    import requests

    answer: list[tuple[str | None, str]] = []

    def ask() -> None:
        try:
            reply = requests.head(url, allow_redirects=True, timeout=PROBE_TIMEOUT_S)
            tags = [step.headers.get("X-Linked-Etag", "").strip('"') for step in (*reply.history, reply)]
            sha256 = next((tag for tag in tags if len(tag) == 64), None)
            answer.append((sha256, "" if reply.ok else f"{reply.status_code} {reply.reason}"))
        except requests.RequestException as error:
            answer.append((None, type(error).__name__))

    thread = threading.Thread(target=ask, daemon=True)  # looking up a host has no timeout of its own
    thread.start()
    thread.join(PROBE_TIMEOUT_S + 1)
    return answer[0] if answer else (None, f"no answer within {PROBE_TIMEOUT_S:.0f} s")


def _download(name: str, url: str, sha256: str | None, path: Path) -> Path:
    import pooch
    import requests

    logger.info("fetching the weights of %s from %s", name, url)
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(PROBE_TIMEOUT_S, READ_TIMEOUT_S))
    pooch.get_logger().setLevel("WARNING")
    try:
        known = f"sha256:{sha256}" if sha256 else None
        pooch.retrieve(url, known, fname=path.name, path=path.parent, downloader=downloader)
    except (requests.RequestException, OSError, ValueError) as error:
        raise _missing(name, url, _first(error)) from error
    return path


def _missing(name: str, where: str, why: str) -> InputError:
    return InputError(
        f"the weights of {name} must be on this machine or reachable, got: {why}; "
        f"fetch {where} elsewhere and name it with --weights FILE (of vln-clip extract --encoder {name}, or of the "
        "program itself where it has that flag; --text-weights FILE of a --text-encoder), or put features where "
        "--features finds them"
    )


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160]
