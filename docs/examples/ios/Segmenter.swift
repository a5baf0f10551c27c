import TensorFlowLite
import UIKit

/// Segments pictures by an export: a model of `lgms-export`, for images, in the app's bundle.
///
/// One thread at a time may use it; it takes too long for the main thread.
final class Segmenter {
    private let interpreter: Interpreter
    private let height: Int
    private let width: Int

    init(model: String = "model_float32", bundle: Bundle = .main) throws {
        guard let path = bundle.path(forResource: model, ofType: "tflite") else {
            throw CocoaError(.fileNoSuchFile)
        }
        interpreter = try Interpreter(modelPath: path)
        try interpreter.allocateTensors()
        let shape = try interpreter.input(at: 0).shape.dimensions  // 1, height, width, 3
        (height, width) = (shape[1], shape[2])
    }

    /// Returns a mask of the picture's size, row by row: whether a pixel belongs to a lesion.
    func segment(_ picture: UIImage) throws -> (mask: [Bool], width: Int, height: Int) {
        let pixels = try Pixels(of: picture)
        try interpreter.copy(shrink(pixels), toInputAt: 0)
        try interpreter.invoke()
        let logits = try interpreter.output(at: 0).data.withUnsafeBytes {
            Array($0.bindMemory(to: Float32.self))
        }
        let probabilities = logits.map { 1 / (1 + exp(-$0)) }
        return (enlarge(probabilities, to: pixels), pixels.width, pixels.height)
    }

    /// Returns the picture at the network's size: red, green and blue of each pixel, row by row.
    private func shrink(_ pixels: Pixels) -> Data {
        let columns = (0..<width).map { Place($0, of: width, among: pixels.width) }
        var bytes = Data(capacity: 3 * width * height)
        for y in 0..<height {
            let row = Place(y, of: height, among: pixels.height)
            for column in columns {
                for channel in 0..<3 {
                    func along(_ line: Int) -> Float {
                        column.between(
                            Float(pixels.rgba[4 * (line * pixels.width + column.before) + channel]),
                            Float(pixels.rgba[4 * (line * pixels.width + column.after) + channel]))
                    }
                    bytes.append(UInt8(row.between(along(row.before), along(row.after)).rounded()))
                }
            }
        }
        return bytes
    }

    /// Returns a mask; the probabilities are enlarged, not the mask, for a fine outline.
    private func enlarge(_ probabilities: [Float], to pixels: Pixels) -> [Bool] {
        let columns = (0..<pixels.width).map { Place($0, of: pixels.width, among: width) }
        var mask: [Bool] = []
        mask.reserveCapacity(pixels.width * pixels.height)
        for y in 0..<pixels.height {
            let row = Place(y, of: pixels.height, among: height)
            for column in columns {
                func along(_ line: Int) -> Float {
                    column.between(
                        probabilities[line * width + column.before],
                        probabilities[line * width + column.after])
                }
                mask.append(row.between(along(row.before), along(row.after)) > 0.5)
            }
        }
        return mask
    }
}

/// A picture's pixels, upright: red, green, blue and one byte more of each, row by row.
private struct Pixels {
    let rgba: [UInt8]
    let width: Int
    let height: Int

    init(of picture: UIImage) throws {
        let width = Int(picture.size.width * picture.scale)
        let height = Int(picture.size.height * picture.scale)
        var bytes = [UInt8](repeating: 0, count: 4 * width * height)
        let isDrawn = bytes.withUnsafeMutableBytes { memory -> Bool in
            guard let context = CGContext(
                data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8,
                bytesPerRow: 4 * width, space: CGColorSpace(name: CGColorSpace.sRGB)!,
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.translateBy(x: 0, y: CGFloat(height))
            context.scaleBy(x: 1, y: -1)  // as UIKit draws: from the top
            UIGraphicsPushContext(context)
            picture.draw(in: CGRect(x: 0, y: 0, width: width, height: height))  // turns it upright
            UIGraphicsPopContext()
            return true
        }
        guard isDrawn else { throw CocoaError(.fileReadCorruptFile) }
        (rgba, self.width, self.height) = (bytes, width, height)
    }
}

/// Where a pixel of so many lies among others, centre to centre, as in training.
private struct Place {
    let before: Int
    let after: Int
    private let share: Float

    init(_ index: Int, of count: Int, among others: Int) {
        let exact = (Double(index) + 0.5) * Double(others) / Double(count) - 0.5
        let inside = min(max(exact, 0), Double(others - 1))
        before = Int(inside)
        after = min(before + 1, others - 1)
        share = Float(inside - Double(before))
    }

    func between(_ first: Float, _ second: Float) -> Float {
        first + share * (second - first)
    }
}
