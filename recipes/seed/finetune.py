"""Fine-tuning of a model that was taught to transcribe other languages."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Twenty minutes on a CPU. All layers learn, nearly as fast as the top: a start that CTC has
    taught wants it so, where one of self-supervision alone is best left as it is below."""
    config = preset("tiny")
    return replace(
        config,
        dropout=0.2,
        layer_lr_decay=0.9,
        freeze_encoder_share=0.0,
        loop=replace(config.loop, budget_minutes=20.0),
    )
