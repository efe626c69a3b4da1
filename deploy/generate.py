"""Writes what is made from the code: python -m deploy.generate

The example configuration and environment (from the settings), the dashboard (from its list of
panels), the table of metrics.md (from gateway/telemetry/metrics.py), and the copies of alerts and
dashboard in the Helm chart, which cannot reach files outside of it.
"""

from __future__ import annotations

from pathlib import Path

from deploy import dashboard, examples, metrics_table
from gateway.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent


def files() -> dict[Path, str]:
    """What each made file should hold."""
    chart = ROOT / "deploy/helm/parley"
    made = {
        ROOT / "deploy/config.example.yaml": examples.configuration(),
        ROOT / "deploy/.env.example": examples.environment(),
        ROOT / "deploy/grafana/dashboards/parley.json": dashboard.text(),
        chart / "files/alerts.yml": (ROOT / "deploy/alerts.yml").read_text("utf-8"),
        chart / "files/dashboard.json": dashboard.text(),
    }
    page = ROOT / "deploy/metrics.md"
    if page.is_file():
        made[page] = metrics_table.put_into(page.read_text("utf-8"), Metrics())
    return made


def main() -> None:
    for path, text in files().items():
        if not path.is_file() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
