"""A whole gateway with the fake SFU of the flows."""

from __future__ import annotations

from gateway.app import Gateway
from mcu.base import Mcu
from tests.gateway.flows.media.fake_mcu import FakeMcu


class GatewayWithFakeSfu(Gateway):
    """A gateway with an SFU that can lose its streams."""

    fake: FakeMcu

    def _create_mcu(self) -> Mcu:
        self.fake = FakeMcu()
        return self.fake
