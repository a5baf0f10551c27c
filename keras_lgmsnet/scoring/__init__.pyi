from .regions import list_regions as list_regions, score_case as score_case, summarize as summarize
from .significance import (
    PairedComparison as PairedComparison,
    holm as holm,
    mean_interval as mean_interval,
    paired_comparison as paired_comparison,
)
from .surface import SurfaceDistances as SurfaceDistances, surface_distances as surface_distances
