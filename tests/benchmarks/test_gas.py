"""What anchors and commits cost in gas, to the unit: through our register, and through one that stores a history.

Gas is exact: who changes a contract, the calldata or the compiler sees it here, and decides.
"""

from collections.abc import Iterator

import pytest

from receipts.anchor import commit_data
from receipts.checkpoint import Checkpoint
from receipts.commits import commit_data as receipt_data
from receipts.committers.erc7053 import encode_commit
from receipts.models import Receipt
from tests.contracts.bench import ADA, REGISTER, Bench, Deployed, gas, running_bench

pytestmark = pytest.mark.chain
STORED_REGISTER = "tests/benchmarks/StoredRegister.json"
LOG_NID = "bafkreic6rsmqeid27lvxcicdbrmfurc7ehussmqidvslzgpybzeslpfqai"
JOB_NID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
RECEIPT_NID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
# first commit of an asset, every later one
ANCHOR = (30_566, 30_566)
STORED_ANCHOR = (75_020, 57_920)
RECEIPT = (29_600, 29_600)
STORED_RECEIPT = (74_054, 56_954)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with running_bench() as running:
        yield running


@pytest.fixture
def ours(bench: Bench) -> Iterator[Deployed]:
    with bench.undone():
        yield bench.deploy(REGISTER)


@pytest.fixture
def stored(bench: Bench) -> Iterator[Deployed]:
    with bench.undone():
        yield bench.deploy(STORED_REGISTER)


def costs(register: Deployed, asset: str, told: str) -> tuple[int, int]:
    """Commit twice on an asset by the house's own calldata, and give what each took."""
    data = "0x" + encode_commit(asset, told).hex()
    first, later = (gas(register.bench.send(ADA, register.address, data, register.artifact)) for _ in range(2))
    return first, later


def anchor_data() -> str:
    """What the anchor of a log of 123,456 leaves says."""
    return commit_data(Checkpoint("log.example/ada", 123_456, bytes(range(32))), LOG_NID)


def commit_of_a_receipt() -> str:
    """What a job's commonest receipt says under COMMIT_POLICY=each."""
    return receipt_data(Receipt(nid=RECEIPT_NID, event_type="JobCompleted", origin="hosted"), LOG_NID)


def test_an_anchor_through_our_register(ours: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    found = costs(ours, LOG_NID, anchor_data())
    _tell(capsys, "anchor, our register", found)
    assert found == ANCHOR
    assert max(found) <= 35_000


def test_an_anchor_through_a_register_with_a_history(stored: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    found = costs(stored, LOG_NID, anchor_data())
    _tell(capsys, "anchor, stored history", found)
    assert found == STORED_ANCHOR
    assert found[0] <= 90_000
    assert found[1] <= 70_000


def test_a_receipts_commit(ours: Deployed, stored: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    found, there = costs(ours, JOB_NID, commit_of_a_receipt()), costs(stored, JOB_NID, commit_of_a_receipt())
    _tell(capsys, "receipt, our register", found)
    _tell(capsys, "receipt, stored history", there)
    assert (found, there) == (RECEIPT, STORED_RECEIPT)


def _tell(capsys: pytest.CaptureFixture[str], what: str, found: tuple[int, int]) -> None:
    with capsys.disabled():
        print(f"\n{what}: {found[0]:,} gas first, {found[1]:,} later")
