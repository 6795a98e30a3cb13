"""The architecture: arrows between the wings go one way, nothing goes in circles, the toolkit needs no PyTorch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import mmdistill
import mmdistill.reference

ROOT = Path(mmdistill.__file__).parents[1]

MAY_IMPORT = {
    "library": {"library"},
    "toolkit": {"toolkit", "library"},
    "reference": {"reference", "toolkit", "library"},
    "cli": {"cli", "reference", "toolkit", "library"},
}
TOOLKIT_MAY_IMPORT = {"mmdistill", "mmdistill.pair"}
"""What the toolkit may import from the library: only what needs no PyTorch."""

SETTINGS_OF_COMMANDS = (
    "mmdistill.reference.models.config",
    "mmdistill.reference.training.settings",
    "mmdistill.reference.training.tir_cmd.settings",
)
"""What the command line imports for its options, before it runs anything."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in (ROOT / "mmdistill").rglob("*.py")}


def wing(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return "cli" if part == "__main__" else part if part in MAY_IMPORT else "library"


def imported(module: str, statements: list[ast.stmt]) -> set[str]:
    """The modules of ours that statements import, wherever they stand among them."""
    found = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: imports are absolute"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {name if name in PATHS else str(node.module) for name in names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return found & set(PATHS)


def type_checking_only(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"


TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in PATHS.items()}
EVERYWHERE = {module: imported(module, tree.body) for module, tree in TREES.items()}
AT_IMPORT = {
    module: imported(
        module, [statement for statement in tree.body if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))]
    )
    for module, tree in TREES.items()
}


@pytest.mark.parametrize("of", MAY_IMPORT)
def test_a_wing_imports_only_the_wings_below_it(of: str) -> None:
    modules = [module for module in PATHS if wing(module) == of]
    assert len(modules) > 5
    arrows = {(module, target) for module in modules for target in EVERYWHERE[module]}
    assert [(module, target) for module, target in sorted(arrows) if wing(target) not in MAY_IMPORT[of]] == []


def test_the_toolkit_imports_of_the_library_only_what_needs_no_pytorch() -> None:
    arrows = {(module, target) for module in PATHS if wing(module) == "toolkit" for target in EVERYWHERE[module]}
    found = [arrow for arrow in sorted(arrows) if wing(arrow[1]) == "library" and arrow[1] not in TOOLKIT_MAY_IMPORT]
    assert found == []


def test_no_imports_in_circles() -> None:
    packages_aside = {
        module: {target for target in targets if not module.startswith(f"{target}.")}
        for module, targets in AT_IMPORT.items()
    }
    packages_aside["mmdistill"] = set()  # its names are imported at first use
    try:
        TopologicalSorter(packages_aside).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def probe(code: str) -> str:
    """Run code in a process of its own in which PyTorch can't be imported."""
    refuse = "import sys\nfor name in ('torch', 'einops'): sys.modules[name] = None\n"
    return subprocess.check_output([sys.executable, "-c", refuse + code], text=True)


def test_every_module_of_the_toolkit_can_be_imported_without_pytorch() -> None:
    pytest.importorskip("cv2")
    modules = sorted(module for module in PATHS if wing(module) == "toolkit")
    assert probe(f"import importlib\nprint(len([importlib.import_module(name) for name in {modules}]))") == (
        f"{len(modules)}\n"
    )


@pytest.mark.parametrize("module", SETTINGS_OF_COMMANDS)
def test_settings_of_commands_can_be_imported_without_pytorch(module: str) -> None:
    assert probe(f"import {module}\nprint({module}.__name__)") == f"{module}\n"


@pytest.mark.parametrize("package", [mmdistill, mmdistill.reference])
def test_the_names_imported_at_first_use_are_those_that_type_checkers_see(package: ModuleType) -> None:
    (block,) = [statement for statement in TREES[package.__name__].body if type_checking_only(statement)]
    assert isinstance(block, ast.If)
    seen = {
        alias.name: str(node.module).removeprefix("mmdistill.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: module.removeprefix("mmdistill.") for name, module in package._MODULE_OF.items()}
    assert sorted(seen) == sorted(package.__all__)
