"""A short storm. `make chaos` has longer ones."""

from tests.chaos.run import ChaosOptions, run_chaos
from tests.tiny import write_tiny_model

SHORT = ChaosOptions(
    duration_s=6, seed=1, interval_s=1.5, num_readers=4, max_tokens=150, pause_s=0.5
)


async def test_every_stream_survives_a_short_storm_with_its_undisturbed_text(tmp_path):
    folder = write_tiny_model(tmp_path / "model", vocab_size=12, seed=1, max_model_len=4096)
    report = await run_chaos(folder, tmp_path, SHORT)
    assert not report.findings.failures, report
    assert report.findings.num_streams >= SHORT.num_readers, report
    assert sum(report.faults.values()) >= 3, report
