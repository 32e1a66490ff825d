"""What a caller sends is one line of the log at most, of bounded length."""

import subprocess
import sys

import pytest

_PROGRAM = """
import structlog
from forethought.telemetry import LogFormat, configure_logging
configure_logging(LogFormat("{format}"))
structlog.contextvars.bind_contextvars(request_id="a\\nforged\\x1b[31m\\r\\u2028b")
structlog.get_logger("test").info("call_refused", detail="c\\nforged")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_line_breaks_and_control_characters_in_names_forge_no_line(log_format):
    program = _PROGRAM.replace("{format}", log_format)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    [line] = done.stderr.splitlines()
    assert "call_refused" in line
    assert "\x1b" not in line
