"""Records many phases, in a process of its own: with few imports, since it is spawned."""

from pathlib import Path

from profiling.recorder import Recorder
from protocol.spec import Spec


def record_many(state: Path, spec: Spec, times: int) -> None:
    """Record `times` phases of 100 layers each."""
    recorder = Recorder(state, "participant", "0xabc", spec)
    for round_id in range(times):
        with recorder.phase("pin", round_id) as span:
            for index in range(100):
                with span.layer(index) as meter:
                    meter.add(written=index)
