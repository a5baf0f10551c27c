"""Generated ultrasound-like images: the whole way from training to a report, in minutes.

    lgms-train recipes/quickstart.py

Hardware: 2 CPU cores.
Time: 4 minutes on TensorFlow, the installation included; twice that on a busy machine.
Expected: validation IoU 0.70 to 0.75, F1 0.78 to 0.82, from three runs.

The published learning rate is meant for tens of thousands of steps; these few hundred want more.
"""

from keras_lgmsnet.recipe import Data, Recipe, Training

recipe = Recipe(
    data=Data(source="synthetic", num_images=160, image_size=(96, 96)),
    training=Training(epochs=16, batch_size=4, learning_rate=0.05),
)
