"""Pictures that show a number, and tones: generation, and recognition after decoding.

A picture is a grid of four by two large cells. Two cells are white and black for reference, six carry the bits of a
number; a bar moves in the strip below, so that consecutive pictures differ.
"""

from __future__ import annotations

import numpy as np
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240
STRIP = 40  # rows below the grid
COLUMNS, ROWS = 4, 2
MAX_NUMBER = 63
WHITE, BLACK = 235, 16  # luma
SAMPLE_RATE = 48000
_CELL_WIDTH, _CELL_HEIGHT = WIDTH // COLUMNS, (HEIGHT - STRIP) // ROWS
_MARGIN = 12  # pixels at a cell's edges that may be blurred


def draw(number: int, step: int) -> VideoFrame:
    """Return a picture that shows a number from 0 to ``MAX_NUMBER``; ``step`` moves the bar."""
    luma = np.full((HEIGHT, WIDTH), 128, dtype=np.uint8)
    for cell, bit in enumerate(_bits(number)):
        row, column = divmod(cell, COLUMNS)
        top, left = row * _CELL_HEIGHT, column * _CELL_WIDTH
        luma[top : top + _CELL_HEIGHT, left : left + _CELL_WIDTH] = WHITE if bit else BLACK
    left = step * 8 % (WIDTH - 32)
    luma[HEIGHT - STRIP :, left : left + 32] = WHITE
    chroma = np.full((HEIGHT // 2, WIDTH), 128, dtype=np.uint8)
    return VideoFrame.from_ndarray(np.vstack((luma, chroma)), format="yuv420p")


def read_number(frame: VideoFrame) -> int | None:
    """Return the number that a picture of any size shows; ``None`` if it is not recognised."""
    luma = frame.to_ndarray(format="gray")
    height, width = luma.shape
    grid_height = height * (HEIGHT - STRIP) // HEIGHT
    cells = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, bottom = row * grid_height // ROWS, (row + 1) * grid_height // ROWS
            left, right = column * width // COLUMNS, (column + 1) * width // COLUMNS
            margin = _MARGIN * width // WIDTH
            cells.append(float(luma[top + margin : bottom - margin, left + margin : right - margin].mean()))
    white, black = cells[0], cells[-1]
    if white - black < 120:
        return None
    bits = [cell > (white + black) / 2 for cell in cells[1:-1]]
    recognised = all(min(abs(cell - white), abs(cell - black)) < 40 for cell in cells)
    return sum(bit << place for place, bit in enumerate(bits)) if recognised else None


def sine_wave(frequency: float, first_sample: int, samples: int) -> AudioFrame:
    """Return ``samples`` samples of a sine wave from ``first_sample`` on, mono, 16 bit."""
    times = (np.arange(samples) + first_sample) / SAMPLE_RATE
    wave = (np.sin(2 * np.pi * frequency * times) * 12000).astype(np.int16)
    frame = AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    return frame


def samples_of(frame: AudioFrame) -> NDArray[np.float64]:
    """Return the samples of a decoded frame's first channel, from -1 to 1."""
    flat = frame.to_ndarray().astype(np.float64).reshape(-1)
    return flat[:: len(frame.layout.channels)] / 32768


def dominant_frequency(samples: NDArray[np.float64], rate: int) -> float | None:
    """Return the frequency in Hz with the most energy; ``None`` for silence."""
    if float(np.sqrt(np.mean(samples**2))) < 0.01:
        return None
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


def _bits(number: int) -> list[bool]:
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"a picture shows a number from 0 to {MAX_NUMBER}")
    return [True, *(bool(number >> place & 1) for place in range(6)), False]
