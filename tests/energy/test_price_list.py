from dataclasses import replace
from pathlib import Path

import pytest

from picojoule.energy import hardware, hardware_names
from picojoule.errors import BadInput

OWN = """
name = "own"
title = "Own"
scope = "synaptic operations only"
covers = "Synaptic operations."
node = "28 nm"
voltage = "not stated"
basis = "measured"
mark = "measured"
source = "the bench"

[bits]
weight = 8
state = 16
activation = 8
event = 1
address = 16

[prices]
mac = { value = 2, unit = "pJ per MAC" }
ac = { value = 1, low = 0.5, high = 2, unit = "pJ per AC" }
"""


def _read(tmp_path, text: str):
    file = tmp_path / "own.toml"
    file.write_text(text)
    return hardware(str(file))


def test_a_file_by_its_path(tmp_path, monkeypatch):
    own = _read(tmp_path, OWN)
    assert (own.name, own.basis, own.bits) == ("own", "measured", (8, 8, 16, 8, 1, 16))
    assert own.prices == "2 pJ per MAC, 1 (0.5 to 2) pJ per AC"
    (tmp_path / "own.toml").write_text(OWN.replace("value = 2", "value = 3"))
    monkeypatch.chdir(tmp_path)
    assert hardware("own.toml").constants["mac"].value == 3, "a file is read anew"
    (tmp_path / "list").write_text(OWN)
    assert hardware("./list").name == "own"


@pytest.mark.parametrize(
    "unit, pj", [("aJ", 2e-6), ("fJ", 2e-3), ("pJ", 2), ("nJ", 2e3), ("uJ", 2e6), ("µJ", 2e6), ("mJ", 2e9), ("J", 2e12)]
)
def test_units_are_converted(unit, pj, tmp_path):
    own = _read(tmp_path, OWN.replace('value = 2, unit = "pJ', f'value = 2, unit = "{unit}'))
    assert own.constants["mac"].value == pytest.approx(pj) and own.constants["mac"].unit == "pJ per MAC"


FLAT = OWN + '[memory]\nmodel = "flat"\nprice = { value = 1, unit = "pJ per 64 bits" }\n'
LEVELS = OWN + (
    '[memory]\nmodel = "levels"\nlevels = [{ name = "a", bytes = 8, value = 1, unit = "pJ per bit" },'
    ' { name = "b", value = 1, unit = "pJ per bit" }]\n'
)
MAC = 'mac = { value = 2, unit = "pJ per MAC" }'


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            OWN.replace(', unit = "pJ per MAC"', ""),
            "own.toml: the price 'mac' has no unit; write unit = \"pJ per MAC\"",
        ),
        (OWN.replace("pJ per MAC", "pJ"), "the price 'mac' has the unknown unit 'pJ'; write \"pJ per MAC\""),
        (OWN.replace("pJ per MAC", "pJ per AC"), "unknown unit 'pJ per AC'"),
        (OWN.replace("pJ per MAC", "kJ per MAC"), "unknown unit 'kJ per MAC'; .*aJ, fJ, pJ, nJ"),
        (OWN.replace('"pJ per MAC"', "3"), "unknown unit 3"),
        (OWN.replace(MAC, "mac = 2"), 'expected mac = . value = ..., unit = "pJ per MAC" ., got 2'),
        (OWN.replace("value = 2", "value = 'x'"), "expected a number as value of 'mac', got 'x'"),
        (OWN.replace("value = 2", "value = true"), "expected a number as value of 'mac', got True"),
        (OWN.replace("value = 2", "value = -2"), "expected 0 <= low <= value <= high for 'mac', got -2"),
        (OWN.replace("value = 2", "value = nan"), "expected 0 <= low <= value <= high for 'mac'"),
        (OWN.replace("value = 2", "value = inf"), "expected 0 <= low <= value <= high for 'mac'"),
        (OWN.replace("low = 0.5", "low = 1.5"), "expected 0 <= low <= value <= high for 'ac', got 1.5, 1, 2"),
        (OWN.replace("low =", "lo ="), "unknown key 'lo' in ac; did you mean 'low'"),
        (OWN.replace("mac =", "macs ="), "unknown key 'macs' in .prices.; did you mean 'mac'"),
        (OWN.replace("scope =", "scop ="), "unknown key 'scop' in the price list; did you mean 'scope'"),
        (OWN.replace('scope = "synaptic operations only"', ""), "expected a text for 'scope', got None"),
        (OWN.replace('source = "the bench"', 'source = ""'), "expected a text for 'source', got ''"),
        (OWN[: OWN.index("[prices]")], "no price; write at least .prices. ac"),
        (OWN.replace("state = 16", ""), "expected .bits. state to be a whole number, got None"),
        (OWN.replace("state = 16", "state = 1.5"), "expected .bits. state to be a whole number, got 1.5"),
        (OWN.replace("name =", "skips_zero_values = 1\nname ="), "expected skips_zero_values = true or false, got 1"),
        (OWN.replace("name =", "hops = -1\nname ="), "expected hops to be a number of at least 0, got -1"),
        (OWN.replace("name =", "bits = 3\nname =").replace("[bits]", "[traffic.ac]"), "expected .bits. to be a table"),
        (OWN.replace('"own"', '"truenorth"'), "the name 'truenorth' belongs to a price list of picojoule"),
        (OWN.replace("name =", 'extends = "loihy"\nname ='), "in extends of own.toml: 'loihy'; did you mean 'loihi'"),
        (OWN.replace("name =", "extends = 3\nname ="), "in extends of own.toml: '3'"),
        (OWN.replace("name =", 'extends = "own.toml"\nname ='), "own.toml: a price list cannot extend itself"),
        (
            OWN.replace("name =", 'extends = "none.toml"\nname ='),
            "cannot read the price list .*none.toml: No such file",
        ),
        (OWN + "= 3", "own.toml is not valid TOML"),
        (FLAT + "[traffic.ac]\nweight = 8\n", "unknown key 'weight' in .traffic. ac"),
        (FLAT.replace("flat", "flatt"), "unknown model of the memory in own.toml: 'flatt'; did you mean 'flat'"),
        (FLAT.replace("64 bits", "word"), 'memory. has the unknown unit .*; write "pJ per 64 bits"'),
        (FLAT.replace("64 bits", "0 bits"), "unknown unit 'pJ per 0 bits'"),
        (
            FLAT.replace('model = "flat"', 'model = "flat"\nsized_by = "size"'),
            "unknown sized_by of the memory in own.toml",
        ),
        (FLAT.replace("\nprice", "\nprize"), "unknown key 'prize' in .memory.; did you mean 'price'"),
        (LEVELS.replace("bytes = 8, ", ""), "must grow in bytes and end with one without"),
        (LEVELS.replace('"b", ', '"b", bytes = 9, '), "must grow in bytes and end with one without"),
        (LEVELS.replace('"b"', '"a"'), "two levels are called 'a'"),
        (LEVELS.replace('name = "a", ', ""), "expected levels of the memory as a list of"),
        (LEVELS.replace('"levels"\n', '"curve"\n'), "needs at least two levels, and beyond"),
        (OWN + "[traffic]\nacs = {}\n", "unknown key 'acs' in .traffic.; did you mean 'ac'"),
        (OWN + "[traffic]\nac = { weight_read = 1 }\n", "did you mean 'weight_reads'"),
        (OWN + "[traffic]\nac = { weight_reads = -1 }\n", "expected weight_reads of ac to be a number of at least 0"),
    ],
)
def test_a_bad_price_list_is_one_sentence(text, sentence, tmp_path):
    with pytest.raises(BadInput, match=sentence) as error:
        _read(tmp_path, text)
    assert "\n" not in str(error.value).removesuffix("\n")


def test_prices_per_bit_need_widths(tmp_path):
    start, end = OWN.index("[bits]"), OWN.index("[prices]")
    without = OWN[:start] + OWN[end:]
    assert _read(tmp_path, without).bits is None
    for more in ('routing = { value = 1, unit = "pJ per bit per hop" }\n', FLAT.removeprefix(OWN)):
        with pytest.raises(BadInput, match=r"needs widths; write \[bits\] with weight, bias, .* and address"):
            _read(tmp_path, without + more)


def test_no_such_file(tmp_path):
    with pytest.raises(BadInput, match="cannot read the price list .*nothing.toml: No such file"):
        hardware(tmp_path / "nothing.toml")
    with pytest.raises(BadInput, match="cannot read the price list .*: Is a directory"):
        hardware(tmp_path)


@pytest.mark.parametrize("name", hardware_names())
def test_every_shipped_list_can_be_extended(name, tmp_path):
    text = f'extends = "{name}"\nname = "own"\ntitle = "Own"\nscope = "own"\ncovers = "own"\n'
    own, parent = _read(tmp_path, text), hardware(name)
    assert own == replace(parent, name="own", title="Own", scope="own", covers="own")
    with pytest.raises(BadInput, match="expected a text for 'covers', got None"):
        _read(tmp_path, text.replace('covers = "own"\n', ""))


@pytest.mark.parametrize("name", hardware_names())
def test_the_documentation_lists_it(name):
    text = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text(encoding="utf-8")
    h = hardware(name)
    assert f"| `{name}` | {h.scope} | {h.basis} | {h.source} | {h.mark} |" in text
