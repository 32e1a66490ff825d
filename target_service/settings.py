"""Settings of the target tier."""

from typing import ClassVar

from pydantic import Field

from forethought.settings import AdminAddress, EngineSettings


class TargetSettings(EngineSettings):
    """Command line, `FORETHOUGHT_TARGET_…`, or `[target]`."""

    section: ClassVar[str] = "target"
    program: ClassVar[str] = "python -m target_service"

    listen: str = Field("127.0.0.1:50052", description="host:port; port 0 takes a free one")
    admin_listen: AdminAddress = "127.0.0.1:9102"
