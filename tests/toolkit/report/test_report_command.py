"""``mmdistill report`` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from page_tree import Node, parse, rows

from mmdistill.cli.main import main
from mmdistill.reference.models.config import single_settings, student_settings
from mmdistill.reference.models.cost import network_cost
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.toolkit.box_files import write_boxes


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    capsys.readouterr()
    assert run("report", *arguments) == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line.removeprefix("mmdistill: ")


def read(path: Path) -> Node:
    return parse(path.read_text("utf-8"))


def overall(tree: Node) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in rows(tree.one("section", id="overall").one("table"))}


def test_raw_results_of_anyone_are_scored_as_evaluate_scores_them(
    small_benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = ["--benchmark", "vot", "--annotations", small_benchmark.sequences]
    out = tmp_path / "deep" / "my report.html"
    assert run("report", *small_benchmark.results, *truth, "--out", out) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: 3 trackers, 6 sequences, ")
    assert said.endswith(" MiB; 4 pictures beside it\n")
    names = ("attributes", "normalized_precision", "precision", "success")
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "my report.html",
        *(f"my report_{name}.png" for name in names),
    ]
    for name in names:
        assert cv2.imread(str(out.parent / f"my report_{name}.png")).std() > 10
    shown = overall(read(out))
    for folder in small_benchmark.results:
        assert run("score", *truth, "--results", folder, "--json", tmp_path / "scores.json") == 0
        figures = json.loads((tmp_path / "scores.json").read_text())["overall"]
        assert shown[folder.name] == [f"{figures[name]:.1f}" for name in ("PR", "NPR", "SR")]


@pytest.mark.slow
def test_vector_plots_by_choice(small_benchmark, tmp_path: Path) -> None:
    truth = ["--benchmark", "vot", "--annotations", small_benchmark.sequences, "--plot-format", "svg", "pdf"]
    for folder in ("one", "two"):
        assert run("report", *small_benchmark.results, *truth, "--out", tmp_path / folder / "page.html") == 0
    plots = [path for path in (tmp_path / "one").iterdir() if path.suffix != ".html"]
    names = ("attributes", "normalized_precision", "precision", "success")
    assert {path.name for path in plots} == {f"page_{name}.{suffix}" for name in names for suffix in ("svg", "pdf")}
    for path in plots:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), "the same again"
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            assert path.read_bytes()[:5] == b"%PDF-"


def test_frames_come_from_the_images_and_as_many_as_asked_for(small_benchmark, tmp_path: Path) -> None:
    given = ["one=" + str(small_benchmark.results[0]), "two=" + str(small_benchmark.results[2])]
    rooted = ["--benchmark", "vot", "--root", small_benchmark.sequences, "--out", tmp_path / "report.html"]
    assert run("report", *given, *rooted, "--examples", 1, "--title", "Two & one") == 0
    tree = read(tmp_path / "report.html")
    assert tree.one("h1").text == "Two & one"
    assert len(tree.all("article", class_="closeup")) == 2
    assert 4 <= len(tree.all("img")) <= 10
    assert list(overall(tree)) in (["one", "two"], ["two", "one"])
    assert run("report", *given, *rooted, "--examples", 0) == 0
    tree = read(tmp_path / "report.html")
    assert not tree.all("img")
    assert not tree.all("article")


def test_what_evaluate_wrote_is_reported_without_anything_else(small_benchmark, tmp_path: Path) -> None:
    torch.manual_seed(0)
    scored = {}
    for name, settings in (
        ("student", student_settings(4, 96)),
        ("tir", single_settings("tir", width=4, crop_size=96)),
    ):
        save_network(tmp_path / f"{name}.safetensors", TrackerNetwork(settings))
        made = ["--weights", tmp_path / f"{name}.safetensors", "--out", tmp_path / "scored" / name]
        assert run("evaluate", "--benchmark", "vot", "--root", small_benchmark.sequences, *made) == 0
        scored[name] = (json.loads((tmp_path / "scored" / name / "scores.json").read_text()), settings)
        (tmp_path / f"{name}.safetensors").unlink()
    out = tmp_path / "report.html"
    assert run("report", tmp_path / "scored" / "student", tmp_path / "scored" / "tir", "--out", out) == 0
    curves = read(out)
    shown = overall(curves)
    for name, (content, settings) in scored.items():
        cost = network_cost(settings)
        figures = [f"{content['overall'][figure]:.1f}" for figure in ("PR", "NPR", "SR")]
        assert shown[name][:3] == figures
        # From the folder alone: the weights are gone.
        assert shown[name][3:5] == [f"{cost.parameters / 1e6:.1f}", f"{cost.multiply_adds / 1e9:.2f}"]
        assert float(shown[name][5]) > 0
    assert curves.one("section", id="attributes").all("table")
    assert not curves.all("article")

    rooted = ["--root", small_benchmark.sequences, "--out", out]
    assert run("report", tmp_path / "scored" / "student", tmp_path / "scored" / "tir", *rooted) == 0
    whole = read(out)
    assert overall(whole) == shown
    assert whole.all("img")
    for section in ("curves", "attributes", "sequences"):
        assert whole.one("section", id=section) == curves.one("section", id=section)

    # Weights that the user names count.
    other = single_settings("rgb", width=6, crop_size=96)
    save_network(tmp_path / "tir.safetensors", TrackerNetwork(other))
    folders = [tmp_path / "scored" / "student", tmp_path / "scored" / "tir"]
    assert run("report", *folders, "--weights", f"tir={tmp_path / 'tir.safetensors'}", "--out", out) == 0
    assert overall(read(out))["tir"][4] == f"{network_cost(other).multiply_adds / 1e9:.2f}"


def test_a_benchmark_of_two_truths_with_odd_results(
    small_benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "RGBT234"
    for name in ("it's`raining", "car2"):
        shutil.copytree(small_benchmark.sequences / name / "rgb", root / name / "visible")
        shutil.copytree(small_benchmark.sequences / name / "tir", root / name / "infrared")
        truth = small_benchmark.truths[name]
        for file, boxes in (("visible", truth), ("infrared", truth + 4), ("init", truth[:1])):
            write_boxes(root / name / f"{file}.txt", boxes)
    (root / "attr_txt").mkdir()
    (root / "attr_txt" / "SequencesName.txt").write_text("car2\nit's`raining\n")
    (root / "attr_txt" / "TC.txt").write_text("1\n0\n")
    found = small_benchmark.boxes["student"]
    x, y, w, h = found["car2"].T
    corners = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        np.savetxt(tmp_path / name / f"{name}_car2.txt", corners, fmt="%.3f", delimiter="\t")
        write_boxes(tmp_path / name / f"{name}_it's'raining.txt", found["it's`raining"][:-1])
    given = ["--benchmark", "rgbt234", "--root", root]
    out = tmp_path / "report.html"
    assert run("report", tmp_path / "mine", tmp_path / "other", *given, "--out", out) == 0
    said = capsys.readouterr().out
    assert "Data issues in mine and how they were handled:" in said
    assert "mine_it's'raining.txt: 29 boxes for 30 frames" in said
    tree = read(out)
    notes = [line.text for line in tree.one("section", id="overall").all("li")]
    assert "mine: results of 8 columns, the corners' enclosing boxes are used" in notes
    assert "mine: results a frame short, the last box is repeated: 1" in notes
    assert str(tmp_path) not in out.read_text("utf-8")
    truth = ["--benchmark", "rgbt234", "--annotations", root]
    assert run("score", *truth, "--results", tmp_path / "mine", "--json", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert overall(tree)["mine"] == [f"{scores['overall'][name]:.1f}" for name in ("PR", "NPR", "SR")]
    table = tree.one("section", id="attributes").all("table")[0]
    tc = f"{scores['sequences']['car2']['SR']:.1f}"
    assert rows(table)[0] == ["TC", "1", tc, tc]


def test_synthetic_video_needs_no_folder(tmp_path: Path) -> None:
    for sequence in synthetic_sequences(2, seed=3):
        write_boxes(tmp_path / "mine" / f"{sequence.name}.txt", sequence.boxes)
    made = ["--benchmark", "synthetic", "--count", 2, "--seed", 3]
    assert run("report", tmp_path / "mine", *made, "--out", tmp_path / "report.html") == 0
    assert overall(read(tmp_path / "report.html"))["mine"] == ["100.0", "100.0", "95.2"]


def test_the_same_input_gives_the_same_bytes(small_benchmark, tmp_path: Path) -> None:
    digests = []
    for turn in ("first", "second"):
        out = tmp_path / turn / "report.html"
        given = [*small_benchmark.results, "--benchmark", "vot", "--root", small_benchmark.sequences]
        assert run("report", *given, "--out", out) == 0
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.parent.iterdir()})
    assert len(digests[0]) == 5
    assert digests[0] == digests[1]


def test_bad_input_is_one_line(small_benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, sequences = small_benchmark.results, small_benchmark.sequences
    out = ["--out", tmp_path / "report.html"]
    scored = [tmp_path / "scored"]
    given = ["--benchmark", "vot", "--annotations", sequences, "--results", results[0], "--out", *scored]
    assert run("score", *given) == 0
    vot = ["--benchmark", "vot", "--root", sequences]
    (tmp_path / "empty").mkdir()
    assert fails(capsys, *out) == "report: expected a folder for each tracker, got none"
    line = fails(capsys, results[0], *vot, "--out", tmp_path / "report.pdf", status=2)
    assert line.startswith("--out: expected a name")
    assert run("report", results[0], *vot, *out, "--examples", -1) == 2
    assert "--examples: expected a whole number from 0" in capsys.readouterr().err
    assert "has no curves.json" in fails(capsys, results[0], *out)
    assert "has no curves.json" in fails(capsys, results[0], "--root", sequences, *out)
    assert fails(capsys, results[0], "--benchmark", "vot", *out, status=2).startswith("--annotations: expected")
    assert "no result for any of 6 sequences" in fails(capsys, tmp_path / "empty", *vot, *out)
    line = fails(capsys, results[0], "--benchmark", "gtot", "--root", sequences, *out)
    assert line.startswith(
        f"{sequences}: expected the sequences of gtot or their annotations (<sequence>/groundTruth_v.txt"
    )
    line = fails(capsys, *scored, "--round-boxes", *out, status=2)
    assert line.startswith("--round-boxes: needs the ground truth too")
    for weights in ("student", "nobody=x"):
        line = fails(capsys, results[1], *vot, *out, "--weights", weights, status=2)
        assert line == f"--weights: expected NAME=FILE with one of student, got {weights}"
    line = fails(capsys, results[1], *vot, *out, "--weights", f"student={tmp_path / 'none'}")
    assert line == f"{tmp_path / 'none'}: there is no such file"
    shutil.copytree(results[1], tmp_path / "short")
    write_boxes(tmp_path / "short" / "car2.txt", np.ones((7, 4)))
    assert "car2.txt: expected a box for each of 30 frames, got 7" in fails(capsys, tmp_path / "short", *vot, *out)
    for number, sequence in enumerate(synthetic_sequences(1, seed=1_000_000)):
        write_boxes(tmp_path / "made" / f"synthetic_{number:04d}.txt", sequence.boxes)
    made = ["--benchmark", "synthetic", "--count", 1]
    assert run("score", *made, "--results", tmp_path / "made", "--out", tmp_path / "made") == 0
    for option in ("--root", "--annotations"):
        line = fails(capsys, tmp_path / "made", option, sequences, *out, status=2)
        assert line == f"{option}: synthetic video has none; give --benchmark synthetic"
    assert not (tmp_path / "report.html").exists()
    assert run("report", tmp_path / "made", *made, *out) == 0


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is here: chromium")
def test_the_script_runs_in_a_browser(small_benchmark, tmp_path: Path) -> None:
    given = [*small_benchmark.results, "--benchmark", "vot", "--root", small_benchmark.sequences]
    assert run("report", *given, "--out", tmp_path / "report.html") == 0
    address = (tmp_path / "report.html").as_uri() + "#pair-1-2-title"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([BROWSER, *options, address], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"the browser does not start here: {done.stderr.strip()[-200:]}")
    page = done.stdout
    assert '<html lang="en" class="scripted">' in page
    assert 'id="theme"' in page
    tree = parse(page.replace("<br>", ""))
    # Of the views one is shown: of the pairs the one that the address leads to.
    for views in tree.all(class_="views"):
        children = [view for view in views.children if isinstance(view, Node) and view.has({"class": "view"})]
        assert len([view for view in children if "hidden" not in view.attributes]) == 1
    (shown,) = [view for view in tree.all(class_="pair") if "hidden" not in view.attributes]
    assert shown.attributes["data-view"] == "student \u2013 `v2`"
    assert tree.one("section", id="overall").all("button")
