"""The story's rows: who asks and who serves, jobs, and every try of them."""

from jobs.models.accounts import ApiKey, User
from jobs.models.providers import Provider
from jobs.models.work import Attempt, Job

__all__ = ["ApiKey", "Attempt", "Job", "Provider", "User"]
