package com.example.lgmsnet

import android.content.res.AssetManager
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import org.json.JSONObject
import kotlin.math.exp
import kotlin.math.min
import kotlin.math.roundToInt

/**
 * Segments pictures by an export: a model of `lgms-export` and its `export.json`, both assets.
 *
 * One thread at a time may use it, any thread.
 */
class Segmenter(assets: AssetManager, model: String = "model_float32.tflite") : AutoCloseable {
    private val height: Int
    private val width: Int

    init {
        val export = JSONObject(assets.open("export.json").bufferedReader().use { it.readText() })
        val input = export.getJSONObject("input")
        check(
            input.optJSONObject("resize")?.getString("interpolation") == "linear" &&
                export.getJSONObject("output").getString("name") == "logits"
        ) { "The export must be of a run on images, resized linearly, and without activation." }
        val shape = input.getJSONArray("shape") // batch, height, width, 3
        height = shape.getInt(1)
        width = shape.getInt(2)
    }

    private val compiled =
        CompiledModel.create(assets, model, CompiledModel.Options(Accelerator.CPU))
    private val inputs = compiled.createInputBuffers()
    private val outputs = compiled.createOutputBuffers()

    /** Returns a mask of the picture's size: opaque where there is a lesion, else transparent. */
    fun segment(picture: Bitmap): Bitmap {
        inputs[0].writeInt8(shrink(picture))
        compiled.run(inputs, outputs)
        val logits = outputs[0].readFloat()
        val probabilities = FloatArray(logits.size) { 1 / (1 + exp(-logits[it])) }
        return enlarge(probabilities, picture.width, picture.height)
    }

    /** Returns the picture at the network's size: red, green and blue of each pixel, row by row. */
    private fun shrink(picture: Bitmap): ByteArray {
        val columns = List(width) { Place(it, width, picture.width) }
        val above = IntArray(picture.width)
        val below = IntArray(picture.width)
        val bytes = ByteArray(3 * width * height)
        var index = 0
        for (y in 0 until height) {
            val row = Place(y, height, picture.height)
            picture.getPixels(above, 0, picture.width, 0, row.before, picture.width, 1)
            picture.getPixels(below, 0, picture.width, 0, row.after, picture.width, 1)
            for (column in columns) {
                for (shift in 16 downTo 0 step 8) {
                    fun along(pixels: IntArray) = column.between(
                        (pixels[column.before] shr shift and 0xff).toFloat(),
                        (pixels[column.after] shr shift and 0xff).toFloat(),
                    )
                    bytes[index++] = row.between(along(above), along(below)).roundToInt().toByte()
                }
            }
        }
        return bytes
    }

    /** Returns a mask of a size; the probabilities are enlarged, not the mask, for a fine outline. */
    private fun enlarge(probabilities: FloatArray, toWidth: Int, toHeight: Int): Bitmap {
        val mask = Bitmap.createBitmap(toWidth, toHeight, Bitmap.Config.ARGB_8888)
        val columns = List(toWidth) { Place(it, toWidth, width) }
        val pixels = IntArray(toWidth)
        for (y in 0 until toHeight) {
            val row = Place(y, toHeight, height)
            for ((x, column) in columns.withIndex()) {
                fun along(line: Int) = column.between(
                    probabilities[line * width + column.before],
                    probabilities[line * width + column.after],
                )
                val probability = row.between(along(row.before), along(row.after))
                pixels[x] = if (probability > 0.5f) LESION else 0
            }
            mask.setPixels(pixels, 0, toWidth, 0, y, toWidth, 1)
        }
        return mask
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        compiled.close()
    }

    companion object {
        const val LESION = 0xffffb300.toInt()
    }
}

/** Where the [index]th of [count] pixels lies among [others], centre to centre, as in training. */
private class Place(index: Int, count: Int, others: Int) {
    private val exact = ((index + 0.5) * others / count - 0.5).coerceIn(0.0, others - 1.0)
    val before = exact.toInt()
    val after = min(before + 1, others - 1)
    private val share = (exact - before).toFloat()

    fun between(first: Float, second: Float) = first + share * (second - first)
}
