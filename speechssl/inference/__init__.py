"""Using a trained model: transcription and feature extraction."""
