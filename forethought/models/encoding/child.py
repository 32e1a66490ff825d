"""`python -m forethought.models.encoding.child FD`: what the process of `encoding_process.py` runs.

It reads a tokenizer from the file descriptor, then requests from standard input, until that ends.
"""

import os
import resource
import sys
import time
from array import array

from tokenizers import Tokenizer

from forethought.models.encoding.frames import REQUEST, RESPONSE
from forethought.models.text.panics import panics_as_errors
from forethought.runtime.memory import give_back_memory

NICENESS = 5
"""A tokenizer beside a busy event loop gets about a quarter of what they both want."""


def main(saved: int) -> None:
    """Answers requests."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(NICENESS)
    with os.fdopen(saved, "rb") as file:
        file.seek(0)  # where it was left by the one before
        tokenizer = Tokenizer.from_buffer(file.read())
    while header := sys.stdin.buffer.read(REQUEST.size):
        add_special_tokens, limit_s, num_bytes = REQUEST.unpack(header)
        text = sys.stdin.buffer.read(num_bytes).decode()
        limit_processor_time(limit_s)
        is_done, answer = _encode(tokenizer, text, add_special_tokens=add_special_tokens)
        sys.stdout.buffer.write(RESPONSE.pack(is_done, len(answer)) + answer)
        sys.stdout.buffer.flush()
        del text, answer
        give_back_memory()


def _encode(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> tuple[bool, bytes]:
    """The ids; or False, and why there are none."""
    try:
        with panics_as_errors():
            [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        return False, str(error).encode(errors="replace")
    return True, array("I", encoding.ids).tobytes()


def limit_processor_time(seconds: int) -> None:
    """Has the system end this process once it has taken so much more."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(int(sys.argv[1]))
