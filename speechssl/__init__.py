"""speechssl: learn speech from unlabeled audio, transcribe it after a few labelled minutes."""

__version__ = "0.1.0"
