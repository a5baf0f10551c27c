from .runs import compare as compare
from .runs import evaluate as evaluate
from .runs import format_table as format_table
