"""Scores boxes and writes the scores: tables, JSON, plots and exported result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmdistill.cli.benchmark_options import BenchmarkOptions, print_data_issues
from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataIssues, printable
from mmdistill.toolkit.datasets import Coverage
from mmdistill.toolkit.evaluation.curve_file import CURVES, save_curves
from mmdistill.toolkit.evaluation.exporters import export_folder, export_results
from mmdistill.toolkit.evaluation.metrics import BenchmarkScores, Scores, save_scores, score_sequences
from mmdistill.toolkit.evaluation.plots import PlotFormat, check_formats, plot_curves
from mmdistill.toolkit.evaluation.protocols import RULES
from mmdistill.toolkit.evaluation.tables import format_table
from mmdistill.toolkit.report.markup import several
from mmdistill.toolkit.sequence import Boxes, TrackingSequence


@dataclass(frozen=True)
class ScoreOutput:
    """Where and how scores are written.

    Attributes:
        tracker: The tracker's name in plots and exported results.
        out: The folder for scores.json, curves.json and plots, if any.
        json: The file for the scores, if any.
        export: The folder for result files in the form of the benchmark's own toolkit, if any.
        per_sequence: Whether a table of all sequences is printed.
        plot_format: The formats of the plots.
        round_boxes: Whether predicted boxes are rounded to whole pixels.
    """

    tracker: str
    out: Path | None
    json: Path | None
    export: Path | None
    per_sequence: bool
    plot_format: tuple[PlotFormat, ...]
    round_boxes: bool

    def __post_init__(self) -> None:
        check_formats(self.plot_format)
        if self.export is not None:
            export_folder(self.export, self.tracker)  # refuses a bad name before anything is tracked

    def write(
        self,
        options: BenchmarkOptions,
        boxes: Mapping[str, Boxes],
        sequences: Sequence[TrackingSequence],
        coverage: Coverage,
        data_issues: DataIssues,
    ) -> None:
        """Score boxes by the benchmark's rule, write the files and print the tables.

        Args:
            options: The benchmark.
            boxes: The tracker's boxes by sequence.
            sequences: The sequences.
            coverage: Which part of the benchmark they are.
            data_issues: What is printed below the tables.
        """
        rule = replace(RULES[options.benchmark], round_predictions=self.round_boxes)
        scores = score_sequences(boxes, sequences, rule)
        if self.out is not None:
            plot_curves({self.tracker: scores}, self.out, formats=self.plot_format)
            save_scores(self.out / "scores.json", scores, coverage)
            save_curves(self.out / CURVES, scores)
        if self.json is not None:
            save_scores(self.json, scores, coverage)
        tables = score_tables(scores, per_sequence=self.per_sequence)
        print("\n\n".join([*tables, f"{options.benchmark}: {rule.description}"]))
        print_data_issues(data_issues)
        if self.export is not None:
            print(printable(export_results(self.export, boxes, options.benchmark, self.tracker)))


def score_tables(scores: BenchmarkScores, *, per_sequence: bool) -> list[str]:
    """Return tables as plain text: overall, by attribute, and by sequence on request; the lowest SR comes first."""
    total = f"{several(len(scores.sequences), 'sequence')}, {several(scores.overall.frames, 'frame')}"
    tables = [_table("overall", {total: scores.overall})]
    if scores.attributes:
        titles = {name: f"{name} ({len(scores.having[name])})" for name in scores.attributes}
        tables.append(_table("attribute (sequences)", {titles[name]: each for name, each in scores.attributes.items()}))
    if per_sequence:
        tables.append(_table("sequence", scores.sequences))
    return tables


def _table(title: str, scores: Mapping[str, Scores]) -> str:
    lowest_first = sorted(scores.items(), key=lambda each: each[1].SR)
    return format_table(
        [title, "PR", "NPR", "SR"],
        [[printable(name, MAX_MESSAGE), each.PR, each.NPR, each.SR] for name, each in lowest_first],
    )
