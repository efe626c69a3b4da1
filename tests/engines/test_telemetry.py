"""Nobody is told that the gateway runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fakes import frame_model

ROOT = Path(__file__).parents[2]

LOADS = """
import sys
from pathlib import Path
from gateway.engines.onnx import FrameModel
FrameModel(Path(sys.argv[1]), interface="bargein/1").warm()
"""


def test_the_engine_keeps_no_identity_and_no_queue_of_reports(tmp_path: Path) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}

    subprocess.run(
        [sys.executable, "-c", LOADS, str(model)],
        cwd=ROOT,
        env=variables | {"HOME": str(home)},
        check=True,
        timeout=300,
    )

    assert [path for path in home.rglob("*") if path.is_file()] == []
