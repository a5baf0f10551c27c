from .cases import (
    CASES as CASES,
    DEFAULT_CASES as DEFAULT_CASES,
    Case as Case,
    network_cases as network_cases,
)
from .costs import (
    CostRow as CostRow,
    Measurement as Measurement,
    benchmark_costs as benchmark_costs,
    format_costs as format_costs,
)
from .exports import (
    CONTESTANTS as CONTESTANTS,
    EXPORT_PACKAGES as EXPORT_PACKAGES,
    REFERENCE as REFERENCE,
    Contestant as Contestant,
    ExportRow as ExportRow,
    benchmark_exports as benchmark_exports,
    format_export_table as format_export_table,
    left_out as left_out,
)
from .forms import benchmark_forms as benchmark_forms
from .gpu import gpu_report as gpu_report
from .machine import describe_machine as describe_machine
from .networks import (
    Row as Row,
    benchmark as benchmark,
    format_table as format_table,
)
from .pipeline import (
    PipelineRow as PipelineRow,
    benchmark_pipeline as benchmark_pipeline,
    format_pipeline_table as format_pipeline_table,
)
