"""What an object store's errors mean: which pass by themselves, and what to do about the others.

Asking again stays out; see `ml_assets.lake.s3`.
"""

import errno
from typing import Final

import aiohttp
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

FAILURES: Final = (OSError, BotoCoreError, ClientError, ResponseParserError, aiohttp.ClientError)
"""All that comes out of a request that failed: s3fs translates some of it."""

_PASSING: Final = (
    HTTPClientError,
    BotoConnectionError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,  # what a truncated answer looks like
    aiohttp.ClientPayloadError,
    aiohttp.ClientConnectionError,
    ConnectionError,
    TimeoutError,
)
_PASSING_STATUSES: Final = {408, 429, 500, 502, 503, 504}
_PASSING_CODES: Final = {
    "BadDigest",  # the body was damaged on its way
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "XAmzContentSHA256Mismatch",
}
_REFUSED: Final = {
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_ELSEWHERE: Final = {
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
}
_MISSING: Final = {"404", "NoSuchKey", "NoSuchUpload"}
_UNMET: Final = {"412", "PreconditionFailed"}


def cause_of(error: BaseException) -> BaseException:
    """Return what the store said, under the translations of it; the error itself where it said nothing."""
    said: BaseException | None = error
    while said is not None and not isinstance(said, ClientError):
        said = said.__cause__
    return error if said is None else said


def code_of(error: BaseException) -> str:
    """Return an error's name: the store's own code where it gave one."""
    cause = cause_of(error)
    if isinstance(cause, ClientError):
        return str(cause.response.get("Error", {}).get("Code", "unknown"))
    return type(cause).__name__


def is_unmet(error: BaseException) -> bool:
    """Tell whether a request's condition did not hold."""
    return code_of(error) in _UNMET


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed if it is made again."""
    cause = cause_of(error)
    if isinstance(cause, ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return code_of(cause) in _PASSING_CODES or status in _PASSING_STATUSES
    return isinstance(cause, _PASSING) and not isinstance(cause, SSLError)


def is_silence(error: BaseException) -> bool:
    """Tell whether nobody answered at all."""
    return is_transient(error) and not isinstance(cause_of(error), ClientError)


def told(error: BaseException, host: str, *, attempts: int) -> OSError:
    """Return the error that a final failure is, in words, with its mend; Python's own classes, no secret."""
    cause, code = cause_of(error), code_of(error)
    if is_transient(cause):
        kind = "did not do it" if isinstance(cause, ClientError) else "did not answer"
        return ConnectionError(
            errno.ECONNABORTED,
            f"{host} {kind} in {attempts} attempts, the last of which ended in {code}. Check that it is up and that "
            "endpoint_url is right, and try again",
        )
    if isinstance(cause, NoCredentialsError | PartialCredentialsError):
        return PermissionError(
            errno.EACCES,
            f"no credentials for {host} were found. Give the lake access_key_id and secret_access_key, or set up the "
            "usual AWS chain (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a role)",
        )
    if isinstance(cause, ClientError):
        return _said(code, str(cause.response.get("Error", {}).get("Message", "")), host)
    return error if isinstance(error, OSError) else OSError(errno.EIO, f"{host}: {code}: {cause}")


def _said(code: str, message: str, host: str) -> OSError:
    """Return what an answer means that says no."""
    if code in _MISSING:
        return FileNotFoundError(errno.ENOENT, f"{host} has none")
    if code in _UNMET:
        return FileExistsError(errno.EEXIST, f"{host} says that it is not as it was expected to be")
    if code == "NoSuchBucket":
        return OSError(errno.ENXIO, f"{host} has no such bucket. Make it, or mend the lake's address")
    if code in _REFUSED:
        return PermissionError(
            errno.EACCES,
            f"{host} refuses it ({code}). Check the lake's credentials, whether they have run out, and what they may "
            "do in this bucket",
        )
    mend = "Set the lake's region to the bucket's" if code in _ELSEWHERE else "Look it up in the store's documentation"
    return OSError(errno.EIO, f"{host} says {code} ({message}). {mend}")
