from .loop import train as train, train_splits as train_splits
from .rehearsal import rehearse as rehearse
