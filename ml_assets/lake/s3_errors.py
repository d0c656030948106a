"""Classifies an object store's errors: which are transient, and how to fix the others.

Not here: retries (see `ml_assets.lake.s3`).
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

from ml_assets.adapters.s3fs import ResponseParserError

FAILURES: Final = (OSError, BotoCoreError, ClientError, ResponseParserError, aiohttp.ClientError)
"""Every exception of a failed request. s3fs translates some of them."""

_PASSING: Final = (
    HTTPClientError,
    BotoConnectionError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,  # raised for a truncated response
    aiohttp.ClientPayloadError,
    aiohttp.ClientConnectionError,
    ConnectionError,
    TimeoutError,
)
_PASSING_STATUSES: Final = {408, 429, 500, 502, 503, 504}
_PASSING_CODES: Final = {
    "BadDigest",  # the body was damaged in transit
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
    """Return the store's own error under its translations, or the error itself."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ClientError):
        found = found.__cause__
    return error if found is None else found


def error_code(error: BaseException) -> str:
    """Return an error's code from the store, or else its class name."""
    cause = cause_of(error)
    if isinstance(cause, ClientError):
        return str(cause.response.get("Error", {}).get("Code", "unknown"))
    return type(cause).__name__


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed if it is repeated."""
    cause = cause_of(error)
    if isinstance(cause, ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return error_code(cause) in _PASSING_CODES or status in _PASSING_STATUSES
    return isinstance(cause, _PASSING) and not isinstance(cause, SSLError)


def is_silence(error: BaseException) -> bool:
    """Return whether there was no response at all."""
    return is_transient(error) and not isinstance(cause_of(error), ClientError)


def as_os_error(error: BaseException, host: str, *, attempts: int) -> OSError:
    """Return a final failure as one of Python's OSErrors, with how to fix it and without secrets."""
    cause, code = cause_of(error), error_code(error)
    if is_transient(cause):
        kind = "failed" if isinstance(cause, ClientError) else "did not respond"
        return ConnectionError(
            errno.ECONNABORTED,
            f"{host} {kind} in {attempts} attempts, the last of which ended in {code}. Check that it is up and that "
            "endpoint_url is right, and try again",
        )
    if isinstance(cause, NoCredentialsError | PartialCredentialsError):
        return PermissionError(
            errno.EACCES,
            f"no credentials for {host} were found. Set access_key_id and secret_access_key of the lake, or set up the "
            "usual AWS chain (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a role)",
        )
    if isinstance(cause, ClientError):
        return _refusal(code, str(cause.response.get("Error", {}).get("Message", "")), host)
    return error if isinstance(error, OSError) else OSError(errno.EIO, f"{host}: {code}: {cause}")


def _refusal(code: str, message: str, host: str) -> OSError:
    """Return the error for a refused request."""
    if code in _MISSING:
        return FileNotFoundError(errno.ENOENT, f"{host} has no such object")
    if code in _UNMET:
        return FileExistsError(errno.EEXIST, f"{host} reports that a precondition failed")
    if code == "NoSuchBucket":
        return OSError(errno.ENXIO, f"{host} has no such bucket. Create it, or correct the lake's address")
    if code in _REFUSED:
        return PermissionError(
            errno.EACCES,
            f"{host} refuses access ({code}). Check the lake's credentials, whether they have expired, and their "
            "permissions for this bucket",
        )
    fix = "Set the lake's region to the bucket's" if code in _ELSEWHERE else "Look it up in the store's documentation"
    return OSError(errno.EIO, f"{host} reports {code} ({message}). {fix}")
