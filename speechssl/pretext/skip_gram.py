"""`skip_gram`: the slices of an utterance before and after one, from that one alone.

The skip-gram of word2vec on audio: Audio2Vec, arXiv:1905.11796, section 3. The formula, and what
was adapted to speech, stand in audio2vec.py.
"""

from dataclasses import dataclass
from typing import ClassVar

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.audio2vec import Audio2VecTask, SlicesConfig
from speechssl.pretext.task import Resources


@dataclass(frozen=True)
class SkipGramConfig(SlicesConfig):
    """The slices of the spectrogram around one slice."""

    name: ClassVar[str] = "skip_gram"
    guessed: ClassVar[str] = "the slices around"

    def build(self, model: SpeechModel, resources: Resources) -> Audio2VecTask:
        del resources
        return Audio2VecTask(self, model, "Audio2Vec, the slices around", [self.neighbours])
