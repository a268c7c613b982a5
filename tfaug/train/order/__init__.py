"""Orders: which examples make the next batch. `ORDERS` is the table."""

from __future__ import annotations

from tfaug.train.order.base import Order
from tfaug.train.order.shuffled import Shuffled

ORDERS: dict[str, type[Order]] = {"Shuffled": Shuffled}

__all__ = ["ORDERS", "Order", "Shuffled"]
