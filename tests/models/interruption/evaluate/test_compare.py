"""What is told of one model in two forms."""

import copy
import json
import sys
from pathlib import Path

import pytest

from models.interruption.evaluate import compare, scoring
from models.interruption.evaluate.compare import auc_apart, costs, differing, outside

PUBLISHED = Path(compare.__file__).parents[1] / "interruption.onnx"


def tables() -> compare.Tables:
    return {
        "interview": {
            "decisions": {
                "0.5": {"interruption": {"n": 120, "rate": [0.5, 0.4, 0.6]}},
                "1.0": {
                    "interruption": {"n": 120, "rate": [0.9, 0.8, 1.0]},
                    "backchannel": {"n": 44, "rate": [4 / 44, 0.0, 0.2]},
                    "cough": {"n": 0, "rate": None},
                },
            },
            "ranking": {"0.6": {"auc": [0.93, 0.9, 0.95]}, "1.2": {"auc": [0.97, 0.9, 0.99]}},
        },
        "ami": {"decisions": {}, "ranking": {"0.6": {"auc": [0.81, 0.2, 1.0]}}},
    }


def test_each_decision_that_differs_is_counted_where_it_is() -> None:
    one, other = tables(), tables()
    decided = one["interview"]["decisions"]["1.0"]
    decided["interruption"]["rate"][0] = 106 / 120
    decided["backchannel"]["rate"][0] = 5 / 44
    assert list(differing(one, other)) == [
        ("interview", "1.0", "interruption", 120, -2),
        ("interview", "1.0", "backchannel", 44, 1),
    ]
    assert list(differing(other, tables())) == []


def test_the_farthest_auc_is_named_with_its_table_and_time() -> None:
    one, other = tables(), tables()
    one["interview"]["ranking"]["1.2"]["auc"][0] += 0.004
    one["ami"]["ranking"]["0.6"]["auc"][0] -= 0.02
    apart, where = auc_apart(one, other)
    assert apart == pytest.approx(0.02)
    assert where == "ami, 0.6 s"


def test_what_lies_outside_the_intervals_is_told_and_whether_it_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tables(), tables()
    decided = other["interview"]["decisions"]
    decided["0.5"]["interruption"]["rate"][0] = 0.7
    decided["1.0"]["backchannel"]["rate"][0] = 0.25
    other["interview"]["ranking"]["0.6"]["auc"][0] = 0.96
    assert [(name, worse) for name, _, _, worse in outside(one, other)] == [
        ("interview, AUC at 0.6 s", False),
        ("interview, interruption by 0.5 s", False),
        ("interview, backchannel by 1.0 s", True),
    ]
    for name, found in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "figures.json").write_text(json.dumps({"tables": found}))
    folders = [str(tmp_path / "one"), str(tmp_path / "other")]
    monkeypatch.setattr(sys, "argv", ["compare", *folders, "--within"])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "interview, backchannel by 1.0 s: 0.25, worse than 0.09 (0.00-0.20)" in said
    assert "1 figures are worse than the intervals allow, 2 better" in said


def test_evaluations_of_other_trials_are_not_compared() -> None:
    fewer = copy.deepcopy(tables())
    fewer["interview"]["decisions"]["1.0"]["backchannel"]["n"] = 43
    with pytest.raises(ValueError, match=r"interview: trials .*44.* against .*43"):
        list(differing(tables(), fewer))
    lacking = tables()
    del lacking["ami"]
    with pytest.raises(ValueError, match=r"tables of one alone: \['ami'\]"):
        list(differing(tables(), lacking))


def test_each_file_has_a_line_with_the_least_and_the_median(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([{"100 ms step": ms} for ms in (3.0, 9.0, 1.0, 7.0, 2.0, 8.0)])
    monkeypatch.setattr(scoring, "milliseconds", lambda model: next(told))
    assert costs([PUBLISHED, PUBLISHED], rounds=3) == [
        f"{PUBLISHED}: 100 ms step 1.00, 2.00 ms",
        f"{PUBLISHED}: 100 ms step 7.00, 8.00 ms",
    ]


def test_the_command_reads_what_the_evaluation_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tables()
    one["interview"]["decisions"]["0.5"]["interruption"]["rate"][0] = 61 / 120
    for name, figures in (("one", one), ("other", tables())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "figures.json").write_text(json.dumps({"tables": figures}))
    folders = [str(tmp_path / "one"), str(tmp_path / "other")]
    monkeypatch.setattr(sys, "argv", ["compare", *folders])
    compare.main()
    assert capsys.readouterr().out.splitlines() == [
        "interview, by 0.5 s: interruption +1 of 120",
        "AUC apart by at most 0.000 (interview, 1.2 s)",
    ]
