"""A pretraining in which the further processes fail: they import it by its name."""

from speechssl import distributed
from speechssl.training.pretrain_work import PretrainWork


class FaultyWork(PretrainWork):
    """Its second update fails in every process but the first."""

    def backward(self, step, max_steps, batches):
        if distributed.rank() and step == 1:
            raise OSError(28, "No space left on device")
        return super().backward(step, max_steps, batches)
