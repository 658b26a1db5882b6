"""The model: pure tensor code."""
