"""Long texts, tokenized in a process of their own.

The time that a tokenizer takes is that of somebody's regular expressions. Some take a time that
grows with the square of a run of digits: minutes for a text that is not too long. Whoever has begun
one cannot be stopped, but by ending its process. So the system ends this one once it has taken too
much processor time, which does not depend on what else the machine does. It also runs at a lower
priority than the event loop, and what a text leaves in its allocator is not the event loop's.
"""

import subprocess
import sys
import threading
from array import array
from signal import SIGXCPU
from tempfile import TemporaryFile

from tokenizers import Tokenizer

from forethought.errors import InvalidArgumentError, OverloadedError
from forethought.models.encoding.frames import REQUEST, RESPONSE
from forethought.models.files.reference import ModelFiles
from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer, read_parts, untokenizable

MAX_SHORT_CHARS = 8 * 2**10
"""Texts up to this length are tokenized where they are: they take 0.3 s with the slowest regular
expression that is known, and most take a millisecond."""

MIN_CPU_S = 1
"""Processor time that any text gets, and what the process has taken before in part."""
MIN_BYTES_PER_S = 250_000
"""A text gets as much more as it would take at this speed. Tokenizers are some times as fast."""


_LAST_S = 1.0
"""For a process to end by itself."""


class IsolatedTokenizer(TextTokenizer):
    """Tokenizes long texts in a process of its own, which begins with the first."""

    def __init__(self, name: str, parts: TokenizerParts) -> None:
        super().__init__(name, parts)
        self._process = EncodingProcess(parts.backend)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """As of any tokenizer; waits for those who asked before for a long text.

        Raises:
            InvalidArgumentError: the text takes too long, or the library fails on it.
            OverloadedError: there is no process to work on it.
        """
        if len(text) <= MAX_SHORT_CHARS:
            return super().encode(text, add_special_tokens=add_special_tokens)
        return self._process.encode(text, add_special_tokens=add_special_tokens)

    def close(self) -> None:
        """Ends the process."""
        self._process.close()


def load_isolated_tokenizer(files: ModelFiles) -> IsolatedTokenizer:
    """The tokenizer of a resolved model. Raises ModelReferenceError."""
    return IsolatedTokenizer(files.reference, read_parts(files))


class EncodingProcess:
    """The process, of which there is none while nothing was asked or after it was ended.

    Args:
        backend: what tokenizes.
    """

    def __init__(self, backend: Tokenizer) -> None:
        # Made once: a large vocabulary takes long to write, and other threads wait meanwhile.
        self._saved = TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._saved.write(backend.to_str().encode())
        self._saved.flush()
        self._lock = threading.Lock()
        self._process: _Child | None = None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text; raises as `IsolatedTokenizer.encode`."""
        data = text.encode()
        limit_s = MIN_CPU_S + len(data) // MIN_BYTES_PER_S
        with self._lock:
            process = self._running()
            try:
                is_done, answer = process.ask(
                    REQUEST.pack(add_special_tokens, limit_s, len(data)) + data
                )
            except (BrokenPipeError, EOFError):
                self._process = None
                code = process.end()
                if code == -SIGXCPU:
                    raise InvalidArgumentError(
                        {"prompt": f"takes more than {limit_s} s of processor time to tokenize"}
                    ) from None
                raise OverloadedError(f"a process that tokenized ended with {code}") from None
        if not is_done:
            raise untokenizable(answer.decode())
        ids = array("I")
        ids.frombytes(answer)
        return ids.tolist()

    def close(self) -> None:
        """Ends the process, once it has done what it does."""
        with self._lock:
            if self._process is not None:
                self._process.end()
            self._saved.close()

    def _running(self) -> "_Child":
        if self._process is not None and not self._process.is_alive:
            self._process.end()
            self._process = None
        if self._process is None:
            self._process = _Child(self._saved.fileno())
        return self._process


class _Child:
    """One process."""

    def __init__(self, saved: int) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "forethought.models.encoding.child", str(saved)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a pipe that nobody reads would hold it up
                pass_fds=(saved,),
                start_new_session=True,  # an interrupt at the terminal is for its parent
            )
        except OSError as error:
            raise OverloadedError("there is no process to tokenize in") from error

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: bytes) -> tuple[bool, bytes]:
        """Whether it worked, and the answer. Raises BrokenPipeError or EOFError if it ends."""
        assert self._process.stdin is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        is_done, num_bytes = RESPONSE.unpack(self._read(RESPONSE.size))
        return is_done, self._read(num_bytes)

    def end(self) -> int:
        """Ends it. The code that it ended with."""
        try:
            self._process.communicate(timeout=_LAST_S)  # without requests it ends by itself
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode

    def _read(self, num_bytes: int) -> bytes:
        assert self._process.stdout is not None
        found = self._process.stdout.read(num_bytes)
        if len(found) < num_bytes:
            raise EOFError
        return found
