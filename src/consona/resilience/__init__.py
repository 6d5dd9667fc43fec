"""Deadlines, retries with budgets, circuit breakers, rate limits and bulkheads: one small vocabulary.

Every part accepts a `Policy`; each piece also works alone.
"""

from consona.resilience.breaker import Breaker
from consona.resilience.bulkhead import Bulkhead
from consona.resilience.policy import Policy, Runner
from consona.resilience.rate import RateLimit
from consona.resilience.retry import Retry

__all__ = ["Breaker", "Bulkhead", "Policy", "RateLimit", "Retry", "Runner"]
