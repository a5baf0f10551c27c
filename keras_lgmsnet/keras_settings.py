"""The settings of Keras that hold for a whole process, which a user's `keras.json` may change."""

import keras


def require_channels_last() -> None:
    """Raise if Keras's global image data format is not `"channels_last"`."""
    data_format = keras.config.image_data_format()
    if data_format != "channels_last":
        raise ValueError(
            "keras_lgmsnet computes on channels-last inputs only: call "
            "keras.config.set_image_data_format('channels_last'), or change image_data_format in "
            "keras.json. "
            f"Received: image_data_format={data_format!r}"
        )


def ignore_keras_json() -> None:
    """Have Keras compute channels last and in float32, for a process of this package's own.

    A user's `keras.json` may ask for other things, which are meant for the user's programs.
    """
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
