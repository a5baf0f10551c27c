from .advice import advise as advise
from .changes import Change as Change
from .charts import draw_charts as draw_charts
from .contestants import Contestant as Contestant, ScoredRun as ScoredRun
from .page import render_comparison as render_comparison
from .pictures import draw_pictures as draw_pictures
from .runs import compare_runs as compare_runs
from .tables import Comparison as Comparison, Table as Table
