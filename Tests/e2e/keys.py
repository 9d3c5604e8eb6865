"""API keys made outside of the product, right and wrong: `weir_<environment>_<12>_<32 and a checksum of 6>`."""

import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def checksum(body: str) -> str:
    """CRC-32 of the text as six digits of base 62."""
    value = zlib.crc32(body.encode())
    digits = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = ALPHABET[digit] + digits
    return digits


def well_formed(environment: str = "live", public_id: str = "0123456789AB", secret: str = "0" * 32) -> str:
    """A key that passes every check that needs no look-up."""
    body = f"weir_{environment}_{public_id}_{secret}"
    return body + checksum(body)


def with_wrong_checksum(key: str) -> str:
    """The key with its last character changed."""
    return key[:-1] + ("A" if key[-1] != "A" else "B")


def written_down() -> dict[str, str]:
    """Keys that are written down in the format's description."""
    return {
        well_formed("live", "0123456789AB", "0" * 32): "weir_live_0123456789AB_000000000000000000000000000000000sImyu",
        well_formed(
            "test", "AbCdEfGhIjKl", "abcdefghijklmnopqrstuvwxyzABCDEF"
        ): "weir_test_AbCdEfGhIjKl_abcdefghijklmnopqrstuvwxyzABCDEF01X7c1",
        well_formed("live", "z" * 12, "z" * 32): "weir_live_zzzzzzzzzzzz_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz1E5upn",
    }
