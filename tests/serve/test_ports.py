import socket

import pytest

from marwright.recipe.errors import ServeError
from marwright.serve.ports import LOOPBACK, Ports, free_ports, is_free, require_free
from marwright.serve.settings import read_settings
from tests.servers import ROOT


def test_a_port_stands_for_five_in_a_row():
    assert list(Ports.following(9080).named().values()) == [9080, 9081, 9082, 9083, 9084]


@pytest.mark.parametrize("base", [0, -1, 65532, 70000])
def test_five_ports_must_fit(base):
    with pytest.raises(ServeError, match="choose one from 1 to 65531"):
        Ports.following(base)


def test_the_repository_listens_on_loopback_only():
    settings = read_settings(ROOT / "config.properties")
    ports = Ports.configured(settings)
    assert (ports.inference, ports.management, ports.metrics) == (8080, 8081, 8082)
    assert (ports.grpc_inference, ports.grpc_management) == (7070, 7071)
    assert ports.settings().items() <= settings.items()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inference_address": "unix:/tmp/x"}, "inference_address: 'unix:/tmp/x' is not like"),
        ({"grpc_inference_port": "many"}, "grpc_inference_port: 'many' is not a port"),
    ],
)
def test_an_address_that_is_none_is_named(settings, words):
    with pytest.raises(ServeError, match=words):
        Ports.configured(settings)


@pytest.mark.parametrize("address", [LOOPBACK, "0.0.0.0"])
def test_a_port_in_use_is_named_with_its_purpose_and_owner(address):
    ports = Ports.following(free_ports())
    require_free(ports)
    with socket.create_server((address, ports.metrics)):
        assert not is_free(ports.metrics)
        with pytest.raises(ServeError) as raised:
            require_free(ports)
    assert f"  {ports.metrics} (metrics) by pid" in str(raised.value)
    assert str(ports.management) not in str(raised.value)
    assert "make serve PORT=" in str(raised.value)
    assert is_free(ports.metrics)
