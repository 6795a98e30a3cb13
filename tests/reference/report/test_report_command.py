"""``mmdistill report`` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from page_tree import Node, parse, rows

from mmdistill.reference.cli import main
from mmdistill.reference.data.box_files import write_boxes
from mmdistill.reference.data.synthetic import synthetic_sequences
from mmdistill.reference.networks.settings import single_settings, student_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import save_network
from mmdistill.reference.report.cost import network_cost


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert run("report", *arguments) == 1
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
    names = ("attributes", "normalised_precision", "precision", "success")
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "my report.html",
        *(f"my report_{name}.png" for name in names),
    ]
    for name in names:
        assert cv2.imread(str(out.parent / f"my report_{name}.png")).std() > 10
    shown = overall(read(out))
    for folder in small_benchmark.results:
        assert run("evaluate", *truth, "--results", folder, "--json", tmp_path / "scores.json") == 0
        figures = json.loads((tmp_path / "scores.json").read_text())["overall"]
        assert shown[folder.name] == [f"{figures[name]:.1f}" for name in ("PR", "NPR", "SR")]


def test_frames_come_from_the_images_and_as_many_as_asked_for(small_benchmark, tmp_path: Path) -> None:
    given = ["one=" + str(small_benchmark.results[0]), "two=" + str(small_benchmark.results[2])]
    rooted = ["--benchmark", "vot", "--root", small_benchmark.sequences, "--out", tmp_path / "report.html"]
    assert run("report", *given, *rooted, "--looks", 1, "--title", "Two & one") == 0
    tree = read(tmp_path / "report.html")
    assert tree.one("h1").text == "Two & one"
    assert len(tree.all("article", class_="look")) == 2
    assert 4 <= len(tree.all("img")) <= 10
    assert list(overall(tree)) in (["one", "two"], ["two", "one"])
    assert run("report", *given, *rooted, "--looks", 0) == 0
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
    out = tmp_path / "report.html"
    assert run("report", tmp_path / "scored" / "student", tmp_path / "scored" / "tir", "--out", out) == 0
    curves = read(out)
    shown = overall(curves)
    for name, (content, settings) in scored.items():
        cost = network_cost(settings)
        figures = [f"{content['overall'][figure]:.1f}" for figure in ("PR", "NPR", "SR")]
        assert shown[name][:3] == figures
        # The weights that evaluate noted are still there.
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

    # Weights that have changed since are not those of the results, unless the user says so.
    other = single_settings("rgb", width=6, crop_size=96)
    save_network(tmp_path / "tir.safetensors", TrackerNetwork(other))
    folders = [tmp_path / "scored" / "student", tmp_path / "scored" / "tir"]
    assert run("report", *folders, "--out", out) == 0
    assert overall(read(out))["tir"][3] == "\u2013"
    assert run("report", *folders, "--weights", f"tir={tmp_path / 'tir.safetensors'}", "--out", out) == 0
    assert overall(read(out))["tir"][4] == f"{network_cost(other).multiply_adds / 1e9:.2f}"


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
    vot = ["--benchmark", "vot", "--root", sequences]
    (tmp_path / "empty").mkdir()
    assert fails(capsys, *out) == "report: expected a folder for each tracker, got none"
    assert fails(capsys, results[0], *vot, "--out", tmp_path / "report.pdf").startswith("--out: expected a name")
    assert fails(capsys, results[0], *vot, *out, "--looks", -1) == "--looks: expected 0 or more, got -1"
    assert "has no curves.json" in fails(capsys, results[0], *out)
    assert "has no curves.json" in fails(capsys, results[0], "--root", sequences, *out)
    assert fails(capsys, results[0], "--benchmark", "vot", *out).startswith("--annotations: expected")
    assert "no result for any of 6 sequences" in fails(capsys, tmp_path / "empty", *vot, *out)
    assert "gtot has ground truth RGB and TIR" in fails(
        capsys, results[0], "--benchmark", "gtot", "--root", sequences, *out
    )
    for weights in ("student", "nobody=x"):
        line = fails(capsys, results[1], *vot, *out, "--weights", weights)
        assert line == f"--weights: expected NAME=FILE with one of student, got {weights}"
    line = fails(capsys, results[1], *vot, *out, "--weights", f"student={tmp_path / 'none'}")
    assert line == f"{tmp_path / 'none'}: there is no such file"
    shutil.copytree(results[1], tmp_path / "short")
    write_boxes(tmp_path / "short" / "car2.txt", np.ones((7, 4)))
    assert "car2.txt: expected a box for each of 30 frames, got 7" in fails(capsys, tmp_path / "short", *vot, *out)
    assert not (tmp_path / "report.html").exists()


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
