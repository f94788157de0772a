import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_cbam.data.image_files import (
    NOT_AN_IMAGE,
    check_headers,
    decoding,
    flatten,
    images_among,
    open_image,
    resize_arrays,
    square,
    why_unreadable,
)

SIZE = 32
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")


def solid(color, size=(64, 64), mode="RGB"):
    return Image.new(mode, size, color)


def save(path, image, file_format="PNG", **options):
    image.save(path, format=file_format, **options)
    return str(path)


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels_of(path, size=SIZE):
    return square(open_image(path, draft_size=2 * size), size)


def transparent(mode, color, alpha):
    """The left half opaque, the right half as transparent as `alpha` says."""
    image = solid(color, mode=mode)
    mask = Image.new("L", (64, 64), 255)
    mask.paste(alpha, (32, 0, 64, 64))
    image.putalpha(mask)
    return image


def palette():
    image = Image.new("P", (64, 64), 0)
    image.paste(1, (32, 0, 64, 64))
    image.putpalette([*RED, *BLUE])
    return image


def sixteen_bits(value):
    return Image.fromarray(np.full((64, 64), value, "uint16"))


@pytest.mark.parametrize(
    ("image", "file_format", "options", "left", "right"),
    [
        (solid(RED), "PNG", {}, RED, RED),
        (solid(99, mode="L"), "PNG", {}, (99,) * 3, (99,) * 3),
        (solid(1, mode="1"), "PNG", {}, WHITE, WHITE),
        (solid(0, mode="1"), "BMP", {}, BLACK, BLACK),
        (palette(), "PNG", {}, RED, BLUE),
        (palette(), "BMP", {}, RED, BLUE),
        (palette(), "TIFF", {}, RED, BLUE),
        (palette(), "PNG", {"transparency": 1}, RED, WHITE),
        (palette(), "PNG", {"transparency": b"\xff\x80"}, RED, (142, 142, 227)),
        (palette(), "GIF", {"transparency": 1}, RED, WHITE),
        (transparent("RGB", RED, 0), "PNG", {}, RED, WHITE),
        (transparent("RGB", RED, 128), "PNG", {}, RED, (227, 142, 142)),
        (transparent("RGB", RED, 0), "WEBP", {"lossless": True}, RED, WHITE),
        (transparent("RGB", RED, 0), "TIFF", {}, RED, WHITE),
        (transparent("L", 99, 0), "PNG", {}, (99,) * 3, WHITE),
        (solid(RED), "PNG", {"transparency": RED}, WHITE, WHITE),
        (solid(99, mode="L"), "PNG", {"transparency": 99}, WHITE, WHITE),
        (solid((0, 200, 200, 0), mode="CMYK"), "JPEG", {"quality": 95}, (255, 55, 55), None),
        (solid((0, 200, 200, 0), mode="CMYK"), "TIFF", {}, (255, 55, 55), None),
        (sixteen_bits(51400), "PNG", {}, (200,) * 3, None),
        (sixteen_bits(255), "PNG", {}, (1,) * 3, None),
        (sixteen_bits(65535), "PNG", {}, WHITE, None),
        (sixteen_bits(51400), "TIFF", {}, (200,) * 3, None),
    ],
)
def test_modes(tmp_path, image, file_format, options, left, right):
    pixels = pixels_of(save(tmp_path / "a", image, file_format, **options))
    tolerance = 3 if file_format == "JPEG" else 1
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[:, :15] - np.array(left), 0, atol=tolerance)
    np.testing.assert_allclose(pixels[:, 17:] - np.array(right or left), 0, atol=tolerance)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("I", (4, 4), 51400), 200),
        (Image.new("I", (4, 4), -5), 0),
        (Image.new("I", (4, 4), 10**6), 255),
        (Image.new("I;16", (4, 4), 257), 1),
        (Image.new("I;16B", (4, 4), 51400), 200),
        (Image.new("1", (4, 4), 1), 255),
    ],
)
def test_flatten_of_modes_without_a_file(image, expected):
    assert flatten(image).mode == "L"
    assert (np.asarray(flatten(image)) == expected).all()


def test_sixteen_bit_image_with_a_transparent_level(tmp_path):
    content = encoded(sixteen_bits(7000), "PNG")
    # Pillow does not write this chunk, which goes before the pixels.
    chunk = b"tRNS" + struct.pack(">H", 7000)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    start = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:start] + chunk + content[start:])
    assert (pixels_of(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF"])
def test_first_frame(tmp_path, file_format):
    frames = {"save_all": True, "append_images": [solid(BLUE), solid(GREEN)]}
    path = save(tmp_path / "a", solid(RED), file_format, **frames)
    np.testing.assert_allclose(pixels_of(path)[5, 5], RED, atol=3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(tmp_path, orientation, file_format):
    image = Image.new("RGB", (64, 64))
    for box, color in {(0, 0): RED, (32, 0): GREEN, (0, 32): BLUE, (32, 32): WHITE}.items():
        image.paste(color, (*box, box[0] + 32, box[1] + 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    options = options.get(file_format, {})
    path = save(tmp_path / "a", image, file_format, exif=exif, **options)
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened).resize((SIZE, SIZE), Image.Resampling.BOX)
    np.testing.assert_allclose(pixels_of(path)[8::16, 8::16], np.asarray(expected)[8::16, 8::16])


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0xyz"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_damaged_exif_leaves_the_image(tmp_path, exif, file_format):
    path = save(tmp_path / "a", solid(RED), file_format, exif=exif)
    with decoding():
        np.testing.assert_allclose(pixels_of(path)[5, 5], RED, atol=3)


@pytest.mark.parametrize("name", ["a.jfif", "a.jpg", "a.png", "a.gif", "a", "a.txt", ".JPG"])
@pytest.mark.parametrize("file_format", FORMATS)
def test_content_decides_on_the_format(tmp_path, file_format, name):
    path = save(tmp_path / name, solid(RED), file_format)
    np.testing.assert_allclose(pixels_of(path)[5, 5], RED, atol=3)
    assert images_among([path]) == ([path], [])


def truncated(file_format, part):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
    content = encoded(Image.fromarray(pixels), file_format)
    return content[: int(len(content) * part)]


FLOATS = encoded(Image.new("F", (9, 9), 0.5), "TIFF")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", NOT_AN_IMAGE),
        ("a.JPG", b"hello\n", NOT_AN_IMAGE),
        ("a.heic", b"\0\0\0\x18ftypheic", NOT_AN_IMAGE),
        ("a.gif", encoded(solid(RED), "PPM"), NOT_AN_IMAGE),
        ("a.bmp", encoded(solid(RED), "ICO"), NOT_AN_IMAGE),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", NOT_AN_IMAGE),
        ("a.png", truncated("PNG", 0.001), NOT_AN_IMAGE),
        ("a.tif", FLOATS, "pixels are floats, of which the range is not known"),
        ("a", FLOATS, "pixels are floats"),
        ("a.txt", b"hello\n", None),
        ("a.txt", b"BMW and others\n", None),
        ("a.txt", b"", None),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", None),
        ("a.svg", b"<svg/>", None),
    ],
)
def test_images_among(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    images, lines = images_among([str(tmp_path / name)])
    assert images == []
    assert len(lines) == (reason is not None)
    if reason is not None:
        assert lines[0].startswith(f"{tmp_path / name}: ")
        assert reason in lines[0]
        assert check_headers([str(tmp_path / name)]) == [lines[0].split(": ", 1)[1]]


@pytest.mark.parametrize("file_format", FORMATS)
def test_truncated_image(tmp_path, file_format):
    (tmp_path / "a").write_bytes(truncated(file_format, 0.5))
    with pytest.raises(Exception, match=r"truncated|cannot|could not|decod") as error:
        open_image(tmp_path / "a")
    assert why_unreadable(error.value).isprintable()


@pytest.mark.parametrize("side", [60, 100])
def test_decompression_bomb(tmp_path, monkeypatch, side):
    # Pillow warns of the first size and refuses the second.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    path = save(tmp_path / "bomb", solid(RED, (side, side)))
    (line,) = images_among([path])[1]
    assert line.startswith(f"{path}: Image size ({side**2} pixels) exceeds")


def test_declared_size_is_not_allocated(tmp_path):
    content = encoded(solid(RED), "PNG")
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(content[:16] + header + content[29:])
    assert len(images_among([str(tmp_path / "bomb.png")])[1]) == 1


def test_damaged_bytes_are_read_or_have_a_reason(tmp_path):
    generator = np.random.default_rng(0)
    reasons = []
    for file_format in FORMATS:
        original = np.frombuffer(truncated(file_format, 1), "uint8")
        for i in range(40):
            content = original.copy()
            # Half of the damage is in the first bytes, where the structure is.
            places = generator.integers(0, 100 if i % 2 else len(content), 5)
            content[places] = generator.integers(0, 256, 5)
            (tmp_path / "a").write_bytes(content.tobytes())
            with decoding():
                try:
                    pixels = pixels_of(tmp_path / "a")
                except Exception as error:
                    reasons.append(why_unreadable(error))
                else:
                    assert pixels.shape == (SIZE, SIZE, 3)
    assert 20 < len(reasons) < 220
    assert all(reason.strip() and reason.isprintable() for reason in reasons)


# Geometry


@pytest.mark.parametrize(("width", "height"), [(96, 32), (32, 96), (300, 100), (100, 300)])
def test_centre_square(width, height):
    image = solid(RED, (width, height))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste(BLUE, (left, top, left + side, top + side))
    # Filtering takes in a little of what is cut off, at the edge.
    assert (square(image, SIZE)[1:-1, 1:-1] == BLUE).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_tiny_images(size):
    assert (square(solid(RED, size), SIZE) == RED).all()


def test_resizing_is_bilinear_and_antialiased():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 50, 3), "uint8"))
    expected = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(0, 10, 50, 60))
    np.testing.assert_array_equal(square(image, SIZE), np.asarray(expected))
    stripes = np.zeros((512, 512), "uint8")
    stripes[:, ::2] = 255
    np.testing.assert_allclose(square(Image.fromarray(stripes), SIZE), 127, atol=4)


@pytest.mark.parametrize("scale", [1, 3])
def test_large_photo_is_decoded_as_well_as_whole(tmp_path, scale):
    photo = Image.fromarray(pytest.importorskip("skimage.data").chelsea())
    photo = photo.resize((450 * scale, 300 * scale))
    path = save(tmp_path / "a.jpg", photo, "JPEG", quality=95)
    expected = ImageOps.fit(photo, (64, 64), method=Image.Resampling.BILINEAR)
    difference = pixels_of(path, 64).astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).mean() < 2
    assert open_image(path).size == photo.size
    assert open_image(path, draft_size=128).height in (150, 225)


def test_arrays_are_cut_to_their_centre_and_kept_at_their_size():
    x = np.zeros((1, 32, 96, 3), "uint8")
    x[:, :, 32:64] = RED
    assert (resize_arrays(x, 1.0, SIZE) == RED).all()
    x = np.random.default_rng(0).integers(0, 256, (600, SIZE, SIZE, 3), "uint8")
    np.testing.assert_array_equal(resize_arrays(x, 1.0, SIZE), x)
