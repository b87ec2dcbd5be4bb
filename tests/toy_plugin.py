"""What `plugins` of a configuration may name: importing it makes the toys known."""

from dsnet.models.registry import register
from dsnet.tasks import registry as tasks
from tests.toy import SMOOTHING, TOY_FAMILIES

tasks.register(SMOOTHING)
for name, (family, architecture) in TOY_FAMILIES.items():
    register(name, family, [architecture])
