"""The four formats of a table."""

import csv
import io
import json

import pytest
from rich.console import Console

from vln_clip import report, tables
from vln_clip.errors import InputError
from vln_clip.tables import Cell, Row, Table


def small(**options):
    rows = [
        Row({"agent": "random", "n": 12}, {"success_rate": Cell(0.125, (0.1, 0.2)), "nav_error": Cell(9.5)}, "a"),
        Row({"agent": "my_run & 100%", "n": 12}, {"success_rate": Cell(0.5, (0.25, 0.75), p=0.0123)}, "a"),
    ]
    return Table("12 instructions", "all", rows, **options)


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def test_markdown():
    assert lines(tables.as_markdown([small()])) == [
        "**12 instructions**",
        "",
        "| agent | n | SR % | NE m |",
        "| --- | ---: | ---: | ---: |",
        "| random | 12 | 12.5 [10.0, 20.0] | 9.50 |",
        "| my_run & 100% | 12 | 50.0 [25.0, 75.0] p=0.012 | – |",
    ]


def test_latex_is_escaped_and_uses_booktabs():
    assert lines(tables.as_latex([small()])) == [
        r"% 12 instructions; needs \usepackage{booktabs}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"agent & n & SR \% & NE m \\",
        r"\midrule",
        r"random & 12 & 12.5 & 9.50 \\",
        r"&  & \scriptsize $[10.0, 20.0]$ & \\",
        r"my\_run \& 100\% & 12 & 50.0 & -- \\",
        r"&  & \scriptsize $[25.0, 75.0]$ & \\",
        r"&  & \scriptsize p=0.012 & \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_escapes_every_special_character():
    row = Row({"agent": r"\ & % $ # _ { } ~ ^ – − < >"}, {"spl": Cell(1.0)})
    assert (
        r"\textbackslash{} \& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} -- $-$ $<$ $>$ & 100.0 \\"
        in tables.as_latex([Table("t", "all", [row])])
    )


def test_csv_is_one_table_of_full_precision():
    difference = Row({"difference": "b − a", "wins": 3}, {"success_rate": Cell(-1 / 3, p=0.5)})
    found = list(csv.DictReader(io.StringIO(tables.as_csv([small(), Table("d", "difference", [difference])]))))
    assert [row["table"] for row in found] == ["all", "all", "difference"]
    assert [row["agent"] for row in found] == ["random", "my_run & 100%", ""]
    assert (found[0]["success_rate"], found[0]["success_rate_low"], found[0]["success_rate_p"]) == ("0.125", "0.1", "")
    assert (found[1]["success_rate_p"], found[1]["nav_error"]) == ("0.0123", "")
    assert float(found[2]["success_rate"]) == -1 / 3
    assert (found[2]["difference"], found[2]["wins"]) == ("b − a", "3")
    assert "nav_error_low" not in found[0]


def test_differences_carry_their_sign_in_every_format():
    rows = [Row({"agent": "b − a"}, {"spl": Cell(0.021, (-0.004, 0.05), 0.00001), "nav_error": Cell(-0.5)})]
    table = Table("d", "difference", rows, signed=True)
    assert "| b − a | +2.1 [-0.4, +5.0] p<0.001 | -0.50 |" in tables.as_markdown([table])
    assert r"b $-$ a & $+2.1$ & $-0.50$ \\" in tables.as_latex([table])
    assert r"\scriptsize p$<$0.001" in tables.as_latex([table])
    text = tables.as_text([table])
    assert all(word in text for word in ("+2.1", "-0.4…+5.0", "p<0.001", "-0.50"))


def test_sections_stand_apart_and_name_themselves_once():
    rows = [
        Row({"language": language, "agent": agent}, {"spl": Cell(0.5)}, language)
        for language in ("en", "hi")
        for agent in ("random", "follower")
    ]
    table = Table("by language", "language", rows)
    assert lines(tables.as_markdown([table]))[4:] == [
        "| en | random | 50.0 |",
        "|  | follower | 50.0 |",
        "| hi | random | 50.0 |",
        "|  | follower | 50.0 |",
    ]
    assert tables.as_latex([table]).count(r"\midrule") == 2
    assert tables.as_csv([table]).count("\nlanguage,en,") == 2  # machines get it in every row


def test_the_terminal_table_shows_all_of_every_number(capsys):
    tables.print_tables([small()])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("SR %", "12.5", "10.0…20.0", "p=0.012", "9.50", "my_run & 100%"))
    wide = [Row({"agent": "x" * 150}, {metric: Cell(0.5, (0.25, 0.75)) for metric in tables.COLUMNS})]
    tables.print_tables([Table("wide", "all", wide)])
    shown = capsys.readouterr().out
    assert "x" * 150 in shown
    assert "0.2…0.8" in shown  # DTW, the last column
    tables.print_tables([small()], "markdown")
    assert capsys.readouterr().out == tables.as_markdown([small()])


def test_a_narrow_terminal_gets_the_columns_in_parts():
    table = Table("t", "all", [Row({"agent": "follower"}, {metric: Cell(0.5) for metric in tables.COLUMNS})])
    assert tables.fitting(table, 400) == [list(tables.COLUMNS)]
    parts = tables.fitting(table, 60)
    assert len(parts) > 2
    assert [metric for part in parts for metric in part] == list(tables.COLUMNS)
    assert all(Console(width=500).measure(tables.rich_table(table, part)).maximum <= 60 for part in parts)
    assert tables.fitting(table, 5) == [[metric] for metric in tables.COLUMNS]  # nothing is lost


def test_words_in_brackets_are_no_styles():
    assert "run[bold]" in tables.as_text([Table("[red]t", "all", [Row({"agent": "run[bold]"}, {"spl": Cell(1.0)})])])


@pytest.mark.parametrize(
    ("name", "kind"), [("a.md", "markdown"), ("a.TEX", "latex"), ("a.csv", "csv"), ("a.txt", "table")]
)
def test_a_file_name_chooses_its_format(tmp_path, name, kind):
    path = tmp_path / "new" / name
    assert tables.format_of(path) == kind
    tables.write_tables(path, [small()], kind)
    assert path.read_text(encoding="utf-8") == tables.FORMATS[kind]([small()])


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--out must end in one of .txt .table., .md .markdown., .* got 'a.docx'"):
        tables.format_of(tmp_path.joinpath("a.docx").relative_to(tmp_path))
    with pytest.raises(
        InputError, match="--format must be one of table, markdown, latex, csv, got 'latx'; did you mean"
    ):
        tables.require_format("latx")


def test_results_of_an_older_version_lack_a_metric_and_are_shown(tmp_path, capsys):
    row = {"success_rate": 0.5, "num_instructions": 3, "features": "none"}
    (tmp_path / "results.json").write_text(json.dumps({"val_unseen": {"random": row}}))
    report.print_results(tmp_path / "results.json")
    shown = capsys.readouterr().out
    assert "50.0" in shown
    assert "DTW" not in shown
