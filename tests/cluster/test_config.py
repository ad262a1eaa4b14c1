import pytest
from pydantic import ValidationError

from cluster.config import ClusterConfig
from tests.cluster.test_credentials import EXAMPLES
from trainables.errors import ConfigError
from tune_app.cli.search import demo_spec
from tune_app.spec.yaml_file import parse_spec

REFUSED = {
    "an unknown key": ({"worker": {}}, "Extra inputs are not permitted"),
    "an unknown key further down": ({"aws": {"open_port": 8265}}, "Extra inputs are not permitted"),
    "an image without a tag": ({"image": "registry.example.com/tune-app"}, "a tag that is not `latest`"),
    "an image that changes": ({"image": "localhost:5000/tune-app:latest"}, "a tag that is not `latest`"),
    "an image with a command in it": ({"image": "a:1; rm -rf /"}, "String should match pattern"),
    "more nodes at least than at most": ({"workers": {"min_nodes": 5, "max_nodes": 4}}, "but got 5 > 4"),
    "no workers at all": ({"workers": {"max_nodes": 0}}, "greater than or equal to 1"),
    "a claim that is mounted nowhere": ({"kubernetes": {"storage_claim": "runs"}}, "mounted at shared_folder"),
    "an export that is mounted nowhere": ({"nfs": "10.0.0.2:/runs"}, "mounted at shared_folder"),
    "a folder with a way up": ({"shared_folder": "/mnt/../etc"}, "String should match pattern"),
    "a folder with a space": ({"shared_folder": "/mnt/a b"}, "String should match pattern"),
    "a name with upper case": ({"kubernetes": {"token_secret": "Token"}}, "String should match pattern"),
    "a namespace with a line break": ({"kubernetes": {"namespace": "a\n"}}, "String should match pattern"),
    "digits of another script": ({"aws": {"region": "us-east-\u0661"}}, "String should match pattern"),
    "a user name with a space": ({"gcp": {"ssh_user": "a b"}}, "String should match pattern"),
    "a variable with its value": ({"env": ["WANDB_API_KEY=hunter2"]}, "env.0 holds what looks like a value"),
    "dependencies of another kind": ({"dependencies": "conda"}, "'image' or 'uv'"),
    "a head that is not there": ({"head": {"cpus": 0}}, "greater than or equal to 1"),
}


@pytest.mark.parametrize(("section", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_in_one_line(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ClusterConfig.model_validate(section)
    said = caught.value.errors()[0]["msg"]
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("place", ["env", "image", "nfs", "label"])
def test_a_credential_is_refused_and_not_repeated(kind: str, place: str) -> None:
    leak = EXAMPLES[kind]
    section: dict[str, object] = {
        "env": {"env": [leak]},
        "image": {"image": leak},
        "nfs": {"nfs": leak},
        "label": {"kubernetes": {"worker_selector": {leak: "x"}}},
    }[place]
    with pytest.raises(ValidationError) as caught:
        ClusterConfig.model_validate(section)
    problem = caught.value.errors()[0]
    assert problem["type"] == "credential"
    assert kind in problem["msg"]
    assert leak not in str(caught.value)
    assert leak not in problem["msg"]


def test_a_spec_with_a_value_in_place_of_a_name_is_refused_without_repeating_it() -> None:
    text = demo_spec() + "cluster: {env: [A=hunter2]}\n"
    with pytest.raises(
        ConfigError, match=r"demo: cluster: env\.0 holds what looks like a value: write a name"
    ) as caught:
        parse_spec(text, source="demo")
    assert "hunter2" not in str(caught.value)


def test_an_empty_section_is_complete() -> None:
    config = ClusterConfig.model_validate({})
    assert config.dependencies == "image"
    assert config.workers.spot
    assert config.workers.min_nodes == 0


def test_a_section_survives_its_json() -> None:
    config = ClusterConfig.model_validate(
        {"env": ["A_1"], "kubernetes": {"redis": {"address": "redis:6379"}, "worker_selector": {"a/b": "c"}}}
    )
    assert ClusterConfig.model_validate(config.model_dump(mode="json")) == config
    assert ClusterConfig.model_validate_json(config.model_dump_json()) == config


def test_no_field_opens_a_port_or_names_an_address_range() -> None:
    text = str(ClusterConfig.model_json_schema()).lower()
    assert not [word for word in ("cidr", "ingress", "0.0.0.0", "public") if word in text]


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ClusterConfig().workers.spot = False  # type: ignore[misc]
