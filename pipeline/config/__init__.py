"""The configuration of a chain: typed, frozen, validated once at the edge."""

from pipeline.config.load import Field as Field
from pipeline.config.load import config_from_dict as config_from_dict
from pipeline.config.load import fields as fields
from pipeline.config.load import load_config as load_config
from pipeline.config.paths import check_in_uri as check_in_uri
from pipeline.config.paths import data_dir as data_dir
from pipeline.config.paths import home as home
from pipeline.config.paths import lock_file as lock_file
from pipeline.config.paths import stage_dir as stage_dir
from pipeline.config.paths import storage_dir as storage_dir
from pipeline.config.paths import table_dir as table_dir
from pipeline.config.paths import version_dir as version_dir
from pipeline.config.plugins import import_plugins as import_plugins
from pipeline.config.recipe import OwnRecipe as OwnRecipe
from pipeline.config.schema import Cluster as Cluster
from pipeline.config.schema import Config as Config
from pipeline.config.schema import Data as Data
from pipeline.config.schema import Gate as Gate
from pipeline.config.schema import Model as Model
from pipeline.config.schema import Promotion as Promotion
from pipeline.config.schema import Supernet as Supernet
from pipeline.config.uri import Uri as Uri
from pipeline.config.uri import is_uri as is_uri
from pipeline.config.uri import parse_uri as parse_uri
