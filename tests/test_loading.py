"""Where an option is left to ``auto``, the environment has the say."""

from __future__ import annotations

import pytest

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.inference.loading import Options, load_network, with_environment
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED

VARIABLES = {
    environment.ENGINE: "torch",
    environment.DEVICE: "cuda",
    environment.PRECISION: "bf16",
}


def test_auto_takes_what_the_environment_asks_for() -> None:
    options = with_environment(Options(threads=3), VARIABLES)
    assert options == Options(engine="torch", device="cuda", precision="bf16", threads=3)


def test_what_the_user_chose_stays() -> None:
    chosen = Options(engine="openvino", device="cpu", precision="f32")
    assert with_environment(chosen, VARIABLES) == chosen


@pytest.mark.parametrize("environ", [{}, dict.fromkeys(VARIABLES, " ")])
def test_an_environment_that_says_nothing_changes_nothing(environ: dict[str, str]) -> None:
    assert with_environment(Options(), environ) == Options()


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_wrong_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "abacus")
    (folder,) = (BUNDLED / "locator").glob("nnUNetTrainer*")
    with pytest.raises(UsageError, match=f"not 'abacus'. Correct -[a-z]+ or {variable}"):
        load_network(read_model_folder(folder), Options())


def test_an_engine_of_the_environment_chooses_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO runs on the CPU; a GPU that auto would take must not get in its way."""
    from sct_rootlets_task.inference import loading

    def fail(_wanted: str) -> str:
        raise AssertionError("no GPU is looked for")

    monkeypatch.setattr(loading, "choose_device", fail)
    monkeypatch.setattr(loading, "_a_gpu_may_be_there", lambda: True)
    monkeypatch.setenv(environment.ENGINE, "openvino")
    (folder,) = (BUNDLED / "locator").glob("nnUNetTrainer*")
    network = load_network(read_model_folder(folder), Options())
    assert (network.engine, network.device) == ("openvino", "cpu")
