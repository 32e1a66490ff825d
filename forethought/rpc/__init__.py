"""gRPC: servers, channels, error mapping, and the codecs between messages and values.

Only this package and the tiers' servicers touch protobuf messages.
"""

import os

# Else gRPC writes a line of its own, amid JSON or a terminal, for each handshake that fails. What
# it means for a call is said in words (`handshake.py`). It is read when the first channel is made.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
