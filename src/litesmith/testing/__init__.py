"""The contract of a technique, as a test suite for those who write one."""

from litesmith.testing.contract import check_technique
from litesmith.testing.kinds import KINDS, Kind

__all__ = ["KINDS", "Kind", "check_technique"]
