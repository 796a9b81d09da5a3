"""The verbs of the ``sct_rootlets`` command, a module each.

A verb module has ``NAME`` and ``HELP`` (one line), ``add_arguments(parser)`` and
``run(arguments) -> int``; it is listed in :mod:`sct_rootlets_task.cli`.
"""
