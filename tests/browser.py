"""The demo's page in a real browser: `python -m pytest tests/browser.py`.

Not one of the suite's modules, because it needs Chromium, from Debian's packages `chromium` and
`chromium-driver`, and fetches LiteRT.js from npm.
"""

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from ai_edge_litert.interpreter import Interpreter
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from keras_lgmsnet import demo
from tests.helpers.demos import contrast_model, write_export

SIZE = (48, 64)  # of what the network takes, height and width
PICTURE_SIZE = (150, 100)
LIMIT = 60  # seconds, on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    models = {"float32": contrast_model(SIZE, "red"), "int8": contrast_model(SIZE, "blue")}
    write_export(folder / "export", models, image_size=SIZE)
    demo.write_demo(folder / "export", folder / "demo")
    return folder


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with demo.serve(folder / "demo", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, address) -> webdriver.Chrome:
    driver.get_log("performance")  # which empties it
    driver.get(address)
    wait(driver, "Ready.")
    return driver


def wait(page: webdriver.Chrome, status: str) -> None:
    WebDriverWait(page, LIMIT, 0.05).until(
        lambda _: page.find_element(By.ID, "status").text == status
    )
    assert not page.find_element(By.ID, "error").is_displayed()


def choose(page: webdriver.Chrome, path: Path) -> None:
    page.find_element(By.ID, "file").send_keys(str(path))
    wait(page, "Done: timed over 10 runs.")


def mask(page: webdriver.Chrome) -> np.ndarray:
    """Return where the overlay is painted."""
    address = page.execute_script("return document.getElementById('overlay').toDataURL()")
    png = base64.b64decode(address.partition(",")[2])
    return np.asarray(PIL.Image.open(io.BytesIO(png)))[..., 3] > 0


def expected_mask(folder: Path, picture: np.ndarray, precision: str = "float32") -> np.ndarray:
    serve = Interpreter(str(folder / f"export/model_{precision}.tflite")).get_signature_runner()
    logits = serve(image=cv2.resize(picture, SIZE[::-1])[None])["logits"][0, ..., 0]
    return cv2.resize(1 / (1 + np.exp(-logits)), picture.shape[1::-1]) > 0.5


def draw_picture() -> np.ndarray:
    """Return a noisy picture with something red and something blue, neither in the middle."""
    noise = np.random.default_rng(0).integers(0, 60, (*PICTURE_SIZE, 3), dtype="uint8")
    rows, columns = np.indices(PICTURE_SIZE)
    noise[(rows - 40) ** 2 + (columns - 30) ** 2 < 500, 0] += 180
    noise[(rows - 120) ** 2 + (columns - 70) ** 2 < 300, 2] += 180
    return noise


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(draw_picture()).save(path)
    return path


def test_mask_is_that_of_python(page, folder, picture) -> None:
    choose(page, picture)
    expected = expected_mask(folder, draw_picture())
    assert 0.05 < expected.mean() < 0.2
    assert np.mean(mask(page) != expected) <= 5e-4
    share = f"lesion: {100 * mask(page).mean():.1f} % of the picture"
    assert share in page.find_element(By.ID, "classes").text
    for name in ("first", "median"):
        assert float(page.find_element(By.ID, name).text.removesuffix(" ms")) > 0


def test_threads_are_used(page) -> None:
    assert page.execute_script("return crossOriginIsolated")
    assert "threads" in page.find_element(By.ID, "network").text


def test_threshold_redraws_without_running(page, picture) -> None:
    choose(page, picture)
    before = mask(page)
    slider = page.find_element(By.ID, "threshold")
    slider.send_keys(*[Keys.ARROW_RIGHT] * 20)
    assert page.find_element(By.ID, "threshold-value").text == "0.70"
    after = mask(page)
    assert after.sum() < before.sum()
    assert before[after].all()
    assert page.find_element(By.ID, "status").text == "Done: timed over 10 runs."
    slider.send_keys(Keys.END)
    assert mask(page).sum() < after.sum()


def test_another_model_segments_the_same_picture(page, folder, picture) -> None:
    choose(page, picture)
    Select(page.find_element(By.ID, "model")).select_by_visible_text("int8")
    expected = expected_mask(folder, draw_picture(), "int8")
    WebDriverWait(page, LIMIT, 0.05).until(lambda _: np.mean(mask(page) != expected) <= 5e-4)
    wait(page, "Done: timed over 10 runs.")


def test_pictures_are_turned_upright(page, folder, tmp_path) -> None:
    upright = PIL.Image.fromarray(draw_picture())
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    path = tmp_path / "turned.png"
    upright.transpose(PIL.Image.Transpose.ROTATE_90).save(path, exif=exif)
    choose(page, path)
    assert np.mean(mask(page) != expected_mask(folder, draw_picture())) <= 5e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2500, 30)])
def test_pictures_of_any_shape(size, page, tmp_path) -> None:
    path = tmp_path / "red.png"
    PIL.Image.new("RGB", size, "red").save(path)
    choose(page, path)
    assert mask(page).any()
    assert max(mask(page).shape) == min(max(size), 2048)


def test_what_is_no_picture_is_told_in_a_sentence(page, picture, tmp_path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    PIL.Image.new("RGBA", (9, 9), (0, 0, 0, 100)).save(tmp_path / "glass.png")
    pierced = PIL.Image.new("RGBA", (2 * SIZE[1], 2 * SIZE[0]), "red")
    pierced.putpixel((1, 1), (0, 0, 0, 0))  # the last of the four that a pixel is made of
    pierced.save(tmp_path / "pierced.png")
    error = page.find_element(By.ID, "error")
    for name, words in {
        "glass.png": "transparent in places",
        "notes.png": "notes.png cannot be read as a picture",
        "pierced.png": "transparent in places",
    }.items():
        page.find_element(By.ID, "file").send_keys(str(tmp_path / name))
        WebDriverWait(page, LIMIT, 0.05).until(lambda _, words=words: words in error.text)
        assert not page.find_element(By.ID, "result").is_displayed()
    choose(page, picture)
    assert not error.is_displayed()
    assert page.find_element(By.ID, "result").is_displayed()


def test_nothing_goes_elsewhere(page, address, picture) -> None:
    choose(page, picture)
    requests = [
        message["params"]["request"]
        for entry in page.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert {request["url"].partition("?")[0] for request in requests} >= {address}
    for request in requests:
        assert request["method"] == "GET"
        assert request["url"].startswith((address, f"blob:{address}", "data:"))
    blocked = page.execute_async_script(
        "const [done] = arguments; fetch('https://example.org').then(() => done(''), "
        "(error) => done(String(error)))"
    )
    assert blocked
    refused = [entry["message"] for entry in page.get_log("browser") if "Polic" in entry["message"]]
    assert refused
    assert all("example.org" in message for message in refused)  # nothing of the page's own
