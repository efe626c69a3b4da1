import csv
import io
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from models.interruption.data import g722, recordings
from models.interruption.data.collect import COLUMNS, Pinned
from models.interruption.data.recordings import Package, Source, Verdict, cut, digest, rms
from tests.models.interruption.clones import committed

RATE = 16_000
Run = Callable[..., str]


def tone(seconds: float, rate: int = RATE, peak: float = 0.3) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return np.asarray(peak * np.sin(2 * np.pi * 220 * t), np.float32)


def wav(sound: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def stored(sound: np.ndarray, rate: int = RATE) -> np.ndarray:
    """What a reader finds in the file."""
    found: np.ndarray = soundfile.read(io.BytesIO(wav(sound, rate)), dtype="float32")[0]
    return found


def whole(sound: np.ndarray) -> np.ndarray:
    return np.rint(sound.astype(np.float64) * 32_768).astype(np.int16)


@dataclass
class World:
    """A clone, a package and the table of what they hold."""

    clones: Path
    packages: Path
    out: Path
    table: Path
    expected: dict[str, np.ndarray]

    def rows(self) -> list[dict[str, str]]:
        with (self.out / "train/manifest.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def change(self, which: str, **values: str) -> None:
        """Of one row of the table."""
        with self.table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if row["path"] == which:
                row.update(values)
        with self.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    work = tmp_path / "work"
    work.mkdir()
    (work / "long.wav").write_bytes(wav(tone(2.0)))
    (work / "loud.wav").write_bytes(wav(tone(1.0, peak=0.999)))
    stereo = np.stack([tone(1.0, 48_000), tone(1.0, 48_000, 0.1)], axis=1)
    (work / "fast.wav").write_bytes(wav(stereo, 48_000))
    with tarfile.open(work / "noises.tar.gz", "w:gz") as packed:
        content = wav(tone(0.5, peak=0.01))
        member = tarfile.TarInfo("hum.wav")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    repository = Pinned("someone/sounds", committed(work, tmp_path / "clones/someone+sounds"))
    prompt = np.random.default_rng(2).integers(0, 256, 400, dtype=np.uint8).tobytes()
    package = tmp_path / "packages/prompts/usr/share/prompts"
    package.mkdir(parents=True)
    (package / "hello.g722").write_bytes(prompt)

    loud = stored(tone(1.0, peak=0.999))
    mono = stored(stereo, 48_000).mean(axis=1)
    spoken = g722.decoded(prompt)[:500].astype(np.float32) / np.float32(32_768)
    expected = {
        "conversation_ami/long": whole(stored(tone(2.0)))[8000:24_000],
        "speech/loud": whole(np.float32(0.99) * loud / np.abs(loud).max()),
        "speech/fast": whole(soxr.resample(mono, 48_000, RATE, "HQ")),
        "noise/hum": whole(stored(tone(0.5, peak=0.01))),
        "prompts/hello": whole(np.float32(0.99) * spoken / np.abs(spoken).max()),
    }
    origins = {
        "conversation_ami/long": ("someone/sounds", "long.wav", 8000),
        "speech/loud": ("someone/sounds", "loud.wav", 0),
        "speech/fast": ("someone/sounds", "fast.wav", 0),
        "noise/hum": ("someone/sounds", "noises.tar.gz", 0),
        "prompts/hello": ("prompts", "old/hello.g722", 0),
    }
    table = tmp_path / "recordings.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            "path label speaker onset_s text source source_path note start samples rms "
            "sha256".split()
        )
        for path, (source, source_path, start) in origins.items():
            sound = expected[path]
            writer.writerow([path, "speech", "her", "0.1", "hi", source, source_path, "7", start,
                             len(sound), f"{rms(sound):.2f}", digest(sound)])  # fmt: skip
    segments = tmp_path / "segments.csv"
    segments.write_text(
        "path,speaker\ntrain/conversation_ami/long.flac,her\ntrain/conversation_ami/no.flac,him\n"
    )
    monkeypatch.setattr(recordings, "TABLE", table)
    monkeypatch.setattr(recordings, "SEGMENTS", segments)
    monkeypatch.setattr(recordings, "SOURCES", (
        Source("conversation_ami", repository, "CC0", RATE, "meeting"),
        Source("speech", repository, "CC0", RATE, "read", "a note of {} s"),
        Source("noise", repository, "MIT", RATE, "background"),
        Source("prompts", Package("prompts", "1-1", ("old", "usr/share/prompts")), "CC BY-SA 3.0",
               RATE, "television"),
    ))  # fmt: skip
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path / "cache"))
    return World(tmp_path / "clones", tmp_path / "packages", tmp_path / "out", table, expected)


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: object, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["recordings", *map(str, arguments)])
        if not fails:
            recordings.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as stopped:
            recordings.main()
        assert stopped.value.code not in (0, None)
        printed = capsys.readouterr()
        message = stopped.value.code if isinstance(stopped.value.code, str) else ""
        return printed.out + printed.err + message

    return command


def making(world: World) -> tuple[object, ...]:
    return ("--repositories", world.clones, "--packages", world.packages, "--out", world.out)


def test_the_folder_is_made_as_the_table_says(world: World, run: Run) -> None:
    printed = run(*making(world))
    assert "speech, someone/sounds: 2 equal" in printed
    for path, expected in world.expected.items():
        sound, rate = soundfile.read(world.out / f"train/{path}.flac", dtype="int16")
        assert rate == RATE
        assert sound.tolist() == expected.tolist(), path
    rows = {row["path"]: row for row in world.rows()}
    assert rows["train/speech/loud.flac"] == dict(zip(COLUMNS, (
        "train/speech/loud.flac", "speech", "read", "her", "1.0", "0.1", "hi", "16000",
        "someone/sounds", "loud.wav", "CC0", "a note of 7 s"), strict=True))  # fmt: skip
    assert rows["train/prompts/hello.flac"]["source_repo"] == "Debian prompts"
    assert len(rows) == len(world.expected)
    segments = (world.out / "train/conversation_ami/segments.csv").read_text().split()
    assert segments == ["path,speaker", "train/conversation_ami/long.flac,her"]
    assert not list(world.out.rglob("*.part"))


def test_a_second_run_makes_only_what_is_not_there(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*making(world))
    (world.out / "train/speech/fast.flac").write_bytes(b"broken off")
    read = []
    original = recordings.original

    def noted(content: bytes, recording: recordings.Recording) -> np.ndarray:
        read.append(recording.path)
        return original(content, recording)

    monkeypatch.setattr(recordings, "original", noted)
    run(*making(world))
    assert read == ["train/speech/fast.flac"]


def test_all_that_is_missing_is_named_before_anything_is_made(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (world.clones / "someone+sounds").rename(tmp_path / "elsewhere")
    (world.packages / "prompts").rename(tmp_path / "prompts")
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get here
    message = run(*making(world), fails=True)
    commit = recordings.SOURCES[0].origin
    assert isinstance(commit, Pinned)
    assert "someone/sounds, 4 recordings:" in message
    assert "git clone --bare https://github.com/someone/sounds" in message
    assert commit.commit in message
    assert "apt-get download prompts" in message
    assert "prompts_1-1_all.deb" in message
    assert not world.out.exists()


def test_a_clone_without_the_commit_is_named(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Pinned("someone/sounds", "0" * 40)
    monkeypatch.setattr(recordings, "SOURCES", tuple(
        replace(source, origin=absent) if isinstance(source.origin, Pinned) else source
        for source in recordings.SOURCES
    ))  # fmt: skip
    assert f"has no commit {'0' * 40}" in run(*making(world), fails=True)


def test_a_source_is_left_out_only_where_that_is_asked_for(
    world: World, run: Run, tmp_path: Path
) -> None:
    (world.clones / "someone+sounds").rename(tmp_path / "elsewhere")
    printed = run(*making(world), "--without", "someone/sounds")
    assert "someone/sounds: left out, 4 recordings" in printed
    assert [row["path"] for row in world.rows()] == ["train/prompts/hello.flac"]
    segments = (world.out / "train/conversation_ami/segments.csv").read_text()
    assert segments.split() == ["path,speaker"]
    assert "invalid choice: 'someone/else'" in run(
        *making(world), "--without", "someone/else", fails=True
    )


def test_a_sound_that_is_another_is_not_taken(world: World, run: Run) -> None:
    world.change("speech/loud", rms="17.00", sha256="0" * 16)
    message = run(*making(world), fails=True)
    assert "someone/sounds loud.wav: is not the sound it was" in message
    assert not (world.out / "train/speech/loud.flac").exists()
    assert not (world.out / "train/manifest.csv").exists(), "the folder is not whole"


def test_a_file_that_is_not_there_is_named(world: World, run: Run) -> None:
    world.change("speech/loud", source_path="lost.wav")
    world.change("noise/hum", path="noise/lost")
    world.change("prompts/hello", source_path="old/lost.g722")
    message = run(*making(world), fails=True)
    assert "someone/sounds lost.wav: cannot be read" in message
    assert "someone/sounds noises.tar.gz: cannot be read" in message
    assert "prompts old/lost.g722: cannot be read" in message


def test_another_last_bit_is_near(world: World, run: Run) -> None:
    world.change("speech/fast", sha256="0" * 16)
    assert "speech, someone/sounds: 1 equal, 1 near" in run(*making(world))
    (one,) = [one for one in recordings.recordings() if one.row["path"] == "speech/fast"]
    sound = world.expected["speech/fast"]
    assert one.verdict(sound + np.int16(1)) is Verdict.NEAR
    assert one.verdict(sound // np.int16(2)) is Verdict.DIFFERENT
    assert one.verdict(sound[1:]) is Verdict.DIFFERENT


def test_a_folder_is_compared_with_the_table(world: World, run: Run) -> None:
    run(*making(world))
    assert "noise, someone/sounds: 1 equal" in run("--audio", world.out, "--check")
    (world.out / "train/noise/hum.flac").unlink()
    soundfile.write(world.out / "train/speech/fast.flac", tone(1.0), RATE)
    manifest = world.out / "train/manifest.csv"
    manifest.write_text(manifest.read_text().replace(",MIT,", ",CC0,"))
    message = run("--audio", world.out, "--check", fails=True)
    assert "train/noise/hum.flac: absent" in message
    assert "train/speech/fast.flac: different" in message
    assert "train/noise/hum.flac: its row in train/manifest.csv is another" in message
    assert "train/speech/loud.flac" not in message


def test_a_folder_without_a_manifest_is_named(world: World, run: Run, tmp_path: Path) -> None:
    assert "no train/manifest.csv" in run("--audio", tmp_path, "--check", fails=True)
    assert "--repositories and --out are needed" in run(fails=True)


def test_only_what_would_clip_is_scaled() -> None:
    quiet, loud = tone(0.1), tone(0.1, peak=1.2)
    assert cut(quiet, 10, 20).tolist() == whole(quiet)[10:30].tolist()
    assert np.abs(cut(loud, 0, len(loud))).max() == pytest.approx(0.99 * 32_768, abs=1)
    assert cut(quiet, len(quiet), 5).tolist() == []


def test_the_published_table_is_whole() -> None:
    found = recordings.recordings()
    assert len({one.path for one in found}) == len(found) == 1705
    assert {one.source for one in found} == set(recordings.SOURCES)
    share_alike = {one.source.name for one in found if "SA" in one.source.licence}
    assert share_alike == {f"asterisk-core-sounds-{code}-g722" for code in ("en", "es", "fr")}
    rows = [one.manifest_row() for one in found]
    assert all("{" not in row["note"] for row in rows)
    with recordings.SEGMENTS.open(newline="") as file:
        meetings = {row["path"] for row in csv.DictReader(file)}
    assert meetings == {one.path for one in found if one.source.folder == "conversation_ami"}
