"""Orders: which examples make the next batch. `ORDERS` is the table."""

from __future__ import annotations

from tfaug.train.order.base import Ask, Order, Pool, ScoringOrder
from tfaug.train.order.loss_order import LossOrder
from tfaug.train.order.max_loss_delta import MaxLossDelta
from tfaug.train.order.shuffled import Shuffled

ORDERS: dict[str, type[Order]] = {"LossOrder": LossOrder, "MaxLossDelta": MaxLossDelta, "Shuffled": Shuffled}

__all__ = ["ORDERS", "Ask", "LossOrder", "MaxLossDelta", "Order", "Pool", "ScoringOrder", "Shuffled"]
