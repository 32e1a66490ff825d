"""What `encoding_process.py` and its process send each other: a header, and bytes behind it."""

import struct

REQUEST = struct.Struct("<?II")
"""Whether to add special tokens, seconds of processor time, and bytes of text."""

RESPONSE = struct.Struct("<?I")
"""Whether it worked, and bytes: of token ids, or of what went wrong."""
