"""What we rely on in SCT, and whether an installed SCT has it.

SCT has no plugin interface, so the plugin wraps a few of its functions. Their signatures are first
read from SCT's source files, without importing SCT. Unless all are as expected, nothing is changed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

TESTED_VERSIONS = ("6.2", "6.3", "6.4", "6.5", "7.0", "7.1", "7.2", "7.3", "7.4.dev0")
"""Versions of SCT the plugin was run in, see the documentation."""


@dataclass(frozen=True)
class Toolbox:
    """An SCT that this interpreter would import.

    Parameters
    ----------
    package : Path
        Folder of the package ``spinalcordtoolbox``.
    version : str
        Content of its ``version.txt``.
    """

    package: Path
    version: str


@dataclass(frozen=True)
class Seam:
    """One name in SCT that the plugin relies on.

    Parameters
    ----------
    file : str
        Source file in the package.
    name : str
        Variable, function or ``Class.method``.
    required : tuple of str, optional
        Parameters the function must have, in this order among themselves; None for a variable or
        a class.
    allowed : tuple of str, optional
        Further parameters we understand; None when further ones do not matter to us.
    since_qc2 : bool
        Whether it is missing in SCT 6.2, which is fine.
    """

    file: str
    name: str
    required: tuple[str, ...] | None = None
    allowed: tuple[str, ...] | None = None
    since_qc2: bool = False


SEAMS = (
    Seam("deepseg/models.py", "MODELS"),
    Seam("deepseg/models.py", "TASKS"),
    Seam("deepseg/models.py", "folder", ("name_model",), ()),
    Seam("deepseg/models.py", "install_model", ("name_model",), ("custom_url",)),
    Seam(
        "deepseg/inference.py",
        "segment_non_ivadomed",
        ("path_model", "model_type", "input_filenames", "threshold"),
        (
            "keep_largest",
            "fill_holes_in_pred",
            "remove_small",
            "use_gpu",
            "remove_temp_files",
            "extra_network_kwargs",
            "extra_inference_kwargs",
        ),
    ),
    Seam("utils/shell.py", "SCTArgumentParser"),
    Seam("image.py", "Image.__init__", ("self", "param", "hdr")),
    Seam("image.py", "Image.save", ("self", "path")),
    Seam(
        "reports/qc2.py",
        "sct_deepseg",
        ("fname_input", "fname_seg", "argv"),
        since_qc2=True,
    ),
)
"""Everything in SCT that the plugin relies on."""


def find_toolbox() -> Toolbox | None:
    """Return the SCT of this environment, None when there is none; nothing of it is imported."""
    from importlib.util import find_spec

    try:
        spec = find_spec("spinalcordtoolbox")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    return Toolbox(package, _version(package))


def _version(package: Path) -> str:
    try:
        return (package / "version.txt").read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def check_seams(package: Path) -> tuple[str, ...]:
    """Return where an SCT differs from what the plugin relies on; nothing if it does not.

    Parameters
    ----------
    package : Path
        Folder of the package ``spinalcordtoolbox``.
    """
    problems = []
    for file in dict.fromkeys(seam.file for seam in SEAMS):
        seams = [seam for seam in SEAMS if seam.file == file]
        path = package / file
        if not path.is_file() and all(seam.since_qc2 for seam in seams):
            continue
        try:
            found = _names(ast.parse(path.read_bytes()))
        except (OSError, SyntaxError, ValueError) as error:
            problems.append(f"{file} cannot be read ({error}).")
            continue
        problems += [problem for seam in seams if (problem := _differs(seam, found))]
    return tuple(problems)


def _names(tree: ast.Module) -> dict[str, tuple[str, ...] | None]:
    """Return the variables and classes (None) and functions (parameters) that a module defines."""
    found: dict[str, tuple[str, ...] | None] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {t.id: None for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = None
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = _parameters(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = None
            methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
            found |= {f"{node.name}.{method.name}": _parameters(method) for method in methods}
    return found


def _parameters(function: ast.FunctionDef) -> tuple[str, ...]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    variable = [a for a in (arguments.vararg, arguments.kwarg) if a]
    return tuple(a.arg for a in named) + tuple(f"*{a.arg}" for a in variable)


def _differs(seam: Seam, found: dict[str, tuple[str, ...] | None]) -> str | None:
    where = f"{seam.file}: {seam.name}"
    if seam.name not in found:
        return f"{where} is missing."
    parameters = found[seam.name]
    if seam.required is None or parameters is None:
        same_kind = seam.required is None and parameters is None
        return None if same_kind else f"{where} is of another kind than expected."
    present = tuple(name for name in parameters if name in seam.required)
    further = [name for name in parameters if name not in seam.required]
    unknown = [] if seam.allowed is None else [n for n in further if n not in seam.allowed]
    if present == seam.required and not unknown:
        return None
    expected = f"{seam.name}({', '.join((*seam.required, *(seam.allowed or ('…',))))})"
    return f"{where}: expected {expected}, found ({', '.join(parameters)})."
