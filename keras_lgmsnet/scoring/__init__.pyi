from .regions import list_regions as list_regions
from .regions import score_case as score_case
from .regions import summarize as summarize
from .significance import PairedComparison as PairedComparison
from .significance import mean_interval as mean_interval
from .significance import paired_comparison as paired_comparison
from .surface import SurfaceDistances as SurfaceDistances
from .surface import surface_distances as surface_distances
