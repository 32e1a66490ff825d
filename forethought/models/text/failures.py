"""What the `tokenizers` library raises: bare exceptions, and panics of Rust.

A panic is a BaseException of a class that cannot be imported. It passes every handler of
exceptions, although it says no more than that a file or a text is not what the library expects.
"""


def is_panic(error: BaseException) -> bool:
    """Whether Rust code gave up, as opposed to an interrupt or the end of the process."""
    return type(error).__name__ == "PanicException"


def is_failure(error: BaseException) -> bool:
    """Whether a call of the library failed."""
    return isinstance(error, Exception) or is_panic(error)
