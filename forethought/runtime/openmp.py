"""How the threads of a computing process wait for each other.

Between two operations OpenMP's threads spin, which is much faster than to sleep and be woken. GNU's
spins for milliseconds: on a machine where two tiers share the cores, each then spins in the way of
the other's work, and both take several times as long. An operation of ours follows the last one
within some ten microseconds. But whoever is woken from sleep comes so late that the others may
sleep by then: spins must last longer than waking takes, or one disturbance, such as a store that
gets a write, leaves a pass of two hundred operations to wake somebody in each.
"""

import os

NUM_SPINS = "50000"
"""About 0.25 ms. With 0.1 ms a write to the store cost 3.5 ms of a pass of 6, and plain decoding in
int4 made 167 tokens a second on two cores, instead of 179 with this and 182 with 0.5 ms. A draft
tier on the same cores is no slower with it than with 0.1 ms."""


def spin_briefly() -> None:
    """Call it before torch is imported. What the environment says already stays."""
    os.environ.setdefault("GOMP_SPINCOUNT", NUM_SPINS)
