"""What each of several workers is given."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.serve import for_workers
from gateway.server.supervisor import Seat

YAML = """
keys: {APItest: ssssssssssssssssssssssssssssssssssssssss}
server: {workers: 3, trusted_proxies: [10.0.0.0/8]}
providers:
  openai: {api_key: k}
  cartesia: {api_key: c}
"""


def config(tmp_path: Path, more: str = "") -> Config:
    file = tmp_path / "gateway.yaml"
    file.write_text(YAML + more)
    return load(file, {})


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 1), (8, 2), (96, 32)])
def test_workers_share_the_cores_for_the_interruption_model(
    tmp_path: Path, cores: int, threads: int
) -> None:
    assert for_workers(config(tmp_path), cores).bargein.threads == threads


def test_threads_that_are_set_stay(tmp_path: Path) -> None:
    given = config(tmp_path, "bargein: {threads: 1}\n")
    assert for_workers(given, 96).bargein.threads == 1


def test_a_worker_reads_the_configuration_that_its_supervisor_had(tmp_path: Path) -> None:
    given = for_workers(config(tmp_path), 4), Seat(2, tmp_path, "127.0.0.1", 8080)
    assert pickle.loads(pickle.dumps(given)) == given


def test_a_server_that_is_stopped_while_it_starts_ends(tmp_path: Path) -> None:
    """As process 1 of a container too, for which the system has no answer to SIGTERM of its own."""
    given = config(tmp_path)
    code = f"""
import pickle, socket, time
from gateway import serve
def slow(config):
    print("starts", flush=True)
    time.sleep(600)
serve.Gateway = slow
serve.serve(pickle.loads({pickle.dumps(given)!r}), None, socket.socket())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"starts\n"
        process.terminate()
        assert process.wait(60) == 0
