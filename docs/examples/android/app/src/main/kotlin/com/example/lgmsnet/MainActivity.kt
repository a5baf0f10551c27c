package com.example.lgmsnet

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.ImageDecoder
import android.graphics.Paint
import android.net.Uri
import android.os.Bundle
import android.os.SystemClock
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import androidx.activity.result.contract.ActivityResultContracts.TakePicture
import androidx.core.content.FileProvider
import java.io.File
import java.util.concurrent.Executors

/** Takes or picks a picture and shows what the network finds in it. */
class MainActivity : ComponentActivity() {
    // Decoding and the network take longer than a screen may stand still.
    private val worker = Executors.newSingleThreadExecutor()
    private val segmenter = lazy { Segmenter(assets) } // made and used on the worker only

    private val photo by lazy {
        FileProvider.getUriForFile(this, "$packageName.pictures", File(cacheDir, "photo.jpg"))
    }
    private val camera = registerForActivityResult(TakePicture()) { taken -> if (taken) show(photo) }
    private val gallery = registerForActivityResult(PickVisualMedia()) { it?.let(::show) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        findViewById<Button>(R.id.camera).setOnClickListener { camera.launch(photo) }
        findViewById<Button>(R.id.gallery).setOnClickListener {
            gallery.launch(PickVisualMediaRequest(PickVisualMedia.ImageOnly))
        }
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { if (segmenter.isInitialized()) segmenter.value.close() }
        worker.shutdown()
    }

    private fun show(uri: Uri) {
        val status = findViewById<TextView>(R.id.status)
        status.setText(R.string.working)
        worker.execute {
            val result = runCatching { segment(uri) }
            runOnUiThread {
                result.onSuccess { (picture, words) ->
                    findViewById<ImageView>(R.id.picture).setImageBitmap(picture)
                    status.text = words
                }.onFailure { status.text = it.toString() }
            }
        }
    }

    /** Returns a picture, the lesion tinted, and what was found in words. */
    private fun segment(uri: Uri): Pair<Bitmap, String> {
        val picture = decode(uri)
        val start = SystemClock.elapsedRealtime()
        val mask = segmenter.value.segment(picture)
        val milliseconds = SystemClock.elapsedRealtime() - start
        // For comparing it with the desktop's.
        openFileOutput("mask.png", MODE_PRIVATE).use {
            mask.compress(Bitmap.CompressFormat.PNG, 100, it)
        }
        Canvas(picture).drawBitmap(mask, 0f, 0f, Paint().apply { alpha = 90 })
        return picture to getString(R.string.done, 100 * share(mask), milliseconds)
    }

    /** Returns a picture upright, as its EXIF orientation says, and at most 4096 pixels a side. */
    private fun decode(uri: Uri): Bitmap {
        val source = ImageDecoder.createSource(contentResolver, uri)
        return ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
            decoder.isMutableRequired = true // to draw on, and so in memory whose pixels can be read
            decoder.setTargetSampleSize((maxOf(info.size.width, info.size.height) + 4095) / 4096)
        }
    }

    /** Returns the lesion's pixels in all pixels. */
    private fun share(mask: Bitmap): Double {
        val row = IntArray(mask.width)
        var count = 0
        for (y in 0 until mask.height) {
            mask.getPixels(row, 0, mask.width, 0, y, mask.width, 1)
            count += row.count { it != 0 }
        }
        return count.toDouble() / mask.width / mask.height
    }
}
