"""A small Spinal Cord Toolbox of our own, with the names and signatures that the real one has.

It parses, installs, saves, describes and reports as SCT is known to, with SCT's faults where the
plugin has to live with them: every result of a command gets the first image's name, a model is
deleted before the next one is fetched, and a QC page without labels cannot be drawn.
"""

from __future__ import annotations

from pathlib import Path

OTHER_URL = "https://example.invalid/other.zip"
PUBLISHED = {
    "7": "https://github.com/ivadomed/model-spinal-rootlets/releases/download/r20250318/"
    "model-spinal-rootlets-multicon-r20250318.zip",
    "6": "https://github.com/ivadomed/model-spinal-rootlets/releases/download/r20240730/"
    "model-spinal-rootlets_M5_r20240129-2.zip",
}
TASK = {"7": "rootlets", "6": "seg_spinal_rootlets_t2w"}
VERSION = {"7": "7.9.fake", "6": "6.9.fake"}

LAUNCHER = """
import os, subprocess, sys
import spinalcordtoolbox

def main():
    folder = os.path.dirname(spinalcordtoolbox.__file__)
    script = os.path.join(folder, "scripts", os.path.basename(sys.argv[0]) + ".py")
    return subprocess.run([sys.executable, script] + sys.argv[1:]).returncode
"""

MODELS = """
import json, os, shutil

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "models")
CALLS = []
FETCHES = False
MODELS = {
    "model_seg_spinal_rootlets_nnunet": {
        "url": [%(url)r], "description": "SCT's words", "contrasts": ["t2"],
        "framework": "nnunetv2", "thr": None, "default": False,
    },
    "model_other": {
        "url": ["https://example.invalid/other.zip"], "description": "Other", "contrasts": ["t2"],
        "framework": "nnunetv2", "thr": None, "default": False,
    },
}
TASKS = {
    %(task)r: {
        "description": "SCT's rootlets", "long_description": "SCT's long words.",
        "url": "https://example.invalid", "models": ["model_seg_spinal_rootlets_nnunet"],
        "citation": None,
    },
    "other": {
        "description": "Another task", "long_description": "Another.",
        "url": "https://example.invalid", "models": ["model_other"], "citation": None,
    },
}

def folder(name_model):
    return os.path.join(ROOT, name_model)

def install_model(name_model, custom_url=None):
    CALLS.append((name_model, custom_url))
    target = folder(name_model)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    if not FETCHES:
        raise Exception("Download error")
    if FETCHES is True:
        with open(os.path.join(target, "fetched.pth"), "w") as out:
            out.write("weights")
    else:
        shutil.unpack_archive(FETCHES, target)
    urls = custom_url[0] if custom_url else MODELS[name_model]["url"][0]
    record = {"model_name": name_model, "model_urls": urls, "custom": bool(custom_url)}
    with open(os.path.join(target, "source.json"), "w") as out:
        json.dump(record, out)

def is_valid(path_model):
    return any(name.endswith(".pth") for _, _, names in os.walk(path_model) for name in names)
"""

INFERENCE = """
from spinalcordtoolbox.image import Image

CALLS = []

def segment_non_ivadomed(%(parameters)s):
    CALLS.append(dict(locals()))
    return [Image(name) for name in input_filenames], ["_own"] * len(input_filenames)
"""
PARAMETERS = {
    "7": "path_model, model_type, input_filenames, threshold, keep_largest, fill_holes_in_pred, "
    "remove_small, use_gpu=False, remove_temp_files=True, extra_network_kwargs=None, "
    "extra_inference_kwargs=None",
    "6": "path_model, model_type, input_filenames, threshold, keep_largest, fill_holes_in_pred, "
    "remove_small, use_gpu=False, remove_temp_files=True",
}

IMAGE = """
import copy
import nibabel as nib
import numpy as np

class Image:
    def __init__(self, param=None, hdr=None, orientation=None, absolutepath=None):
        if isinstance(param, str):
            file = nib.load(param)
            self.data, self.hdr = np.asanyarray(file.dataobj), file.header.copy()
        else:
            self.data, self.hdr = param, hdr.copy()
        self.affine = self.hdr.get_best_affine()

    def copy(self):
        return type(self)(copy.deepcopy(self.data), self.hdr)

    def save(self, path=None, dtype=None, verbose=1, mutable=False):
        if not mutable:
            self.copy().save(path, dtype, verbose, mutable=True)
        else:
            nib.save(nib.Nifti1Image(self.data, None, self.hdr), path)
        return self
"""

QC2 = """
import json, os
from spinalcordtoolbox.image import Image

def assign_label_colors_by_groups(labels):
    return ["#ffffff"] * (max(labels) - min(labels) + 1)

def add_segmentation_labels(labels):
    return max(labels)

def sct_deepseg(
    fname_input, fname_seg, fname_seg2, species, argv, path_qc, dataset, subject%(more)s
):
    layout = "rootlets" if %(task)r in argv else "cord"
    labels = sorted({int(value) for value in Image(fname_seg).data.ravel()} - {0})
    assign_label_colors_by_groups(labels)
    add_segmentation_labels(labels)
    os.makedirs(path_qc, exist_ok=True)
    page = {"input": fname_input, "seg": fname_seg, "layout": layout, "labels": labels}
    with open(os.path.join(path_qc, "pages.jsonl"), "a") as out:
        out.write(json.dumps({**page, "command": " ".join(argv)}) + "\\n")
"""

SHELL = """
import argparse, os

class SCTArgumentParser(argparse.ArgumentParser):
    pass

class ActionCreateFolder(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        os.makedirs(values, exist_ok=True)
        setattr(namespace, self.dest, values)

class TaskDeprecationAction(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print("The '-task' flag has been deprecated")
        parser.exit()

class ListTasksAction(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print("The list of tasks")
        parser.exit()
"""

SCRIPT = """
import json, os, sys
from spinalcordtoolbox.reports import qc2
from spinalcordtoolbox.utils import shell

FORM = %(form)r

def get_parser():
    from spinalcordtoolbox.deepseg import models
    parser = shell.SCTArgumentParser(prog="sct_deepseg")
    if FORM == "6":
        parser.add_argument("-task", nargs="+", default=[None])
        parser.add_argument("-c", nargs="+")
        parser.add_argument("-install", "-install-task", choices=list(models.TASKS))
        parsers = [parser]
    else:
        parser.add_argument("-task", nargs="?", action=shell.TaskDeprecationAction)
        parser.add_argument("-task-details", nargs=0, action=shell.ListTasksAction)
        commands = parser.add_subparsers(dest="task")
        parsers = [
            commands.add_parser(name, description=task["description"] + task["long_description"])
            for name, task in models.TASKS.items()
        ]
    for command in parsers:
        command.add_argument("-i", nargs="+")
        command.add_argument("-o")
        command.add_argument("-custom-url", nargs="+")
        command.add_argument("-thr", type=float)
        command.add_argument("-largest", type=int, default=0)
        command.add_argument("-fill-holes", type=int, default=0)
        command.add_argument("-remove-small", nargs="+")
        command.add_argument("-qc", action=shell.ActionCreateFolder)
        if FORM == "7":
            command.add_argument("-install", action="store_true")
            command.add_argument("-test-time-aug", action="store_true")
            command.add_argument("-qc-seg")
    return parser

def main(argv):
    from spinalcordtoolbox.deepseg import models
    arguments = get_parser().parse_args(argv)
    task = arguments.task[0] if FORM == "6" else arguments.task
    if not (arguments.i or arguments.install):
        get_parser().error("You must specify what to do")
    installing = arguments.install if FORM == "6" else task if arguments.install else None
    if installing:
        models.install_model(models.TASKS[installing]["models"][0], arguments.custom_url)
        sys.exit(0)
    name = models.TASKS[task]["models"][0]
    path_model = models.folder(name)
    if FORM == "6" and len(arguments.i) > 1 and arguments.c is None:
        get_parser().error("Please specify the order of the contrasts with -c")
    if not models.is_valid(path_model):
        models.install_model(name)
    from spinalcordtoolbox.deepseg import inference
    extra = {}
    if FORM == "7":
        extra["extra_network_kwargs"] = {"test_time_aug": arguments.test_time_aug}
        extra["extra_inference_kwargs"] = {}
    images, targets = inference.segment_non_ivadomed(
        path_model, "nnunet", list(arguments.i), arguments.thr,
        keep_largest=arguments.largest, fill_holes_in_pred=arguments.fill_holes,
        remove_small=arguments.remove_small, use_gpu="SCT_USE_GPU" in os.environ, **extra)
    outputs = []
    for image, target in zip(images, targets):
        first = os.path.abspath(arguments.i[0])
        output = first.replace(".nii.gz", target + ".nii.gz")
        if arguments.o is not None:
            ends = [end for end in (".nii.gz", ".nii") if end in arguments.o]
            more = target if len(targets) > 1 else ""
            output = arguments.o + more
            if ends:
                output = arguments.o.replace(ends[0], more + ends[0])
            if os.path.dirname(output):
                os.makedirs(os.path.dirname(output), exist_ok=True)
        image.save(output)
        outputs.append(output)
        if FORM == "7":
            write_sidecar(path_model, output, argv)
    if FORM == "6":
        write_sidecar(path_model, output, argv)
    if arguments.qc:
        for image, output in zip(arguments.i, outputs):
            more = ("Axial", None) if FORM == "7" else ("Axial",)
            qc2.sct_deepseg(image, output, None, "human", argv, arguments.qc, None, None, *more)

def write_sidecar(path_model, output, argv):
    with open(os.path.join(path_model, "source.json")) as file:
        urls = json.load(file)["model_urls"]
    entry = {"Name": "spinalcordtoolbox: sct_deepseg " + " ".join(argv), "ModelURL": urls}
    stem = output.removesuffix(".nii.gz").removesuffix(".nii")
    with open(stem + ".json", "w") as out:
        json.dump({"GeneratedBy": [entry]}, out)

if __name__ == "__main__":
    main(sys.argv[1:])
"""


def write_sct(folder: Path, form: str = "7") -> Path:
    """Write the package ``spinalcordtoolbox`` into a folder and return its folder.

    Parameters
    ----------
    folder : Path
        Folder to put on ``sys.path``.
    form : {"7", "6"}
        Which SCT it takes after.
    """
    package = folder / "spinalcordtoolbox"
    words = {
        "form": form,
        "url": PUBLISHED[form],
        "task": TASK[form],
        "parameters": PARAMETERS[form],
        "more": ", plane, fname_qc_seg" if form == "7" else ", plane",
    }
    files = {
        "__init__.py": "",
        "version.txt": VERSION[form],
        "image.py": IMAGE,
        "compat/__init__.py": "",
        "compat/launcher.py": LAUNCHER,
        "deepseg/__init__.py": "",
        "deepseg/models.py": MODELS % words,
        "deepseg/inference.py": INFERENCE % words,
        "utils/__init__.py": "",
        "utils/shell.py": SHELL,
        "reports/__init__.py": "",
        "reports/qc2.py": QC2 % words,
        "scripts/__init__.py": "",
        "scripts/sct_deepseg.py": SCRIPT % words,
    }
    for name, content in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip(), encoding="utf-8")
    return package
