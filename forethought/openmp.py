"""How the threads of a computing process wait for each other.

Between two operations OpenMP's threads spin, which is much faster than to sleep and be woken. GNU's
spins for milliseconds: on a machine where two tiers share the cores, each then spins in the way of
the other's work, and both take several times as long. An operation of ours follows the last one
within some ten microseconds, so a short spin serves a process alone as well as a long one.
"""

import os

_SPINS = "20000"
"""About 0.1 ms. Target and draft model beside each other on two cores, K = 4: 1.35 to 1.4 times the
tokens a second of plain decoding, instead of 0.6 to 1.2 times; a pass alone takes as long."""


def spin_briefly() -> None:
    """Call it before torch is imported. What the environment says already stays."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
