from .changes import Change as Change
from .contestants import Contestant as Contestant, ScoredRun as ScoredRun
from .runs import compare_runs as compare_runs
from .tables import Comparison as Comparison, Table as Table
