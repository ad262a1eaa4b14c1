import pytest

from cluster.credentials import FORMS, credential_in, strings_in
from cluster.image import PYTHON
from tests.cluster.factories import AMI, GCP_IMAGE, IMAGE

# Put together here, so that no scanner takes this file for a leak.
EXAMPLES = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an AWS access key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "a GitHub token": "ghp_" + "a1" * 18,
    "a Hugging Face token": "hf_" + "aB3" * 12,
    "an API key": "sk-" + "proj-" + "a1" * 16,
    "a Slack token": "xoxb-" + "1234567890-abc",
    "a Google API key": "AIza" + "x" * 35,
    "a web token": "eyJ" + "hbGciOiJI" + ".eyJ" + "zdWIiOiIx" + ".sig",
    "a W&B key": "0123456789abcdef" * 2 + "01234567",
    "a password in an address": "s3://user:" + "pass@bucket",
}


@pytest.mark.parametrize("kind", FORMS)
def test_each_kind_is_found_inside_other_text(kind: str) -> None:
    assert credential_in(f"storage: {EXAMPLES[kind]}\n") == kind


@pytest.mark.parametrize("text", ["%s", "key: %s", "WANDB_API_KEY=%s", "'%s'", "[a, %s]", "https://api:%s@host/runs"])
def test_a_key_of_hex_digits_is_found_where_no_commit_is(text: str) -> None:
    assert credential_in(text % EXAMPLES["a W&B key"])


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:pa/" + "ss@host/runs",
        "postgresql://me:pa@" + "ss@host/runs",
        "postgresql://host/runs?user=me&password=" + "word",
        "http://head:8265/?token=" + "word",
        "mysql://me:12" + "34@host/runs",
    ],
)
def test_a_password_is_found_wherever_an_address_may_hold_it(address: str) -> None:
    assert credential_in(f"uri: '{address}'") == "a password in an address"


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/runs@2",
        "https://host/find?author=me&tokens=5",
        IMAGE,
        AMI,
        GCP_IMAGE,
        PYTHON,
        "0123456789abcdef" * 4,
        "s3://bucket/runs@2",
        "redis:6379",
        "tune-app-token",
        "arn:aws:iam::123456789012:instance-profile/worker",
        "python@sha256:" + "ab" * 32,
        "registry.example.com/tune-app:" + "ab" * 20,
        "checkpoint: /home/me/.cache/huggingface/hub/models--timm--resnet18/snapshots/" + "ab" * 20 + "/model.pt",
    ],
)
def test_names_and_digests_are_no_credentials(text: str) -> None:
    assert credential_in(text) is None


def test_strings_are_found_at_their_places() -> None:
    found = set(strings_in({"a": ["x", {"b": "y"}], "c": 3, "d": None}))
    assert {("a.0", "x"), ("a.1.b", "y")} <= found
    assert ("", "a") in found
    assert all(isinstance(text, str) for _, text in found)
