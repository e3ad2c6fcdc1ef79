import pytest

from feat2img.evaluation.curves import MAX_POINTS, training_curves


def test_no_logs_no_curves(tmp_path):
    assert training_curves(tmp_path) == {} == training_curves("user/pipeline-on-the-hub")


def test_curves_are_the_logged_scalars_of_all_runs_thinned(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for start in (0, 1000):  # a run and its continuation
        with SummaryWriter(tmp_path / "logs" / f"run{start}") as writer:
            for step in range(start, start + 1000, 2):
                writer.add_scalar("loss", step / 10, step)
    with SummaryWriter(tmp_path / "logs") as writer:
        writer.add_scalar("val/psnr", 20.5, 3)
    curves = training_curves(tmp_path)
    assert curves["val/psnr"] == [(3, 20.5)]
    loss = curves["loss"]
    assert len(loss) == MAX_POINTS and loss[0] == (0, 0.0) and loss[-1] == (1998, pytest.approx(199.8))
    assert all(value == pytest.approx(step / 10) for step, value in loss)
    assert [step for step, _ in loss] == sorted({step for step, _ in loss})
