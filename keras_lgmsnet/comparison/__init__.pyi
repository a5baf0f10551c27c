from .contestants import Contestant as Contestant, ScoredRun as ScoredRun, read_contestants as read_contestants
from .tables import compare_runs as compare_runs
