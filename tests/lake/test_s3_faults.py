"""The lake's objects on a faulty S3: transient errors are retried, permanent ones are reported at once."""

import io
import itertools
import os
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl
import pytest

from ml_assets.lake import s3 as store
from ml_assets.lake.access import Access, Patience
from ml_assets.lake.errors import LakeError, MissingArtifactError, UnreachableLakeError
from ml_assets.lake.objects import Objects
from tests.faults import FAULTS, FaultyS3

_numbers = itertools.count()
QUICK = {"first_wait": 0.01, "longest_wait": 0.05}
MIB = 2**20

S3 = Callable[[str], Mapping[str, Any]]


def bucket() -> str:
    return f"faults-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def faulty(s3: S3) -> Iterator[tuple[FaultyS3, Objects]]:
    """A lake behind a proxy, which does what a test plans."""
    name = bucket()
    options = s3(name)
    with FaultyS3(options["endpoint_url"]) as proxy:
        yield proxy, Objects(f"s3://{name}/lake", {**options, **QUICK, "endpoint_url": proxy.endpoint})


def put(lake: Objects, name: str, data: bytes) -> None:
    lake.write(lake.path(name), lambda file: file.write(data))


def unfinished(lake: Objects) -> list[Any]:
    return lake.fs.call_s3("list_multipart_uploads", Bucket=lake.url.split("/")[2]).get("Uploads", [])  # type: ignore[no-any-return]


def mixed(lake: Objects, *, seed: int, count: int) -> list[object]:
    """Do many operations in a seeded order, and return their results."""
    chosen = random.Random(seed)  # noqa: S311
    gave: list[object] = []
    for number in range(count):
        what, name = (
            chosen.choice(("write", "create", "read", "names", "tree")),
            f"{chosen.randrange(4)}/{chosen.randrange(6)}",
        )
        path, data = lake.path(name), f"{number} {name}".encode() * chosen.choice((1, 2_000))
        try:
            if what == "write":
                gave.append(lake.write(path, lambda file, data=data: file.write(data)))
            elif what == "create":
                gave.append(lake.create(path, data))
            elif what == "read":
                gave.append(lake.read(path))
            else:
                gave.append(getattr(lake, what)(path if what == "names" else lake.url))
        except (FileExistsError, MissingArtifactError) as error:
            gave.append(type(error).__name__)
    return [*gave, {name: lake.read(lake.path(name)) for name in lake.tree(lake.url)}]


def test_with_faults_on_a_fifth_of_all_requests_everything_ends_as_without(s3: S3) -> None:
    names = bucket(), bucket()
    options = s3(names[0])
    s3(names[1])
    with FaultyS3(options["endpoint_url"], share=0.2, seed=7) as proxy:
        through = Objects(f"s3://{names[0]}/lake", {**options, **QUICK, "endpoint_url": proxy.endpoint})
        found = mixed(through, seed=3, count=100)

    assert mixed(Objects(f"s3://{names[1]}/lake", options), seed=3, count=100) == found
    assert {*FAULTS} == {*proxy.injected}
    assert len(proxy.requests) * 0.1 < proxy.injected.total()


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_overcome_by_each_operation(faulty: tuple[FaultyS3, Objects], kind: str) -> None:
    proxy, lake = faulty
    proxy.plan("PUT", kind)
    put(lake, "a", b"x" * 1_000)
    proxy.plan("GET", kind, kind)
    assert b"x" * 1_000 == lake.read(lake.path("a"))
    proxy.plan("GET", kind)
    assert ["a"] == lake.names(lake.url)
    proxy.plan("HEAD", kind)
    assert 1_000 == lake.stat(lake.path("a")).bytes
    proxy.plan("PUT", kind)
    proxy.plan("DELETE", kind)
    lake.move(lake.path("a"), lake.path("b"))
    proxy.plan("DELETE", kind)
    lake.remove(lake.path("b"))
    proxy.plan("GET", kind)

    assert {} == lake.tree_with_sizes(lake.url)
    assert 9 == proxy.injected[kind]


def test_a_creation_whose_answer_was_lost_is_known_again(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    proxy.plan("PUT", "lost")

    etag = lake.create(lake.path("1.json"), b"mine")

    assert lake.stat(lake.path("1.json")).etag == etag
    assert b"mine" == lake.read(lake.path("1.json"))
    assert {"lost": 1} == proxy.injected


@pytest.mark.parametrize("theirs", [b"theirs", b"their longer one"])
def test_a_creation_that_lost_to_another_is_reported_even_after_a_lost_response(
    faulty: tuple[FaultyS3, Objects], theirs: bytes
) -> None:
    proxy, lake = faulty
    put(lake, "1.json", theirs)
    proxy.plan("PUT", "reset")

    with pytest.raises(FileExistsError):
        lake.create(lake.path("1.json"), b"mine !")

    assert theirs == lake.read(lake.path("1.json"))


def test_equal_bytes_that_existed_before_count_as_another_writers(faulty: tuple[FaultyS3, Objects]) -> None:
    _, lake = faulty
    put(lake, "1.json", b"same")

    with pytest.raises(FileExistsError):
        lake.create(lake.path("1.json"), b"same")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PART", 5 * MIB)  # S3's least
    monkeypatch.setattr(store, "BLOCK", 4 * MIB)
    monkeypatch.setattr(store, "WHOLE_COPY", 6 * MIB)


BIG = random.Random(1).randbytes(11 * MIB)  # noqa: S311


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", ["503", "lost", "reset"])
def test_a_large_object_is_written_in_parts_and_read_in_pieces_despite_faults(
    faulty: tuple[FaultyS3, Objects], kind: str
) -> None:
    proxy, lake = faulty
    path = lake.path("big")
    proxy.plan("PUT", kind, kind)
    proxy.plan("POST /", kind)
    written = lake.write(path, lambda file: file.write(BIG))
    proxy.plan("GET", kind, "truncated")

    assert BIG == lake.read(path)
    assert 3 == sum(line.startswith("PUT") for line in {*proxy.requests})
    assert (len(BIG), lake.stat(path).etag) == (written.bytes, written.etag)
    lake.move(path, lake.path("moved"))
    assert BIG == lake.read(lake.path("moved"))
    assert ["moved"] == lake.names(lake.url)


@pytest.mark.usefixtures("small_parts")
def test_a_completion_whose_answer_was_lost_is_known_again(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    proxy.plan(f"POST /{lake.url.split('/')[2]}/lake/big?uploadId", "lost")

    written = lake.write(lake.path("big"), lambda file: file.write(BIG))

    assert {"lost": 1} == proxy.injected
    assert lake.stat(lake.path("big")).etag == written.etag
    assert BIG == lake.read(lake.path("big"))


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_its_writer_breaks_off_is_aborted(faulty: tuple[FaultyS3, Objects]) -> None:
    _, lake = faulty

    def half(file: Any) -> None:
        file.write(BIG)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lake.write(lake.path("big"), half)

    assert [] == unfinished(lake)
    assert [] == lake.tree(lake.url)


@pytest.mark.usefixtures("small_parts")
def test_an_upload_with_a_rejected_part_is_aborted_and_reported(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    proxy.plan("PUT", "403")

    with pytest.raises(LakeError, match=rf"cannot write {lake.url}/big: {proxy.host} refuses access \(AccessDenied\)"):
        put(lake, "big", BIG)

    assert [] == unfinished(lake)
    assert [] == lake.tree(lake.url)


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_cannot_be_aborted_is_logged_and_its_reason_reported(
    faulty: tuple[FaultyS3, Objects], caplog: pytest.LogCaptureFixture
) -> None:
    proxy, lake = faulty
    proxy.plan("PUT", "403")
    proxy.plan("DELETE", "expired")

    with pytest.raises(LakeError, match=r"refuses access \(AccessDenied\)"):
        put(lake, "big", BIG)

    assert "is left unfinished (ExpiredToken); gc removes it." in caplog.text


OPERATIONS: dict[str, Callable[[Objects], object]] = {
    "write": lambda lake: put(lake, "a", b"x"),
    "create": lambda lake: lake.create(lake.path("a"), b"x"),
    "read": lambda lake: lake.read(lake.path("a")),
    "names": lambda lake: lake.names(lake.path("a")),
    "tree": lambda lake: lake.tree(lake.path("a")),
    "stat": lambda lake: lake.stat(lake.path("a")),
    "move": lambda lake: lake.move(lake.path("a"), lake.path("b")),
    "remove": lambda lake: lake.remove(lake.path("a")),
}


def test_an_unreachable_server_is_reported_by_name_and_nothing_hangs(s3: S3) -> None:
    name = bucket()
    options = s3(name)
    with FaultyS3(options["endpoint_url"]) as proxy:
        lake = Objects(f"s3://{name}/lake", {**options, **QUICK, "attempts": 3, "endpoint_url": proxy.endpoint})
        put(lake, "a", b"x")
        proxy.gone()

        for operation in OPERATIONS.values():
            with pytest.raises(
                UnreachableLakeError, match=rf"{lake.url}/a: {proxy.host} did not respond in [13] attempts"
            ):
                operation(lake)

    assert b"x" == Objects(lake.url, options).read(lake.path("a"))


def test_an_unreachable_server_gets_a_single_attempt_until_it_answers(s3: S3) -> None:
    name = bucket()
    options = s3(name)
    with FaultyS3(options["endpoint_url"]) as proxy:
        lake = Objects(f"s3://{name}/given-up", {**options, **QUICK, "attempts": 3, "endpoint_url": proxy.endpoint})
        put(lake, "a", b"x")
        for attempts in (3, 1, 1):
            proxy.plan("", *["reset"] * 40)  # aiohttp sends some again by itself
            with pytest.raises(UnreachableLakeError, match=rf"did not respond in {attempts} attempts"):
                lake.read(lake.path("a"))
            proxy.forget()

        assert b"x" == lake.read(lake.path("a"))
        proxy.plan("GET", "500", "500")
        assert b"x" == lake.read(lake.path("a"))


def test_a_server_that_takes_requests_and_never_answers_is_given_up(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    proxy.plan("GET", "silence", "silence", "silence")
    hasty = Objects(lake.url, {**lake.options, "read_timeout": 0.1, "seconds": 0.15})

    with pytest.raises(UnreachableLakeError, match=r"did not respond in 2 attempts, .* ended in .*Timeout"):
        hasty.read(lake.path("a"))


def test_with_the_defaults_no_server_is_waited_for_more_than_fifteen_seconds() -> None:
    patience = Patience()
    hung = patience.read_timeout + max(patience.seconds, patience.wait(1) + patience.read_timeout)
    swallowed = patience.connect_timeout + patience.seconds + patience.connect_timeout

    assert hung < 15
    assert swallowed < 15
    assert max(patience.wait(n) for n in range(1, 100)) <= patience.longest_wait


@pytest.mark.parametrize(
    ("kind", "message"),
    [("403", "refuses access|AccessDenied|403"), ("expired", "refuses access|400"), ("elsewhere", "region|400")],
)
def test_permanent_errors_are_reported_at_once(faulty: tuple[FaultyS3, Objects], kind: str, message: str) -> None:
    proxy, lake = faulty
    for operation in OPERATIONS.values():
        proxy.requests.clear()
        proxy.plan("", *[kind] * 3)

        with pytest.raises(LakeError, match=message) as caught:
            operation(lake)

        assert not isinstance(caught.value, UnreachableLakeError | MissingArtifactError)
        assert len(proxy.requests) <= 3  # botocore requests the bucket's region once
        assert f"{lake.url}/a" in str(caught.value)
        proxy.forget()


def test_a_bucket_that_does_not_exist_is_reported_by_name(s3: S3) -> None:
    lake = Objects("s3://nobody-made-it/lake", s3(bucket()))
    for operation in ("write", "create", "read", "names", "tree"):
        with pytest.raises(LakeError, match=r"s3://nobody-made-it/lake/a: .* has no such bucket\. Create it") as caught:
            OPERATIONS[operation](lake)

        assert not isinstance(caught.value, MissingArtifactError)


def test_missing_credentials_are_reported_with_the_places_that_were_searched(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_credentials(monkeypatch)
    lake = Objects("s3://bucket/lake", {"endpoint_url": s3(bucket())["endpoint_url"], "region": "us-east-1"})

    with pytest.raises(LakeError, match=r"no credentials for .*AWS_ACCESS_KEY_ID"):
        lake.read(lake.path("a"))
    with pytest.raises(LakeError, match="no credentials for"):
        lake.polars_options()


def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_no_error_and_no_trace_holds_a_credential(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    secrets = {"access_key_id": "AKIAWHOEVER", "secret_access_key": "s3cr3t-s3cr3t", "session_token": "t0k3n-t0k3n"}
    rest = {name: value for name, value in lake.options.items() if name not in {"key", "secret"}}
    theirs = Objects(lake.url, {**rest, **secrets, "attempts": 2})
    texts = [repr(theirs), repr(theirs.access), str(theirs.access)]
    for kind in ("403", "expired", "elsewhere", "500", "reset"):
        for operation in OPERATIONS.values():
            proxy.plan("", *[kind] * 20)  # aiohttp sends some again by itself
            with pytest.raises(LakeError) as caught:
                operation(theirs)
            texts += traceback.format_exception(caught.value)
            proxy.forget()

    assert [] == [text for text in texts if any(secret in text for secret in secrets.values())]


def test_explicit_settings_equal_those_of_s3fs(s3: S3) -> None:
    options = s3(bucket())
    ours = {
        "access_key_id": "key", "secret_access_key": "secret", "endpoint_url": options["endpoint_url"],
        "region": "us-east-1",
    }  # fmt: skip

    assert Access.of(options) == Access.of(ours)


def test_a_session_token_is_sent_with_every_request_of_ours_and_of_polars(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    theirs = Objects(lake.url, {**lake.options, "token": "t0k3n"})
    put(theirs, "a.parquet", parquet())
    pl.read_parquet(theirs.path("a.parquet"), storage_options=theirs.polars_options())

    assert {"t0k3n"} == {
        headers.get("x-amz-security-token", headers.get("X-Amz-Security-Token")) for headers in proxy.headers
    }


def test_without_explicit_settings_both_use_the_environment(
    faulty: tuple[FaultyS3, Objects], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, lake = faulty
    without_credentials(monkeypatch)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "envkey", "AWS_SECRET_ACCESS_KEY": "envsecret", "AWS_SESSION_TOKEN": "envtoken",
        "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": proxy.endpoint,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    theirs = Objects(lake.url, QUICK)
    put(theirs, "a.parquet", parquet())
    pl.scan_parquet(theirs.path("a.parquet"), storage_options=theirs.polars_options()).collect()

    signed = [headers["authorization"] for headers in proxy.headers]
    assert len(signed) > 1
    assert [] == [one for one in signed if "Credential=envkey/" not in one or "/eu-west-1/s3/" not in one]


def test_polars_reads_through_faults(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    put(lake, "a.parquet", parquet())
    for kind in ("500", "503", "slow_down", "reset", "truncated"):
        proxy.plan("GET", kind)
        assert 50_000 == pl.read_parquet(lake.path("a.parquet"), storage_options=lake.polars_options())["n"].len()

    assert 5 == proxy.injected.total()


def test_polars_gives_up_an_unreachable_server(faulty: tuple[FaultyS3, Objects]) -> None:
    proxy, lake = faulty
    options = lake.polars_options()
    proxy.gone()
    since = time.monotonic()

    with pytest.raises((OSError, pl.exceptions.PolarsError)):
        pl.read_parquet(lake.path("a.parquet"), storage_options=options)

    assert time.monotonic() - since < 15


def parquet() -> bytes:
    file = io.BytesIO()
    pl.DataFrame({"n": range(50_000)}).write_parquet(file, compression="uncompressed", row_group_size=10_000)
    return file.getvalue()
