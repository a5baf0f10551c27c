from .runs import evaluate as evaluate
from .score_tables import compare as compare
from .score_tables import format_table as format_table
