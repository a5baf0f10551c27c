from .runs import evaluate as evaluate
from .score_tables import compare as compare, format_table as format_table
