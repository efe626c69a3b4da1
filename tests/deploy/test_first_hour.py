"""deploy/first-hour.md: its commands lead to a call behind TLS, with monitoring.

They run one after the other as they stand, with the real nginx, Prometheus and Alertmanager. What
cannot be had here has a stand-in of the same name: the package manager, the checkout, the bundle
(`test_bundle.py` runs that), Let's Encrypt, systemd; providers are fakes, which are not asked
whether keys are good. Folders of the system lie in one of the test's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.clients import CLIENTS, Event
from tests.end_to_end.conftest import installed
from tests.end_to_end.rollout import write_recording
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY
from tests.ports import Port
from tests.services import needed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy/first-hour.md").read_text()
STEPS = re.findall(r"^## (\d\. .*?)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
TIMEOUT_S = 300
STOP_S = 30
FOLDERS = ("/etc/", "/opt/parley", "/var/lib/parley", "/tmp/parley-bundle")

SYSTEMCTL = '''\
"""Starts what a unit says, in the background; a second start replaces the first."""
import os, re, shlex, signal, subprocess, sys, time
from pathlib import Path

ROOT = Path(os.environ["ROOT"])

def start(name, command, variables):
    pid = ROOT / f"run/{name}.pid"
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        time.sleep(1)
    with open(ROOT / f"run/{name}.log", "ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )
    pid.write_text(str(process.pid))

def assignments(text):
    return dict(one.split("=", 1) for one in text.splitlines() if "=" in one and one[0] != "#")

def parley():
    unit = (ROOT / "etc/systemd/system/parley.service").read_text()
    variables = {}
    for line in re.findall("^Environment=(.*)$", unit, re.M):
        variables |= assignments("\\n".join(shlex.split(line)))
    for path in re.findall("^EnvironmentFile=-?(.*)$", unit, re.M):
        variables |= assignments(Path(path).read_text())
    start("parley", shlex.split(re.search("^ExecStart=(.*)$", unit, re.M)[1]), variables)

def packaged(name, program, *arguments):
    given = assignments((ROOT / f"etc/default/{name}").read_text())["ARGS"].strip('"')
    start(name, [program, *arguments, *shlex.split(given)], {})

verb, *names = [one for one in sys.argv[1:] if one != "--now"]
for name in names:
    if name == "parley":
        parley()
    elif name == "nginx":
        pid = ROOT / "run/nginx.pid"  # which `nginx -t` leaves behind, empty
        runs = pid.exists() and pid.read_text().strip()
        subprocess.run(["nginx", "-s", "reload"] if runs else ["nginx"], check=True)
    elif name == "prometheus":
        packaged(name, os.environ["PROMETHEUS"],
                 f"--config.file={ROOT}/etc/prometheus/prometheus.yml",
                 f"--storage.tsdb.path={ROOT}/run/prometheus")
    elif name == "prometheus-alertmanager":
        packaged(name, os.environ["ALERTMANAGER"],
                 f"--config.file={ROOT}/etc/prometheus/alertmanager.yml",
                 f"--storage.path={ROOT}/run/alertmanager")
'''

CERTBOT = """\
#!/bin/sh -e
# as certbot, where it puts what it got
into=$ROOT/etc/letsencrypt/live/voice.example.com
mkdir -p "$into"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=voice.example.com \\
    -addext subjectAltName=DNS:voice.example.com,DNS:localhost \\
    -keyout "$into/privkey.pem" -out "$into/fullchain.pem" 2> /dev/null
"""

BUNDLE = """\
#!/bin/sh -e
[ "$1" = install ] || { mkdir -p "$2" && cp "$0" "$2/bundle"; exit; }
mkdir -p "$2/bin"
printf '#!/bin/sh\\nexec "$PYTHON" -m gateway "$@"\\n' > "$2/bin/gateway"
chmod +x "$2/bin/gateway"
"""


@dataclass
class Machine:
    """Where the page was followed, and what came of it."""

    root: Path
    port: int
    output: str

    @property
    def authority(self) -> Path:
        return self.root / "etc/letsencrypt/live/voice.example.com/fullchain.pem"

    def secret(self, name: str) -> str:
        found = re.search(rf"^{name}=(.*)$", (self.root / "etc/parley/env").read_text(), re.M)
        assert found is not None
        return found[1]


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def commands(step: str) -> str:
    return "".join(re.findall(r"```sh\n(.*?)```", step, re.DOTALL))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine")
    real = {name: needed(name) for name in ("nginx", "prometheus", "promtool", "amtool", "openssl")}
    alertmanager = needed("prometheus-alertmanager")
    for folder in ("bin", "run", "etc/systemd/system", "etc/nginx/conf.d", "etc/default"):
        (root / folder).mkdir(parents=True)
    (root / "etc/prometheus").mkdir()
    with ExitStack() as stack:
        https, http, admin, prometheus, alerts = (
            stack.enter_context(Port()).number for _ in range(5)
        )
        llm = stack.enter_context(FakeOpenAI())
        ear = stack.enter_context(FakeDeepgram())
        voice = stack.enter_context(FakeCartesia())
        keys = {
            "OPENAI_API_KEY=...": f"OPENAI_API_KEY=k\nOPENAI_BASE_URL={llm.base_url}",
            "DEEPGRAM_API_KEY=...": f"DEEPGRAM_API_KEY={KEY}\nDEEPGRAM_BASE_URL={ear.url}",
            "CARTESIA_API_KEY=...": f"CARTESIA_API_KEY=k\nCARTESIA_BASE_URL={voice.url}",
        }

        def here(text: str) -> str:
            """What is said of the machine, said of this folder and these ports."""
            for folder in FOLDERS:
                text = re.sub(rf"(?<![\w}}]){re.escape(folder)}", f"{root}{folder}", text)
            for there, port in (("9090", prometheus), ("9091", admin), ("9093", alerts)):
                text = re.sub(rf"\b{there}\b", str(port), text)
            for there, own in keys.items():
                text = text.replace(there, own)
            text = text.replace("  host: 127.0.0.1", f"  port: {http}\n  host: 127.0.0.1")
            text = text.replace("listen 443 ", f"listen 127.0.0.1:{https} ")
            text = text.replace("server 127.0.0.1:8080", f"server 127.0.0.1:{http}")
            # the fakes have not all of their vendors' routes
            text = text.replace("check --live", "check")
            return text.replace("-g prometheus ", "")  # another user's files need root

        checkout = root / "checkout"
        shutil.copytree(ROOT / "deploy", checkout / "deploy")
        for path in ("nginx.conf", "prometheus.machine.yml", "systemd/parley.service"):
            file = checkout / "deploy" / path
            file.write_text(here(file.read_text()))
        program(checkout / "deploy", "bundle", BUNDLE)
        paths = "".join(
            f"{kind}_temp_path {root}/run/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (root / "nginx.conf").write_text(
            f"{'user root;' if os.geteuid() == 0 else ''} pid {root}/run/nginx.pid;\n"
            f"error_log {root}/run/nginx.log; events {{}}\n"
            f"http {{ access_log off; {paths} include {root}/etc/nginx/conf.d/*.conf; }}\n"
        )
        stand_ins = {
            "sudo": '#!/bin/sh\nexec env "$@"\n',
            "apt-get": "#!/bin/sh\n",
            "git": '#!/bin/sh\ncp -R "$ROOT/checkout" "$3"\n',
            "certbot": CERTBOT,
            "nginx": f'#!/bin/sh\nexec {real["nginx"]} -c "$ROOT/nginx.conf" -p "$ROOT" "$@"\n',
            "systemctl": f"#!{sys.executable}\n{SYSTEMCTL}",
            "curl": f"#!/bin/sh\nexec {needed('curl')} --cacert {root}/etc/letsencrypt/live/"
            "voice.example.com/fullchain.pem "
            f'--connect-to voice.example.com:443:127.0.0.1:{https} "$@"\n',
        }
        for name, text in stand_ins.items():
            program(root / "bin", name, text)
        script = "".join(
            f"printf '\\n@ %s\\n' \"{title}: $SECONDS s\"\n{commands(step)}"
            for title, step in (*STEPS, ("the end", ""))
        )
        variables = {
            "PATH": f"{root}/bin:{os.environ['PATH']}",
            "HOME": str(root),
            "ROOT": str(root),
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "PROMETHEUS": real["prometheus"],
            "ALERTMANAGER": alertmanager,
        }
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", here(script)],
                cwd=root,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            logs = "".join(
                f"\n{log.name}: {log.read_text()[-2000:]}" for log in (root / "run").glob("*.log")
            )
            assert done.returncode == 0, done.stdout[-6000:] + logs
            print("begun after:", *re.findall(r"^@ (.*)$", done.stdout, re.MULTILINE), sep="\n")
            yield Machine(root, https, done.stdout)
        finally:
            for pid in (root / "run").glob("*.pid"):
                if number := pid.read_text().strip():
                    stop(int(number))


def stop(pid: int) -> None:
    """End a process that the stand-in for systemd has started, which is nobody's child now."""
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(STOP_S * 10):
            os.kill(pid, 0)
            signal.sigtimedwait([], 0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def said(machine: Machine, number: int) -> str:
    """What the commands of a step printed."""
    return machine.output.split("@ ")[number].partition("\n")[2]


@pytest.mark.slow
def test_the_configuration_is_good_and_the_server_is_ready(machine: Machine) -> None:
    assert "ready to serve" in said(machine, 3)
    assert '"ready":true' in said(machine, 4).replace(" ", "")


@pytest.mark.slow
def test_secrets_can_be_read_by_root_alone(machine: Machine) -> None:
    assert (machine.root / "etc/parley/env").stat().st_mode & 0o777 == 0o600
    assert machine.secret("LIVEKIT_API_SECRET") not in machine.output


@pytest.mark.slow
def test_a_reply_comes_through_tls(machine: Machine) -> None:
    models, _, reply = said(machine, 5).rpartition('{"id"')
    assert '"object":"list"' in models
    assert json.loads('{"id"' + reply)["choices"][0]["message"]["content"]


@pytest.mark.slow
def test_prometheus_sees_the_gateway_and_alertmanager_hears_of_alerts(machine: Machine) -> None:
    told = said(machine, 7)

    assert "parley_build_info" in told
    assert "/api/v2/alerts" in told
    assert "ParleyTest" in told.rpartition("/api/v2/alerts")[2]
    assert "SUCCESS" in told


@pytest.mark.slow
def test_a_call_of_the_real_client_goes_through_tls(machine: Machine, tmp_path: Path) -> None:
    client = installed(CLIENTS[0])
    url = f"https://localhost:{machine.port}/v1"
    events = client.drive(
        "drive_talk",
        str(write_recording(tmp_path / "caller.wav")),
        environment={
            "LIVEKIT_INFERENCE_URL": url,
            "LIVEKIT_REMOTE_EOT_URL": url,
            "LIVEKIT_API_KEY": machine.secret("LIVEKIT_API_KEY"),
            "LIVEKIT_API_SECRET": machine.secret("LIVEKIT_API_SECRET"),
            "SSL_CERT_FILE": str(machine.authority),
        },
    )

    def went_well(name: str) -> bool:
        tries: list[Event] = [event for event in events if event["event"] == name]
        return bool(tries) and all(event["ok"] for event in tries)

    assert went_well("reply"), events
    assert went_well("utterance"), events
    # the caller's voice here is no human's, so nothing is interrupted; the detector is there
    detectors = {e["part"]: e["lost"] for e in events if e["event"] == "detector"}
    assert detectors["bargein"] is False, events
    assert any(event["event"] == "final" for event in events), events
    log = (machine.root / "run/parley.log").read_text()
    lines = [json.loads(line) for line in log.splitlines() if '"outcome"' in line]
    assert {line["route"] for line in lines} >= {"chat", "stt", "tts", "bargein"}
    # whom nginx named, and not nginx
    assert {line["identity"] for line in lines} == {"agent"}


def test_it_says_no_command_that_was_not_run() -> None:
    run = "".join(commands(step) for _, step in STEPS)

    assert commands(PAGE) == run
    assert "```sh" in PAGE
