"""Self-training: a model transcribes recordings that have no transcripts and learns from the
transcripts it is surest of, in rounds, until that gains nothing more.

The idea is Yarowsky's (1995, doi:10.3115/981658.981684): begin with few labels, label what the
classifier is surest of, train again on both, and let what is labelled grow.
"""
