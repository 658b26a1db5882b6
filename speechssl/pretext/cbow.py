"""`cbow`: the slice of an utterance in the middle, from the slices before and after it.

The continuous bag of words of word2vec on audio: Audio2Vec, arXiv:1905.11796, section 3. As there
the embeddings around the slice are concatenated, not added, so that their order is known. The
formula, and what was adapted to speech, stand in audio2vec.py.
"""

from dataclasses import dataclass
from typing import ClassVar

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.audio2vec import Audio2VecTask, SlicesConfig
from speechssl.pretext.task import Resources


@dataclass(frozen=True)
class CBOWConfig(SlicesConfig):
    """A slice of the spectrogram from the slices around it."""

    name: ClassVar[str] = "cbow"
    guessed: ClassVar[str] = "the slice in the middle"

    def build(self, model: SpeechModel, resources: Resources) -> Audio2VecTask:
        del resources
        around = [i for i in range(2 * self.neighbours + 1) if i != self.neighbours]
        return Audio2VecTask(self, model, "Audio2Vec, the slice in the middle", around)
