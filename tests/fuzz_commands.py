"""Commands that nobody would type, made from the parsers themselves."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

from sct_rootlets_task.cli.grammar import LEGACY, legacy_parser, modern_parser
from sct_rootlets_task.cli.sct_rootlets import build_parser

FILES = ("image.nii.gz", "seg.nii.gz", "cord.nii.gz", "pmj.nii.gz", "discs.nii.gz")
ODD_FILES = (
    "",
    ".",
    "..",
    "/",
    "missing.nii.gz",
    "text.nii.gz",
    "empty.nii.gz",
    "folder",
    "folder.nii.gz",
    "loop.nii.gz",
    "dangling.nii.gz",
    "~",
    "~/x.nii.gz",
    "~nobody_at_all/x.nii.gz",
    "a\0b.nii.gz",
    "\udce9.nii.gz",
    "\x1b[31mred.nii.gz",
    "n" * 300,
    "d/" * 3000 + "x.nii.gz",
    "image.nii.gz/x.nii.gz",
    "seg.nii.gz ",
    "-",
    "/dev/null",
    "/dev/full",
    "/dev/zero",
    "file:///dev/zero",
    "https://" + "a" * 64 + ".invalid/m.zip",
    "http://[::1",
    "C:\\x.nii.gz",
)
OUTPUTS = ("out.nii.gz", "out.nii", "out", "new/", "out.json", "out.csv", "out.png", "qc")
NUMBERS = ("0", "1", "-1", "2", "²", "1e3", "nan", "inf", "9" * 5000, "-" + "9" * 400, "0x10", "")
TEXTS = ("C5:12", "3:4,4:5", "lvl" + "9" * 500, "5mm3", "1e999vox", ":", ",", "\0", "=1+1", "é–≥")
WRITTEN = {"-o", "-csv", "-line", "-cord", "-preview", "-qc", "-model-dir", "output"}
INPUTS = ("-i", "-s", "-gt", "-pmj", "-discs", "-locator", "-qc-seg")
LEFT_OUT = {"sct"}
"""Verbs that change the environment itself."""


def leaves(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yield each parser that has no sub-commands, with the words that lead to it."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in inner:
        for name, child in action.choices.items():
            if name not in LEFT_OUT:
                yield from leaves(child, (*words, name))
    if not inner:
        yield words, parser


PARSERS = [
    *(("sct_rootlets", *leaf) for leaf in leaves(build_parser())),
    *(("sct_deepseg", *leaf) for leaf in leaves(modern_parser())),
    ("sct_deepseg", (), legacy_parser()),
]


def commands(seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield programs with arguments, without end."""
    chance = random.Random(seed)
    while True:
        program, words, parser = chance.choice(PARSERS)
        yield program, [*words, *_arguments(parser, chance)]


def _arguments(parser: argparse.ArgumentParser, chance: random.Random) -> list[str]:
    """Return arguments: the required ones most of the time, some of the others, and slips."""
    words: list[str] = []
    for action in parser._actions:
        wanted = action.required or action.dest in ("i", "o", "task")
        if action.dest == "help" or chance.random() > (0.92 if wanted else 0.2):
            continue
        name = chance.choice(action.option_strings) if action.option_strings else ""
        words += [*([name] if name else []), *_values(action, name or action.dest, chance)]
    if chance.random() < 0.1:
        words.insert(chance.randrange(len(words) + 1), chance.choice((*TEXTS, "-bogus", "--")))
    form = getattr(parser, "form", None)
    return ["-task", chance.choice(("rootlets", "x")), *words] if form == LEGACY else words


def _values(action: argparse.Action, name: str, chance: random.Random) -> list[str]:
    if action.nargs == 0:
        return []
    count = chance.choice((1, 1, 2, 3)) if action.nargs == "+" else 1
    return [_value(action, name, chance) for _ in range(count)]


def _value(action: argparse.Action, name: str, chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.1:
        return chance.choice((*ODD_FILES, *NUMBERS, *TEXTS))
    if action.choices and kind < 0.9:
        return str(chance.choice(list(action.choices)))
    if name in WRITTEN:
        return chance.choice(OUTPUTS if kind < 0.7 else (*FILES, *ODD_FILES[:-8]))
    if action.type is not None and "path" not in getattr(action.type, "__name__", ""):
        return chance.choice(NUMBERS)
    if name in INPUTS:
        return chance.choice(FILES if kind < 0.8 else ODD_FILES)
    return chance.choice((*TEXTS, *ODD_FILES, "starter", "model"))
