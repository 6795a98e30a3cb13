"""A checkpoint's training record is applied, or refused with the reason; nothing is run."""

import argparse
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from torch import Tensor

from mmdistill.cli.main import main
from mmdistill.reference.importing import training_record
from mmdistill.reference.importing.published import published_network
from mmdistill.reference.importing.weights_file import WeightsFile, read_weights_file
from mmdistill.reference.models.config import NetworkSettings, single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.settings import published_settings
from mmdistill.toolkit.data_issues import DataError

CONTAINERS = pytest.mark.parametrize("stream", [False, True], ids=["zip", "stream"])


@pytest.fixture(scope="module")
def net() -> dict[str, Tensor]:
    with torch.device("meta"):
        network = TrackerNetwork(single_settings("rgb", 18, width=2))
    return dict(checkpoints.random_state(checkpoints.published_layout(network)))


def settings_of(path: Path) -> NetworkSettings:
    return published_network(read_weights_file(path))[0].settings


@CONTAINERS
def test_recorded_sizes_are_applied(net: dict[str, Tensor], tmp_path: Path, stream: bool) -> None:
    stated = {
        "search_area_factor": 6.0,
        "output_sz": 352,
        "feature_sz": 22,
        "target_filter_sz": 4,
        "output_sigma_factor": 0.2,
        "box_refinement_iter": 10,
        "box_refinement_space": "default",
        "normalize_mean": [0.485, 0.456, 0.406],
        "normalize_std": (0.229, 0.224, 0.225),
        "batch_size": 10,
        "learning_rate": "unused",
        "hinge_threshold": None,
    }
    constructor = {"kwds": {"filter_size": 4, "optim_iter": 3, "score_act": "relu", "bin_displacement": 0.1}}
    path = tmp_path / "dimp.pth"
    checkpoints.save_tracker(path, net, stream=stream, settings=stated, constructor=constructor)
    found = settings_of(path)
    assert (found.crop_size, found.search_area, found.filter_size) == (352, 6.0, 4)
    assert (found.label_sigma, found.optimiser_iterations, found.refinement_steps) == (0.2, 3, 10)
    assert published_settings(found).refinement.steps == 10
    assert type(found.crop_size) is int


def test_applied_sizes_are_printed_and_saved(
    net: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "dimp.pth", tmp_path / "out.safetensors"
    checkpoints.save_tracker(path, net, settings={"search_area_factor": 6.0, "output_sz": 352})
    assert main(["convert", str(path), "--out", str(out)]) == 0
    sizes = capsys.readouterr().out.splitlines()[1]
    assert "crop 352 px (settings.output_sz), search area 6 (settings.search_area_factor)" in sizes
    assert "refinement steps 5 (default)" in sizes
    settings = load_network(out).settings
    assert (settings.crop_size, settings.search_area) == (352, 6.0)


class Entries(OrderedDict):  # type: ignore[type-arg]
    """A dictionary subclass, as in libraries for settings."""


@pytest.mark.parametrize(
    "stored",
    [
        {"output_sz": 320},
        {"output_sz": [320, 320]},
        {"output_sz": {"train": 320.0, "test": 320}},
        {"feature_sz": 20},
        {"crops": {"output_sz": 320}},
        argparse.Namespace(output_sz=320),
        argparse.Namespace(crops=argparse.Namespace(output_sz=320)),
        Entries(output_sz=320),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_settings_of_any_class_are_read(net: dict[str, Tensor], tmp_path: Path, stored: object, protocol: int) -> None:
    path = tmp_path / "dimp.pth"
    torch.save({"net": net, "actor_type": "DiMPActor", "settings": stored}, path, pickle_protocol=protocol)
    assert settings_of(path).crop_size == 320


def test_sizes_at_the_top_of_a_checkpoint(net: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": net, "output_sz": 320}, tmp_path / "dimp.pth")
    assert settings_of(tmp_path / "dimp.pth").crop_size == 320


KL = "its box head was trained by KL divergence"


@CONTAINERS
@pytest.mark.parametrize(
    ("top", "settings", "constructor", "says"),
    [
        ({"actor_type": "KLDiMPActor"}, {}, {}, f"by its actor_type 'KLDiMPActor': {KL}"),
        ({"actor_type": "AtomBBKLActor"}, {}, {}, f"by its actor_type 'AtomBBKLActor': {KL}"),
        ({}, {"script_name": "super_dimp"}, {}, f"SuperDiMP by its settings.script_name 'super_dimp': {KL}"),
        ({}, {"script_name": "super_dimp_simple"}, {}, f"SuperDiMP by its .*: {KL}"),
        ({}, {"script_name": "prdimp50"}, {}, f"PrDiMP by its settings.script_name 'prdimp50': {KL}"),
        ({}, {"script_name": "atom_prob_ml"}, {}, f"by its settings.script_name 'atom_prob_ml': {KL}"),
        ({}, {}, {"fun_name": "klcedimpnet50"}, f"PrDiMP by its constructor.fun_name 'klcedimpnet50': {KL}"),
        ({"net_type": "KYSNet"}, {}, {}, "KYS by its net_type 'KYSNet': "),
        ({}, {}, {"fun_module": "ltr.models.kys.kysnet"}, "KYS by its constructor.fun_module"),
        ({"net_type": "ToMPnet"}, {}, {}, "ToMP or TaMOs by its net_type 'ToMPnet': a transformer"),
        ({}, {"script_name": "tamos_swin_base"}, {}, "ToMP or TaMOs by its"),
        ({"actor_type": "LWTLActor"}, {}, {}, "LWL or RTS by its actor_type 'LWTLActor': it segments"),
        ({}, {"module_name": "lwl"}, {}, "LWL or RTS by its settings.module_name 'lwl'"),
        ({}, {"module_name": "rts", "script_name": "rts50"}, {}, "LWL or RTS by its"),
        ({}, {"module_name": "keep_track"}, {}, "KeepTrack by its"),
        ({"actor_type": "DiMPSimpleActor"}, {}, {}, "the simple DiMP by its actor_type"),
        ({}, {"loss_weight": {"bb_ce": 0.01, "test_clf": 100}}, {}, f"settings.loss_weight.bb_ce: {KL}"),
        (
            {},
            {"box_refinement_space": "relative"},
            {},
            "settings.box_refinement_space: expected 'default', got 'relative'",
        ),
        ({}, {"box_refinement_step_length": 2.5e-3}, {}, "settings.box_refinement_step_length: expected 1, got 0.0025"),
        ({}, {"normalize_mean": [0, 0, 0]}, {}, r"settings.normalize_mean: expected \(0.485, .*got \[0, 0, 0\]"),
        ({}, {}, {"kwds": {"score_act": "bentpar"}}, "constructor.kwds.score_act: expected 'relu', got 'bentpar'"),
        ({}, {}, {"kwds": {"bin_displacement": 0.5}}, "constructor.kwds.bin_displacement: expected 0.1, got 0.5"),
        ({}, {}, {"kwds": {"clf_feat_norm": False}}, "constructor.kwds.clf_feat_norm: expected True, got False"),
    ],
)
def test_unsupported_settings_are_refused_with_the_reason(
    net: dict[str, Tensor],
    tmp_path: Path,
    stream: bool,
    top: dict[str, Any],
    settings: dict[str, Any],
    constructor: dict[str, Any],
    says: str,
) -> None:
    path = tmp_path / "other.pth"
    checkpoints.save_tracker(path, net, stream=stream, top=top, settings=settings, constructor=constructor)
    with pytest.raises(DataError, match=rf"^{path}: not supported: .*{says}") as raised:
        settings_of(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "names",
    [
        {
            "actor_type": "DiMPActor",
            "net_type": "DiMPnet",
            "settings.script_name": "dimp50",
            "settings.module_name": "dimp",
        },
        {
            "actor_type": "AtomActor",
            "net_type": "ATOMnet",
            "settings.script_name": "atom",
            "settings.module_name": "bbreg",
        },
        {"settings.script_name": "atom_gmm_sampl", "constructor.fun_name": "atom_resnet18"},
        {"constructor.fun_name": "dimpnet18", "constructor.fun_module": "ltr.models.tracking.dimpnet"},
        {"settings.script_name": "cartsrun", "settings.module_name": "parts"},
    ],
)
def test_names_of_dimp_and_atom_are_accepted(names: dict[str, str]) -> None:
    record = training_record.TrainingRecord(names)
    assert record.unsupported(["classifier.filter_optimizer.label_map_predictor.weight"]) == []
    assert record.note() is None


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("head.filter_predictor.transformer.layers.0.linear.weight", "ToMP or TaMOs by its layer head.filter"),
        ("motion_feat_extractor.0.weight", "KYS by its layer motion_feat_extractor.0.weight"),
        ("decoder.proj.weight", "LWL or RTS by its layer decoder.proj.weight"),
    ],
)
def test_weights_without_a_record_are_recognized_by_their_layers(net: dict[str, Tensor], layer: str, says: str) -> None:
    with pytest.raises(DataError, match=f"^other.pth: not supported: {says}"):
        published_network(WeightsFile("other.pth", net | {layer: torch.zeros(1)}))


def test_a_filter_optimizer_without_learned_maps_is_refused(net: dict[str, Tensor]) -> None:
    maps = ("label_map_predictor", "target_mask_predictor", "spatial_weight_predictor")
    plain = {name: value for name, value in net.items() if not any(each in name for each in maps)}
    with pytest.raises(DataError, match=r"not supported: PrDiMP or another variant of DiMP"):
        published_network(WeightsFile("prdimp.pth", plain))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"output_sz": 300}, r"settings.output_sz: NetworkSettings.crop_size: expected a multiple of 16 .*, got 300$"),
        ({"output_sz": 10**6}, r"settings.output_sz: NetworkSettings.crop_size: expected .*, got 1000000$"),
        ({"output_sz": [288, 320]}, r"settings.output_sz: expected one number for all, got \[288, 320\]$"),
        ({"output_sz": "352"}, "settings.output_sz: expected a plain number, got '352'$"),
        ({"output_sz": True}, "settings.output_sz: expected a plain number, got True$"),
        ({"output_sz": []}, r"settings.output_sz: expected a plain number, got \[\]$"),
        ({"output_sz": 10**5000}, "settings.output_sz: expected a plain number, got a int$"),
        ({"output_sz": float("nan")}, "settings.output_sz: expected a plain number, got nan$"),
        ({"output_sz": np.int64(352)}, r"settings.output_sz: expected a plain number, got numpy\..*scalar$"),
        ({"output_sz": list(range(1000))}, "settings.output_sz: expected a plain number, got a list$"),
        (
            {"output_sz": 352, "feature_sz": 18},
            "settings.output_sz is 352, but 16 x settings.feature_sz is 288$|"
            "16 x settings.feature_sz is 288, but settings.output_sz is 352$",
        ),
        ({"target_filter_sz": 5}, "constructor.kwds.filter_size is 4|settings.target_filter_sz is 5"),
        (
            {"box_refinement_iter": 0},
            "settings.box_refinement_iter: NetworkSettings.refinement_steps: expected .* got 0$",
        ),
        ({"search_area_factor": 2.5e9}, "settings.search_area_factor: expected a plain number, got 2500000000.0$"),
    ],
)
def test_invalid_sizes_are_named(
    net: dict[str, Tensor], tmp_path: Path, settings: dict[str, object], says: str
) -> None:
    path = tmp_path / "odd.pth"
    checkpoints.save_tracker(path, net, settings=settings)
    with pytest.raises(DataError, match=f"^{path}: .*(?:{says})"):
        settings_of(path)


def test_a_recursive_object_is_read_once(net: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"  # its settings hold themselves
    checkpoints.save_tracker(path, net, settings={"box_refinement_step_length": 0.0025})
    said = f"{path}: not supported: settings.box_refinement_step_length: expected 1, got 0.0025"
    with pytest.raises(DataError, match=f"^{re.escape(said)}$"):
        settings_of(path)


def test_too_many_settings_are_refused(net: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "endless.pth"
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"inner": deep, "output_sz": 320}
    checkpoints.save_tracker(path, net, settings={"deep": deep})
    assert settings_of(path).crop_size == 320
    checkpoints.save_tracker(path, net, settings={str(index): index for index in range(training_record.MAX_ENTRIES)})
    with pytest.raises(DataError, match=f"{path}: its settings have more than 10,000 entries"):
        read_weights_file(path)


@pytest.mark.parametrize(
    ("top", "says"),
    [
        ({"actor_type": "MyActor"}, "actor_type 'MyActor' unknown"),
        ({"actor_type": "MyActor", "net_type": "\x1b[2J"}, r"'MyActor' and net_type '\\\\x1b\[2J' unknown"),
    ],
)
def test_unknown_training_code_gives_a_warning(
    net: dict[str, Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    top: dict[str, object],
    says: str,
) -> None:
    path = tmp_path / "mine.pth"
    checkpoints.save_tracker(path, net, top=top)
    assert main(["convert", str(path), "--out", str(tmp_path / "out.safetensors")]) == 0
    (record,) = caplog.records
    pattern = rf"{path}: .*{says}; boxes are right only if its box head was trained to predict an IoU"
    assert re.search(pattern, record.getMessage())


def test_weights_without_a_record_give_a_warning(
    net: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "plain.pth"
    torch.save(net, path)
    assert main(["convert", str(path), "--out", str(tmp_path / "out.safetensors")]) == 0
    assert "the file does not name its training code" in caplog.text


def test_super_dimp_is_refused(net: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "super_dimp.pth.tar", tmp_path / "out.safetensors"
    checkpoints.save_tracker(path, net, settings={"script_name": "super_dimp"})
    assert main(["convert", str(path), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "SuperDiMP by its settings.script_name 'super_dimp'" in line
    assert "KL divergence" in line
    assert not out.exists()
