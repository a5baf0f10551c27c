from .loop import train as train
from .rehearsal import rehearse as rehearse
from .several import train_splits as train_splits, train_study as train_study
