"""The contract of every destination, kept by each of Rokt's surfaces."""

from kit.sandbox.contract import DestinationContract

from .rokt_samples import conversions, v1, v2


class TestV2(DestinationContract):
    destination = v2()
    secrets = ["rsec-2222"]


class TestV1(DestinationContract):
    destination = v1()
    secrets = ["app-id-1", "app-secret-1"]


class TestConversions(DestinationContract):
    destination = conversions(audiences={"purchase": ("buyers", "add")}, send_ip=True, hashing="raw")
    secrets = ["key-1", "secret-1"]


class TestPostback(DestinationContract):
    destination = v1(postback=True)
    secrets = ["app-id-1", "app-secret-1"]
