"""A short soak. `make soak` has a longer one, which also asks how long short requests take."""

from tests.soak.run import MIB, SoakOptions, run_soak
from tests.tiny import write_tiny_model

SHORT = SoakOptions(
    duration_s=6,
    quiet_s=1,
    warm_up_s=2,
    pause_s=0.2,
    max_growth_bytes=64 * MIB,
    max_slowdown=None,
    max_refused_share=0.1,
)


async def test_hostile_clients_leave_nothing_behind_and_others_their_texts(tmp_path):
    folder = write_tiny_model(tmp_path / "model", vocab_size=12, seed=1, max_model_len=4096)
    report = await run_soak(folder, tmp_path, SHORT)
    assert not report.failures, report
    assert report.num_streams > 0, report
    assert report.num_short > 0, report
    assert len({name.partition(":")[0] for name in report.answers}) == 10, report
