"""YAML text becomes plain values, each with its line."""

import pytest

from gateway.settings.document import DocumentError, parse


def test_values_have_the_types_that_yaml_gives_them() -> None:
    text = "a: 1\nb: 1.5\nc: yes\nd: text\ne: [1, null]\nf: {g: '1'}\nh: 0x10\ni: 1e3\n"
    assert parse(text).values == {
        "a": 1, "b": 1.5, "c": True, "d": "text", "e": [1, None], "f": {"g": "1"}, "h": 16,
        "i": "1e3",
    }  # fmt: skip


def test_dates_times_and_addresses_stay_text() -> None:
    text = "a: 2024-10-21\nb: 10:30\nc: 12:30:45.5\nd: 2024-10-21 10:00:00\n"
    assert parse(text).values == {
        "a": "2024-10-21", "b": "10:30", "c": "12:30:45.5", "d": "2024-10-21 10:00:00",
    }  # fmt: skip


def test_names_are_text_whatever_yaml_takes_them_for() -> None:
    assert parse("no: 1\n1: 2\n1.5: 3\n2024-10-21: 4\n").values == {
        "no": 1, "1": 2, "1.5": 3, "2024-10-21": 4,
    }  # fmt: skip


def test_every_value_has_its_line() -> None:
    document = parse("# first\na:\n  b: 1\n  c:\n    - x\n    - y: 2\n")
    assert document.lines["a", "b"] == 3
    assert document.lines["a", "c", "0"] == 5
    assert document.lines["a", "c", "1", "y"] == 6


def test_what_is_not_there_has_the_line_of_what_it_would_stand_in() -> None:
    document = parse("a:\n  b: 1\n")
    assert document.line(("a", "z", "y")) == 1
    assert document.line(("z",)) is None


def test_an_empty_text_has_no_value() -> None:
    assert parse("").values is None
    assert parse("# nothing\n").values is None


def test_merge_keys_share_settings_and_own_ones_win() -> None:
    text = """
    rack: &rack {type: x, base_url: a, models: [m]}
    spare: &spare {type: y, weight: 2}
    one: {<<: *rack, base_url: b}
    two: {<<: [*rack, *spare], weight: 3}
    """
    values = parse(text).values
    assert values["one"] == {"type": "x", "base_url": "b", "models": ["m"]}
    assert values["two"] == {"type": "x", "base_url": "a", "models": ["m"], "weight": 3}


def test_a_merged_mapping_may_itself_merge() -> None:
    text = "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\n"
    assert parse(text).values["c"] == {"x": 1, "y": 2, "z": 3}


def test_an_anchor_may_be_used_many_times() -> None:
    assert parse("a: &a [1]\nb: [*a, *a]\n").values["b"] == [[1], [1]]


def test_windows_lines_and_a_byte_order_mark_are_taken() -> None:
    assert parse("\ufeffa: 1\r\nb: 2\r\n").values == {"a": 1, "b": 2}


def test_anchors_of_merges_of_merges_end_in_time() -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 30)]
    assert parse("\n".join(lines)).values["a29"] == {"x": 1}


@pytest.mark.parametrize("text", ["a: !!int abc", "a: !!binary x", "a: !x {}", "!x a: 1"])
def test_a_tag_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(DocumentError, match="a tag"):
        parse(text)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(DocumentError):
        parse("a: " + "9" * 10_000)
