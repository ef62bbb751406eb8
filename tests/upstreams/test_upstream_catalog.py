"""The catalogue of short names."""

import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from ser_features.upstreams.catalog import CATALOG, NATIVE, SPECTRAL
from ser_features.upstreams.families import FAMILIES
from ser_features.upstreams.request import parse_request
from ser_features.upstreams.spectral import SPECTRAL as SPECTRAL_TABLE
from ser_features.upstreams.weights import build_config

ENCODERS = [entry for entry in CATALOG.values() if entry.family not in (SPECTRAL, *NATIVE)]


def test_every_entry_is_of_a_known_family():
    assert {entry.family for entry in ENCODERS} == set(FAMILIES)
    spectral = {name for name, entry in CATALOG.items() if entry.family == SPECTRAL}
    assert spectral == set(SPECTRAL_TABLE)


def test_hub_ids_are_complete_and_unique():
    ids = [entry.hub_id for entry in ENCODERS]
    assert len(set(ids)) == len(ids)
    assert all(hub_id and hub_id.count("/") == 1 for hub_id in ids)


@pytest.mark.parametrize("entry", ENCODERS, ids=lambda entry: entry.name)
def test_architectures_use_real_fields(entry):
    family = FAMILIES[entry.family]
    known = getattr(transformers, family.config_class)().to_dict()
    assert set(entry.config) <= set(known)
    config = build_config(family, entry.config, entry.name)
    width, heads = config.hidden_size, config.num_attention_heads
    assert width % heads == 0


@pytest.mark.parametrize("name", list(CATALOG))
def test_names_parse_as_themselves(name):
    assert parse_request(name).target == name


def test_naming_things_needs_no_torch():
    code = (
        "import sys, ser_features.upstreams.catalog, ser_features.upstreams.request, "
        "ser_features.upstreams.families, ser_features.upstreams.protocol, "
        "ser_features.upstreams.source; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
