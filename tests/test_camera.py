import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from mofaface.camera import Camera, PosedCamera, extrinsics, project
from mofaface.rotation import rotation_matrix
from mofaface.similarity import Similarity

CAMERA = Camera()


def points(n=50, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = 100 * torch.randn(n, 3, dtype=torch.float64, generator=random)
    return x + torch.tensor([0.0, 0.0, 1000.0])


def to_camera(x_model, w, translation):
    R_camera_model, t = extrinsics(rotation_matrix(w), translation, CAMERA)
    return x_model @ R_camera_model.mT + t


def test_project_is_constant_along_a_ray():
    x = points()
    for factor in (0.5, 2.0, 10.0):
        torch.testing.assert_close(project(factor * x, CAMERA), project(x, CAMERA))


def test_project_puts_the_optical_axis_at_the_centre_of_the_picture():
    axis = torch.tensor([[0.0, 0.0, 500.0], [0.0, 0.0, 4000.0]])
    torch.testing.assert_close(project(axis, CAMERA), torch.full((2, 2), 120.0))


def test_project_keeps_straight_lines_straight():
    a, b = points(2)
    u = project(torch.stack((a, 0.3 * a + 0.7 * b, b)), CAMERA)
    d, e = u[1] - u[0], u[2] - u[0]
    assert abs(d[0] * e[1] - d[1] * e[0]) < 1e-9


def test_project_is_the_intrinsic_matrix():
    x = points()
    h = x @ CAMERA.K().mT
    torch.testing.assert_close(project(x, CAMERA), h[:, :2] / h[:, 2:])


def test_one_millimetre_is_one_pixel_at_the_zero_code():
    x = to_camera(
        torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.zeros(3), torch.zeros(3)
    )
    torch.testing.assert_close(
        project(x, CAMERA), torch.tensor([[120.0, 120.0], [121.0, 120.0], [120.0, 119.0]])
    )


def test_points_behind_the_camera_have_finite_places_and_exact_gradients():
    x = torch.tensor(
        [[5.0, -3.0, -200.0], [1.0, 2.0, 0.0], [3.0, 1.0, 99.0]], dtype=torch.float64, requires_grad=True
    )
    assert project(x, CAMERA).isfinite().all()
    assert gradcheck(lambda x: project(x, CAMERA), (x,))


def test_gradient_of_project_is_exact():
    assert gradcheck(lambda x: project(x, CAMERA), (points(5).requires_grad_(),))


def test_extrinsics_are_the_paper_s_phi_in_camera_axes():
    w, translation = torch.tensor([0.3, -0.5, 0.1]).double(), torch.tensor([5.0, 7.0, -30.0]).double()
    T = torch.tensor(Rotation.from_rotvec(w.numpy()).as_matrix())
    F = torch.diag(torch.tensor([1.0, -1.0, -1.0])).double()
    t = -T @ F @ (translation + torch.tensor([0.0, 0.0, 1000.0]))  # the camera's place in model space
    v = points(20, seed=1)
    torch.testing.assert_close(to_camera(v, w, translation), (v - t) @ T @ F)  # rows: (T⁻¹ (v − t))ᵀ


def test_extrinsics_turn_the_head_about_its_origin():
    w = torch.randn(10, 3, dtype=torch.float64)
    R, t = extrinsics(rotation_matrix(w), torch.zeros(10, 3).double(), CAMERA)
    torch.testing.assert_close(t, torch.tensor([[0.0, 0.0, 1000.0]]).double().expand(10, 3))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(10).double())


@pytest.mark.parametrize("field", ["focal", "size", "distance"])
def test_a_camera_without_extent_is_refused(field):
    with pytest.raises(ValueError, match="positive"):
        Camera(**{field: 0})


def test_a_moved_camera_sees_points_where_the_picture_moved_them():
    w = torch.tensor([0.2, -0.3, 0.1]).double()
    R, t = extrinsics(rotation_matrix(w), torch.zeros(3).double(), CAMERA)
    crop = PosedCamera(CAMERA.K(), R, t, (240, 240))
    photo_from_crop = Similarity(2.5, 0.3, 40.0, -7.0)
    photo = crop.moved(2.5, 0.3, (40.0, -7.0), (800, 600))
    x = points(20) - torch.tensor([0, 0, 1000.0]).double()
    truth = torch.tensor(photo_from_crop.apply(crop.project(x).numpy()))
    torch.testing.assert_close(photo.project(x), truth)
    torch.testing.assert_close(photo.R @ photo.R.mT, torch.eye(3).double())
    assert photo.K[0, 1] == 0 and photo.size == (800, 600)


def test_raised_camera_draws_everything_higher_by_that_many_pixels():
    x = torch.tensor([[[10.0, 20.0, 900.0], [0.0, 0.0, 1000.0]]])
    plain, raised = project(x, Camera()), project(x, Camera(raised=8.0))
    torch.testing.assert_close(plain - raised, torch.tensor([0.0, 8.0]).expand_as(plain))
    assert Camera(raised=8.0).K()[1, 2] == 112
