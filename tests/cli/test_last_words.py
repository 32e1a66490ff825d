"""What `forethought up` says of a tier that is not ready, out of that tier's log."""

import pytest

from forethought.local.processes.last_words import describe_progress


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("model_loading  model=m num_bytes=98362432", "reads the model of 98 MB"),
        (
            "model_reading  num_bytes=400000000 of_bytes=1117000000 seconds=2.0",
            "reads the model: 400 of 1,117 MB",
        ),
        ("model_warm     model=m seconds=1.0", "measures its passes"),
    ],
)
def test_a_tier_that_loads_says_how_far_it_is(tmp_path, fields, words):
    log = tmp_path / "target.log"
    log.write_text(
        f"2026-01-01T00:00:00Z [info     ] listening port=1\n"
        f"2026-01-01T00:00:01Z [info     ] {fields}\n"
    )
    assert describe_progress(log) == words
