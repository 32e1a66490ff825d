"""The log says how many bytes of a large model have been read."""

from structlog.testing import capture_logs

from forethought.engine.lean import reading_progress
from forethought.engine.lean.reading_progress import ReadingProgress
from forethought.engine.loading.loader import open_checkpoint
from forethought.models.files.reference import resolve
from tests.tiny import write_tiny_model


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_every_other_second_says_how_many_bytes_of_how_many_are_laid_out(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reading_progress, "time", clock)
    sizes = {f"layers.{layer}.{part}": 100 for layer in range(12) for part in ("q", "k")}
    progress = ReadingProgress({**sizes, "head": 600})
    with capture_logs() as logs:
        for layer in range(12):
            clock.now += 0.8
            progress.add_layer(f"layers.{layer}")
    said = [(line["num_bytes"], line["of_bytes"], line["seconds"]) for line in logs]
    assert said == [(600, 3000, 2.4), (1200, 3000, 4.8), (1800, 3000, 7.2), (2400, 3000, 9.6)]


def test_the_sizes_of_weights_are_those_of_the_file(tmp_path):
    folder = write_tiny_model(tmp_path)
    _, checkpoint = open_checkpoint(resolve(str(folder)))
    total = sum(checkpoint.sizes().values())
    file_size = (folder / "model.safetensors").stat().st_size
    assert file_size - 10_000 < total < file_size
