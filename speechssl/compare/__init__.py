"""The race of pretext tasks: each is pretrained for the same time on the same recordings,
fine-tuned on the same labels, and scored on the same test set, beside models from scratch.

The way through: config (what is asked) -> corpus (the sets) -> entries (who takes part) -> plan
(the jobs) -> pool (processes) -> work (one job) -> scores -> summary -> page, table, compare.json.
"""
