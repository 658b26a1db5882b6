"""Training runs: the loop, its parts, pretraining and fine-tuning."""
