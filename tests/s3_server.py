"""A real S3 server on this machine, as MinIO or Ceph are: moto, which speaks S3 over HTTP."""

import logging
import os
from urllib.request import Request, urlopen

import fsspec
import pytest

from rsvl_jax import storage

_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "eu-west-2",
    # What is on the machine of a developer shall not reach the tests.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_OTHERS = ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN")


@pytest.fixture(scope="module")
def s3_endpoint():
    """The URL of a server with an empty bucket `bucket`; the environment leads there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line a request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name in _OTHERS:
            patch.delenv(name, raising=False)
        for name, value in _VARIABLES.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL_S3", url)
        _forget_clients()
        files = fsspec.filesystem("s3")
        files.call_s3(
            "create_bucket",
            Bucket="bucket",
            CreateBucketConfiguration={"LocationConstraint": "eu-west-2"},
        )
        yield url
    _forget_clients()
    urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()  # else buckets outlive it
    server.stop()


def _forget_clients():
    """Clients are kept for the life of a process, with the server of their first use."""
    from etils.epath import backend
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    backend._FileSystemSpecBackend._get_filesystem.cache_clear()
    storage._check_bucket.cache_clear()
    storage._set_up_clients(fsspec.config.conf)
