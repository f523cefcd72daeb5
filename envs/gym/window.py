"""Shows an environment to a person: a window where there is a display, text on standard output where there is none."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)


class Window:
    """Frames in a Tk window, or texts. Closing the window turns to text.

    Args:
        fps: frames per second in the window; text is written as it comes.
    """

    def __init__(self, fps: float) -> None:
        self._pause_s = 1 / fps
        self._shown_s = 0.0
        self._root, self._label = _open()
        self._photo: object = None

    def show(self, frame: Callable[[], np.ndarray], text: Callable[[], str]) -> None:
        """Show one state; only what is shown is made."""
        if self._root is not None and self._show_frame(frame()):
            return
        sys.stdout.write(text() + "\n\n")
        sys.stdout.flush()

    def _show_frame(self, frame: np.ndarray) -> bool:
        """Put a frame into the window; False where a person has closed it."""
        import tkinter

        from PIL import ImageTk

        time.sleep(max(0.0, self._shown_s + self._pause_s - time.monotonic()))
        self._shown_s = time.monotonic()
        try:
            photo = ImageTk.PhotoImage(Image.fromarray(frame), master=self._root)
            self._label.configure(image=photo)
            self._root.update()
        except tkinter.TclError:
            logger.warning("the window was closed: steps are written as text from here on")
            self._root = None
            return False
        self._photo = photo  # Tk keeps no reference of its own
        return True

    def close(self) -> None:
        """Close the window."""
        if self._root is not None:
            self._root.destroy()
            self._root = None


def _open() -> tuple[Any, Any]:
    """Return a Tk window and its label; None and a sentence in the log where there cannot be one."""
    try:
        import tkinter

        root = tkinter.Tk()
    except (ImportError, RuntimeError) as error:
        reason = str(error)
    except Exception as error:
        if type(error).__name__ != "TclError":  # its class can only be named where the import has worked
            raise
        reason = str(error)
    else:
        root.title("vln_clip")
        label = tkinter.Label(root)
        label.pack()
        return root, label
    logger.warning(
        "no window can be opened here (%s): render_mode='human' writes text to standard output; for pictures take "
        "render_mode='rgb_array' and save what render() returns",
        reason,
    )
    return None, None
