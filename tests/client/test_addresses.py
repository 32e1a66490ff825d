"""Addresses as people write them."""

import pytest

from forethought.addresses import check_address, split_addresses
from forethought.errors import InvalidArgumentError


@pytest.mark.parametrize(
    "text",
    [
        *("localhost:1", "10.0.0.1:65535", "[::1]:50050", "[fe80::1%eth0]:50050", "a_b.c:50050"),
        *("dns:///forethought.svc:50050", "unix:/run/socket", "ipv4:10.0.0.1:50050,10.0.0.2:50050"),
    ],
)
def test_what_grpc_can_use_is_taken_as_it_stands(text):
    assert split_addresses(f" {text} ") == [text]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("localhost", "has no port"),
        ("10.0.0.1", "has no port"),
        ("50050", "has no host: it wants HOST:PORT, as in 127.0.0.1:50050"),
        ("::1", "as in [::1]:50050"),
        ("[::1]", "as in [::1]:50050"),
        ("dns:///host", "as in host:50050"),
        ("dns://server/host:99999", "from 1 to 65535"),
        ("host:", "'' is no number"),
        ("host:grpc", "'grpc' is no number"),
        ("host:-1", "'-1' is no number"),
        ("host:٣", "is no number"),
        ("host:0", "from 1 to 65535"),
        ("host:99999", "from 1 to 65535"),
        ("host:" + "9" * 5000, "from 1 to 65535"),
        (":50050", "has no host"),
        ("http://host:50050/", "leave out http://, as in host:50050"),
        ("grpc://host:50050", "leave out grpc://"),
        ("host:50050/v1", "nothing besides"),
        ("ho st:50050", "nothing besides"),
        ("a:b:50050", "IPv6 stands in brackets"),
        ("[::1:50050", "IPv6 stands in brackets"),
        ("a..b:50050", "each part of a name"),
        (f"{'a' * 64}:50050", "each part of a name"),
        ("[host]:50050", "no IPv6 address between its brackets"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text, problem):
    with pytest.raises(InvalidArgumentError, match=r"^address: ") as refusal:
        check_address(text)
    assert problem in refusal.value.message


def test_a_free_port_may_be_asked_for_where_somebody_listens():
    assert check_address("0.0.0.0:0", min_port=0) == "0.0.0.0:0"


@pytest.mark.parametrize("texts", ["a:1,b:2, c:3", ["a:1", "b:2,c:3"]])
def test_several_addresses_come_as_a_list_or_with_commas(texts):
    assert split_addresses(texts) == ["a:1", "b:2", "c:3"]


@pytest.mark.parametrize("texts", ["", " , ", [], [""]])
def test_no_address_at_all_is_refused(texts):
    with pytest.raises(InvalidArgumentError, match="HOST:PORT"):
        split_addresses(texts)
