from .loop import train as train, train_splits as train_splits
