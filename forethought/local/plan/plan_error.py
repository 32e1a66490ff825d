"""The error of a deployment that cannot be planned."""

from forethought.errors import ForethoughtError


class PlanError(ForethoughtError):
    """The options ask for something that this machine cannot give."""

    code = "FAILED_PRECONDITION"
    reason = "LOCAL_DEPLOYMENT"
