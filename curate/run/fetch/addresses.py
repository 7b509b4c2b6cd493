"""Which addresses may be connected to: public ones; this machine's own only where the recipe names it.

The check sits where a socket is made, so it sees the very address that is connected to: after name resolution,
after every redirect, and whatever a name resolved to a moment ago.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

NAT64 = ipaddress.ip_network("64:ff9b::/96")


@lru_cache(maxsize=65_536)
def allowed(address: str, allow_loopback: bool) -> bool:
    """Whether an IP address (text, as in a socket address) may be connected to."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if ip.is_loopback:
        return allow_loopback
    return all(_public(each) for each in (ip, *_embedded(ip)))


@lru_cache(maxsize=65_536)
def is_loopback(address: str) -> bool:
    """Whether an IP address (text) is this machine's own."""
    return ipaddress.ip_address(address.split("%", 1)[0]).is_loopback


def _public(ip: IPv4Address | IPv6Address) -> bool:
    odd = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local
    site_local = isinstance(ip, IPv6Address) and ip.is_site_local
    return ip in NAT64 or (ip.is_global and not odd and not site_local)


def _embedded(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 one leads to: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(ip, IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in NAT64 or int(ip) < 1 << 32:
        found.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
