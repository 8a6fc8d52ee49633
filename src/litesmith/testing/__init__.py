"""The contract of a technique, as a test suite for those who write one."""

from litesmith.testing.contract import check_technique
from litesmith.testing.kinds import KINDS, Kind
from litesmith.testing.stages import check_stages
from litesmith.testing.ways import WAYS, Way, check_training

__all__ = ["KINDS", "WAYS", "Kind", "Way", "check_stages", "check_technique", "check_training"]
