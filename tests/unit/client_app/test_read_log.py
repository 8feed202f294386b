"""``fedfm-site read-log``: a SuperNode's log in the words and codes of the doctor."""

from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from client_app.cli import app
from client_app.commands.log_reading import CODES
from fedfm.flower_logs import SIGNS, Kind
from scripts.engine.failures import OF_SUPERNODES

EXPIRED = (
    "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired: OK\nFor more information, visit: <...>\n"
)


def test_both_sides_have_a_code_for_every_cause() -> None:
    kinds = set(get_args(Kind))
    assert {sign.kind for sign in SIGNS} == set(CODES) == set(OF_SUPERNODES) == kinds


@pytest.mark.parametrize("piped", [True, False])
def test_a_log_is_told_with_code_and_remedy(tmp_path: Path, piped: bool) -> None:
    (tmp_path / "log").write_text(EXPIRED)
    arguments = ["read-log"] if piped else ["read-log", str(tmp_path / "log")]
    told = CliRunner().invoke(app, arguments, input=EXPIRED if piped else None)
    assert told.exit_code == 2
    assert "SITE-E120" in told.output
    assert "NTP" in told.output


def test_a_log_without_a_fault_and_one_that_is_not_there() -> None:
    fine = CliRunner().invoke(app, ["read-log"], input="Starting Flower SuperNode\nSuperNode ID: 5\n")
    assert fine.exit_code == 0
    absent = CliRunner().invoke(app, ["read-log", "nowhere.log"])
    assert absent.exit_code == 2
    assert "SITE-E149" in absent.output
