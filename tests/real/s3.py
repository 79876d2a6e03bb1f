"""A real S3 server on loopback, with a bucket that everybody may read from and nobody list.

with running_s3(folder) as s3:
    BucketStore("s3://blocks/ann", …)       # with s3.environment
    s3.gateway("ann")                       # what an announcement says
"""

import hashlib
import hmac
import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.error import URLError

from devnet.built import find_built
from devnet.program import Program
from protocol.whereabouts import Gateway
from runtime.processes import free_port
from tests.real.daemon import Daemon

BUCKET: Final = "blocks"
_KEY, _SECRET, _REGION = "test-key", "test-secret", "us-east-1"
_PUBLIC: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
        }
    ],
}


class S3(Daemon):
    """versitygw, which keeps objects as files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        (folder / "s3").mkdir(parents=True)
        (folder / "meta").mkdir()  # not every file system has extended attributes
        program = find_built("versitygw")
        options = ("--access", _KEY, "--secret", _SECRET, "--port", f"127.0.0.1:{self.port}")
        kept = ("posix", "--sidecar", str(folder / "meta"), str(folder / "s3"))
        command = (program, *options, *kept)
        url = f"http://127.0.0.1:{self.port}"
        super().__init__(Program(command, url, str(folder / "s3"), folder / "s3.log"), _answers)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that S3's own tools read."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": _REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def gateway(self, prefix: str) -> Gateway:
        """Return the public address of a prefix."""
        return Gateway("http", "127.0.0.1", self.port, f"/{BUCKET}/{prefix}")

    def make_bucket(self) -> None:
        """Make the bucket, readable by everybody."""
        self._put(f"/{BUCKET}", "", b"")
        self._put(f"/{BUCKET}", "policy=", json.dumps(_PUBLIC).encode())

    def _put(self, path: str, query: str, body: bytes) -> None:
        """Send a request that is signed as AWS asks (Signature Version 4)."""
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        host, digest = f"127.0.0.1:{self.port}", hashlib.sha256(body).hexdigest()
        signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": time}
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = "\n".join(("PUT", path, query, lines, names, digest))
        scope = f"{time[:8]}/{_REGION}/s3/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{_SECRET}".encode()
        for part in (*scope.split("/"), "\n".join(("AWS4-HMAC-SHA256", time, scope, hashed))):
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"Credential={_KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        headers = {**signed, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}
        asked = urllib.request.Request(f"{self.url}{path}?{query}", body, headers, method="PUT")
        urllib.request.urlopen(asked, timeout=20).close()


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """Yield a server with the bucket; this process's environment has its credentials meanwhile."""
    with S3(folder) as s3:
        s3.make_bucket()
        before = dict(os.environ)
        os.environ.update(s3.environment)
        try:
            yield s3
        finally:
            os.environ.clear()
            os.environ.update(before)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except URLError as error:  # an HTTPError is an answer
        return hasattr(error, "code")
    except OSError:
        return False
    return True
