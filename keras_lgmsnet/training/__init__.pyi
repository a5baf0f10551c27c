from .loop import train as train
from .loop import train_splits as train_splits
