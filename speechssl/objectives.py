"""Former place of the pretext tasks; a recipe that imports from here is told what to change."""

raise ImportError(
    "speechssl.objectives is speechssl.pretext now: import ContrastiveConfig, MaskedUnitsConfig "
    "(fixed codes) or ReconstructionConfig from speechssl.pretext.contrastive, .masked_units or "
    ".reconstruction, and give PretrainConfig(tasks=TaskConfigs((...))) from "
    "speechssl.pretext.tasks in place of contrastive= and reconstruction=."
)
