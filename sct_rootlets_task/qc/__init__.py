"""The quality-control report: a static site that opens from disk, an entry an image.

:func:`sct_rootlets_task.qc.report.add_entry` puts one image with its segmentation into a report.
"""
