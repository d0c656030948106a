"""No secret of an address is accepted in a declaration or shown in a message."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.secrets import has_secret, redact, without_secret

NAMES = [
    "private_key", "x-functions-key", "privateKey", "access_key_id", "Key-Pair-Id", "Policy", "session", "sessionid",
    "PHPSESSID", "hmac", "pw", "passphrase", "bearer", "ticket", "access_token", "sig", "Signature", "X-Amz-Credential",
    "X-Amz-Security-Token", "code", "pwd", "auth", "jwt", "api%5Fkey", "authorization", "hash",
]  # fmt: skip
ADDRESSES = [
    "http://joe:pa'hunter2@127.0.0.1/bikes.csv",
    "https://joe:hunter/hunter@h/t.csv",
    "https://joe:hunter#hunter@h/t.csv",
    "https://joe:hunter?hunter@h/t.csv",
    "https://joe:hunter@hunter@h/t.csv",
    "https://hunter2@h/t.csv",
    "simplecache::s3://key:hunter2@bucket/t.csv",
    *(f"https://h/t.csv?page=2&{name}=hunter2" for name in NAMES),
    *(f"https://h/t.csv#{name}=hunter2" for name in NAMES),
    "https://h/t.csv?a=1;sig=hunter2;hunter&hunter",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_secret_is_refused_and_no_piece_of_it_is_shown(address: str) -> None:
    with pytest.raises(ValueError, match="contains a secret") as caught:
        without_secret(address)

    assert "hunter" not in str(caught.value)
    for text in (address, f"'{address}' is gone.", f"at {address}: refused", repr({"file": address, "n": 1})):
        assert "hunter" not in redact(text)


def test_a_password_with_a_space_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="contains a secret") as caught:
        without_secret("https://joe:my hunter@h/t.csv")

    assert "'https://***@h/t.csv'" in str(caught.value)


SECRETS = st.text(string.ascii_letters + string.digits + "'\"/#?@:;,.!$%*+=~", min_size=1, max_size=20)


@given(SECRETS)
def test_of_an_address_with_any_password_or_signature_only_the_rest_is_shown(secret: str) -> None:
    assert "at https://***@h/t.csv now" == redact(f"at https://joe:{secret}@h/t.csv now")
    assert "https://h/t.csv?sig=***&a=***" == redact(f"https://h/t.csv?sig={secret}&a=1")
    assert has_secret(f"https://joe:{secret}@h/t.csv")


@pytest.mark.parametrize(
    "address",
    [
        "in/a@b.csv", "s3://bucket/a@b.csv", "s3://bucket/key=1/t.csv", "https://h:8080/t.csv", "package://shop/t.csv",
        "https://h/t.csv?page=2&keyword=x&country_code=US&design=3&author=joe&passengers=4#top",
        "zip://t.csv::https://h/t.zip", "https://h/t.csv?key=&page=2",
    ],
)  # fmt: skip
def test_an_address_without_a_secret_is_accepted(address: str) -> None:
    assert address == without_secret(address)


def test_a_message_shows_the_names_of_parameters_and_the_paths() -> None:
    text = "'https://h/t.csv?sv=2024&sig=abc', s3://bucket/a@b.csv (did you mean it?)"

    assert "'https://h/t.csv?sv=***&sig=***', s3://bucket/a@b.csv (did you mean it?)" == redact(text)
