"""Configs of runs: whatever a JSON file or a command line says, a config comes out that is written
and read again as the same, or one sentence."""

import json

from hypothesis import given
from hypothesis import strategies as st

from speechssl.config.json import from_json, override, to_json
from speechssl.data.distortion import full
from speechssl.model import config as model_config
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.pretrain import PretrainConfig
from speechssl.training.recipe import load_recipe
from tests.fuzz.damage import JSON_VALUES, damaged, odd_json

CONFIGS = [
    PretrainConfig(distortion=full()),
    PretrainConfig(model=model_config.base()),
    FinetuneConfig(),
]


def dotted(data, path=""):
    """The dotted names of a config's settings and rooms."""
    for name, value in data.items():
        yield f"{path}{name}"
        if isinstance(value, dict):
            yield from dotted(value, f"{path}{name}.")


def is_made_or_refused(make) -> None:
    said = None
    try:
        made = make()
    except ValueError as error:
        said = str(error)
    if said is None:
        again = from_json(type(made), json.loads(json.dumps(to_json(made), allow_nan=False)))
        assert again == made
    else:
        assert "\n" not in said
        assert said.endswith((".", "?"))


TREES = [(type(config), to_json(config)) for config in CONFIGS]


@given(st.sampled_from(TREES).flatmap(lambda t: st.tuples(st.just(t[0]), odd_json(t[1]))))
def test_odd_json_is_a_config_or_a_sentence(given_data):
    kind, data = given_data
    is_made_or_refused(lambda: from_json(kind, data))


SETTINGS = [
    st.tuples(
        st.just(config),
        st.sampled_from(list(dotted(tree))) | st.text(max_size=12),
        JSON_VALUES.map(json.dumps) | st.text(max_size=12) | st.sampled_from(["9" * 5000]),
    )
    for config, (_, tree) in zip(CONFIGS, TREES, strict=True)
]


@given(st.one_of(SETTINGS))
def test_any_override_is_a_config_or_a_sentence(setting):
    config, name, value = setting
    is_made_or_refused(lambda: override(config, [(name, value)]))


@given(data=damaged(json.dumps(TREES[0][1], indent=2).encode()))
def test_a_damaged_config_json_is_a_config_or_a_sentence(data, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    is_made_or_refused(lambda: load_recipe(str(path), "pretrain", "tiny", PretrainConfig))
