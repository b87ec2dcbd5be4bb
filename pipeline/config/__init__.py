"""The configuration of a chain: typed, frozen, validated once at the edge."""

from dsnet.routing.target import Target, parse_target
from pipeline.config.load import Field, config_from_dict, fields, load_config
from pipeline.config.paths import (
    check_in_uri,
    data_dir,
    home,
    lock_file,
    stage_dir,
    storage_dir,
    table_dir,
    version_dir,
)
from pipeline.config.plugins import import_plugins
from pipeline.config.recipe import OwnRecipe
from pipeline.config.schema import (
    Calibrate,
    Cluster,
    Config,
    Data,
    Evaluate,
    Gate,
    Model,
    Promotion,
    Supernet,
    Sweep,
    Table,
)
from pipeline.config.uri import Uri, is_uri, parse_uri

__all__ = [
    "Calibrate",
    "Cluster",
    "Config",
    "Data",
    "Evaluate",
    "Field",
    "Gate",
    "Model",
    "OwnRecipe",
    "Promotion",
    "Supernet",
    "Sweep",
    "Table",
    "Target",
    "Uri",
    "check_in_uri",
    "config_from_dict",
    "data_dir",
    "fields",
    "home",
    "import_plugins",
    "is_uri",
    "load_config",
    "lock_file",
    "parse_target",
    "parse_uri",
    "stage_dir",
    "storage_dir",
    "table_dir",
    "version_dir",
]
